#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes qcow2 images that are encrypted with LUKS, and allocates them ahead or shares their data file.
#
# A new qcow2 disk reads as zeros, also with preallocation=metadata, because the new clusters of the file are zeros. With
# encrypt.format=luks QEMU 7.2 (Debian 12) takes the same option, and decrypts these zeros: the new disk reads as noise, which
# differs in each image, and `map` calls it data. A tool that only writes what is not zero (mkfs, dd conv=sparse) then leaves
# noise where it expects zeros. In the same way data_file_raw=on is taken, which promises a data file that can be read as a
# raw image; the file has the ciphertext. `qemu-img check` finds no error in either image.
#
# Creating such an image can fail on a busy machine with "Unable to get accurate CPU usage", because QEMU measures its
# own CPU time to choose the iterations, also with the smallest iter-time; so the script tries again.
#
# Observed output of this script:
#   plain, preallocation=metadata: reads as zeros, check 0
#   luks: reads as zeros, check 0
#   luks, preallocation=metadata: reads as noise, check 0
#   luks, data_file_raw=on, written with 'A': disk 41 41 41 41, data file is not, check 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
dpkg -x ./*.deb root
# The libraries of qemu-img are those of any Debian 12 that has qemu-utils' dependencies.
bin=$dir/root/usr/bin
printf 'a passphrase' >key
secret=(--object "secret,id=k,file=key")
luks=encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10

create() { # NAME OPTIONS
	local try
	for try in {1..20}; do
		"$bin/qemu-img" create -q "${secret[@]}" -f qcow2 -o "$2" "$1" 1M 2>error && return
	done
	cat error >&2
	return 1
}

options() { # NAME [encrypted]: how to open the image
	echo "driver=qcow2,file.filename=$1${2:+,encrypt.key-secret=k}"
}

report() { # NAME [encrypted]
	local check=0 what=noise
	"$bin/qemu-img" convert "${secret[@]}" --image-opts "$(options "$@")" -O raw "$1.raw"
	cmp -s "$1.raw" <(head -c 1M /dev/zero) && what=zeros
	"$bin/qemu-img" check -q "${secret[@]}" --image-opts "$(options "$@")" || check=$?
	echo "reads as $what, check $check"
}

create plain preallocation=metadata
create sparse "$luks"
create ahead "$luks,preallocation=metadata"
create shared "$luks,data_file=data.raw,data_file_raw=on"
"$bin/qemu-io" "${secret[@]}" --image-opts "$(options shared encrypted)" -c 'write -P 65 0 1M' >/dev/null
shared=$(report shared encrypted)
found="plain, preallocation=metadata: $(report plain)
luks: $(report sparse encrypted)
luks, preallocation=metadata: $(report ahead encrypted)
luks, data_file_raw=on, written with 'A': disk$(head -c 4 shared.raw | od -An -tx1), \
data file $(cmp -s data.raw shared.raw && echo is the same || echo is not), check ${shared##* }"
echo "$found"
[ "$found" = "plain, preallocation=metadata: reads as zeros, check 0
luks: reads as zeros, check 0
luks, preallocation=metadata: reads as noise, check 0
luks, data_file_raw=on, written with 'A': disk 41 41 41 41, data file is not, check 0" ]
