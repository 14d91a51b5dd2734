#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever confines a process by seccomp, and lets it print errors by dprintf(3).
#
# dprintf() writes to a descriptor and has no buffer to keep, so one expects write(2) and nothing else. In glibc 2.36
# (Debian 12) it makes a stream for each call, and a stream asks a character device by ioctl(TCGETS) whether it is a
# terminal. A pipe, a file and a socket are not asked. So a filter that allows write(2) and no ioctl(2) passes all tests whose
# standard error is captured, and the first message of a service whose standard error is /dev/null ends it by SIGSYS.
# glibc 2.41 (Debian 13) prints without a stream, and does not ask.
#
# Needs gcc.
#
# Observed output of this script:
#   glibc 2.36: pipe: exit 0, file: exit 0, /dev/null: signal SYS
#   glibc 2.41: pipe: exit 0, file: exit 0, /dev/null: exit 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q libc6=2.36-9+deb12u14 >/dev/null 2>&1
python3 - <<'END'
import urllib.request
url = "http://deb.debian.org/debian/pool/main/g/glibc/libc6_2.41-12+deb13u5_amd64.deb"
open("new.deb", "wb").write(urllib.request.urlopen(url, timeout=60).read())
END
dpkg -x libc6_2.36*.deb 2.36
dpkg -x new.deb 2.41
cat >print.c <<'END'
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* All system calls are allowed but ioctl(2), which ends the process. */
int main(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {4, f};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		return 2;
	return dprintf(2, "message\n") == 8 ? 0 : 1;
}
END
gcc -o print print.c
end() { # STATUS: how the program ended
	[ "$1" -le 128 ] && echo "exit $1" || echo "signal $(kill -l "$1")"
}
found=$(
	for version in 2.36 2.41; do
		lib=$(find $version -name libc.so.6 -printf '%h')
		loader=$(find $version -name 'ld-linux-x86-64.so.2' -type f)
		run() { "$PWD/$loader" --library-path "$lib" ./print; }
		{ run 2>&1 | cat >/dev/null; } 2>/dev/null && pipe=0 || pipe=${PIPESTATUS[0]}
		file=0
		run 2>out || file=$?
		null=0
		{ run 2>/dev/null || null=$?; } 2>/dev/null
		echo "glibc $version: pipe: $(end $pipe), file: $(end $file), /dev/null: $(end $null)"
	done
)
echo "$found"
[ "$found" = "glibc 2.36: pipe: exit 0, file: exit 0, /dev/null: signal SYS
glibc 2.41: pipe: exit 0, file: exit 0, /dev/null: exit 0" ]
