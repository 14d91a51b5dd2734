#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes one network-config (version 2) for the seeds of guests with different network managers.
#
# A block of "ethernets" has a name, and may have "match" to find the card. cloud-init's documentation says that with match
# the name serves only for references. That holds where netplan is installed, because cloud-init copies the file for it. Where
# it is not, cloud-init 25.1.4 (Debian 13) translates the same file itself, and takes the block's name for the card's name. For
# systemd-networkd it writes it beside the driver or the address, and all lines of a [Match] must fit. For ifupdown and
# NetworkManager it drops a match by name or by driver. No card is called "uplink", so the guest has no network. With the
# address, NetworkManager finds the card. The schema calls all three files valid, and net-convert, which runs the
# code that writes the guest's files, ends with 0. With set-name beside the address all find the card.
#
# Observed output of this script:
#   name: "en*": schema 0, netplan en*; networkd Name=uplink; eni iface uplink; network-manager interface-name=uplink
#   driver: virtio_net: schema 0, netplan virtio_net; networkd Driver=virtio_net Name=uplink; eni iface uplink; network-manager interface-name=uplink
#   macaddress: "52:54:00:00:00:01": schema 0, netplan 52:54:00:00:00:01; networkd MACAddress=52:54:00:00:00:01 Name=uplink; eni iface uplink; network-manager mac-address=52:54:00:00:00:01
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir -p apt/{lists,archives}/partial root
touch apt/status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >apt/sources
apt=(-q -o Dir::State="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" -o APT::Architecture=amd64
	-o Dir::Etc::SourceList="$dir/apt/sources" -o Dir::Etc::SourceParts=- -o Dir::Etc::PreferencesParts=-)
apt-get "${apt[@]}" update >/dev/null 2>&1
apt-get "${apt[@]}" download cloud-init=25.1.4-1+deb13u1 >/dev/null 2>&1
dpkg -x ./*.deb root
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check configobj==5.0.9 jinja2==3.1.6 jsonpatch==1.48 jsonschema==4.26.0 oauthlib==4.0.1 \
	pyserial==3.5 pyyaml==6.0.4 requests==2.34.2
export PYTHONPATH=$dir/root/usr/lib/python3/dist-packages
cloud_init() { venv/bin/python -m cloudinit.cmd.main "$@" >>said 2>&1; }
convert() { # KIND
	rm -rf out
	cloud_init devel net-convert -p network-config -k yaml -d out -D debian -O "$1" || { cat said >&2; exit 1; }
}
lines() { find out -type f ! -path '*/conf.d/*' -exec sed -nE "$1" {} + | sort | paste -s -d ' '; } # SED: what it prints of the files
found=$(
	for match in 'name: "en*"' 'driver: virtio_net' 'macaddress: "52:54:00:00:00:01"'; do
		printf 'network:\n  version: 2\n  ethernets:\n    uplink:\n      match:\n        %s\n      dhcp4: true\n' "$match" >network-config
		schema=0
		cloud_init schema -c network-config --schema-type network-config || schema=$?
		printf '%s: schema %s' "$match" $schema
		convert netplan
		printf ', netplan %s' "$(lines "s/^ *${match%%:*}: '?([^']*)'?/\1/p")"
		convert networkd
		printf '; networkd %s' "$(lines '/^(Name|Driver|MACAddress)=/p')"
		convert eni
		printf '; eni %s' "$(lines 's/^(iface u[a-z]*).*/\1/p')"
		convert network-manager
		printf '; network-manager %s\n' "$(lines '/^(interface-name|mac-address)=/p')"
	done
)
echo "$found"
[ "$found" = 'name: "en*": schema 0, netplan en*; networkd Name=uplink; eni iface uplink; network-manager interface-name=uplink
driver: virtio_net: schema 0, netplan virtio_net; networkd Driver=virtio_net Name=uplink; eni iface uplink; network-manager interface-name=uplink
macaddress: "52:54:00:00:00:01": schema 0, netplan 52:54:00:00:00:01; networkd MACAddress=52:54:00:00:00:01 Name=uplink; eni iface uplink; network-manager mac-address=52:54:00:00:00:01' ]
