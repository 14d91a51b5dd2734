# SPDX-License-Identifier: Apache-2.0
# The test scripts source this file. `need pkg ...` installs the Debian packages that are missing, with one apt-get
# update in each run (also across the scripts of one run, by CAISSON_APT_UPDATED).
# `kernel_unpack` unpacks the package of a Debian kernel, and `kernel_elf` the kernel itself.
# shellcheck shell=bash

# What a build with all its programs and tests needs. README.md lists these packages too.
# shellcheck disable=SC2034
build_packages=(gcc libc6-dev meson ninja-build pkg-config libseccomp-dev libcap-dev libyajl-dev libmnl-dev
	libsystemd-dev libcmocka-dev scdoc musl-tools zlib1g-dev libzstd-dev libssl-dev libisal-dev libarchive-dev
	libnftables-dev libcurl4-openssl-dev libyaml-dev)

# Debian 12 has docker's client in docker.io, and later releases in a package of its own.
# shellcheck disable=SC2034
docker_packages=(docker.io)
# Debian 12's clang-format is the version that lays the source out, and lib/clang-format gets it elsewhere by pip.
# shellcheck disable=SC2034
format_packages=(clang-format)
if [ "$(. /etc/os-release && echo "$VERSION_CODENAME")" != bookworm ]; then
	docker_packages+=(docker-cli)
	format_packages=(python3-pip)
fi

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

# kernel_unpack DEB DIR: unpacks the package of a Debian kernel, makes modules.dep, and prints the kernel's release. The
# modules are in DIR/lib/modules. Debian 12's packages have them there too, but Debian 13's have them in usr/lib/modules.
kernel_unpack() {
	dpkg -x "$1" "$2" && mkdir -p "$2/lib" "$2/usr/lib" || return 1
	[ ! -d "$2/usr/lib/modules" ] || mv "$2/usr/lib/modules" "$2/lib/modules" || return 1
	# Which of the two directories depmod reads was decided when it was built.
	ln -s ../../lib/modules "$2/usr/lib/modules" && depmod -b "$2" "$(ls "$2/lib/modules")" && ls "$2/lib/modules"
}

# kernel_elf VMLINUZ OUT: writes the ELF kernel that a bzImage carries. Debian 12 packs its kernels by xz or LZ4, Debian
# 13 by zstd too.
kernel_elf() {
	need lz4 zstd >&2 && python3 "$(dirname "${BASH_SOURCE[0]}")/../host/unpack_kernel.py" "$@"
}
