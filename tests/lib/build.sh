# SPDX-License-Identifier: Apache-2.0
# The test scripts source this file.
# shellcheck shell=bash

# Prints the path of caisson in a build directory.
caisson_in() { # BUILD
	local p
	for p in "$1/caisson" "$1/runtime/caisson"; do
		[ -x "$p" ] && { echo "$p"; return 0; }
	done
	echo "no caisson in $1: the build did not make it" >&2
	return 1
}
