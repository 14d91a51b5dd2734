# SPDX-License-Identifier: Apache-2.0
# Sourced by the test scripts.
# shellcheck shell=bash

# The program in a build directory, where meson puts it.
caisson_in() { # BUILD
	local p
	for p in "$1/caisson" "$1/runtime/caisson"; do
		[ -x "$p" ] && { echo "$p"; return 0; }
	done
	echo "no caisson in $1: the build did not make it" >&2
	return 1
}
