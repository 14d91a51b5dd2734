# SPDX-License-Identifier: Apache-2.0
# The test scripts source this file. `need pkg ...` installs the Debian packages that are missing, with one apt-get
# update in each run (also across the scripts of one run, by CAISSON_APT_UPDATED).
# shellcheck shell=bash

need() {
	local missing=() p
	for p in "$@"; do
		# "install ok installed" is the only state in which the package's files are there.
		dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q '^install ok installed$' ||
			missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "packages: missing, and only root can install them: ${missing[*]}" >&2
		return 1
	fi
	echo "packages: installing ${missing[*]}"
	if [ -z "${CAISSON_APT_UPDATED-}" ]; then
		apt_quiet update || return 1
		export CAISSON_APT_UPDATED=1
	fi
	apt_quiet install -y --no-install-recommends "${missing[@]}"
}

# Runs apt-get without questions; its output is shown only if it fails.
apt_quiet() {
	local out
	if ! out=$(DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 "$@" </dev/null 2>&1); then
		printf '%s\n' "$out" >&2
		echo "packages: apt-get $* failed" >&2
		return 1
	fi
}
