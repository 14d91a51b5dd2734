#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever tests by `strace -e inject=CALL:error=E` how a program with a seccomp filter takes an I/O error.
#
# strace 6.1 injects an error by giving the system call the number -1. The kernel runs the filter after the tracer, so the
# filter sees -1, which no allow-list has: with SCMP_ACT_KILL_PROCESS as the default the program is killed by SIGSYS at its
# fsync(2), which its filter allows, and inject=CALL:retval=0 kills it too. The test then sees a crash, and not the way in
# which the program takes the error. With SCMP_ACT_ERRNO the program gets the injected error, so that the same test passes
# while a filter is developed in that mode. ":syscall=getpid", a call that the filter allows and that does nothing, is
# passed to the kernel in place of -1, and the program gets the error in both modes.
#
# Needs gcc.
#
# Observed output of this script:
#   default errno: error=EDQUOT: fsync: EDQUOT; retval=0: fsync: done; error=EDQUOT:syscall=getpid: fsync: EDQUOT
#   default kill: error=EDQUOT: exit 159; retval=0: exit 159; error=EDQUOT:syscall=getpid: fsync: EDQUOT
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q strace=6.1-0.1 libunwind8=1.6.2-3 libseccomp-dev=2.5.4-1+deb12u1 libseccomp2=2.5.4-1+deb12u1 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
lib=$dir/root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH=$lib:$dir/root/lib/x86_64-linux-gnu
cat >program.c <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *allowed[] = {"fsync", "write", "getpid", "exit_group", "fstat", "newfstatat"};
	scmp_filter_ctx c = seccomp_init(
		argc > 1 && strcmp(argv[1], "kill") == 0 ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM));

	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
		if (seccomp_rule_add(c, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(allowed[i]), 0) < 0)
			return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	if (seccomp_load(c) < 0)
		return 3;
	printf("fsync: %s", fsync(1) < 0 ? strerrorname_np(errno) : "done");
	_exit(0);
}
C
gcc -I root/usr/include -o program program.c -L "$lib" -lseccomp
fault() {
	local rc=0
	printf '%s: ' "$2"
	root/usr/bin/strace -o trace -e "inject=fsync:$2" ./program "$1" >out 2>/dev/null || rc=$?
	cat out
	[ "$rc" = 0 ] || printf 'exit %s' "$rc"
}
found=$(for mode in errno kill; do
	echo "default $mode: $(fault $mode error=EDQUOT 2>/dev/null); $(fault $mode retval=0 2>/dev/null); $(
		fault $mode error=EDQUOT:syscall=getpid 2>/dev/null)"
done)
echo "$found"
[ "$found" = 'default errno: error=EDQUOT: fsync: EDQUOT; retval=0: fsync: done; error=EDQUOT:syscall=getpid: fsync: EDQUOT
default kill: error=EDQUOT: exit 159; retval=0: exit 159; error=EDQUOT:syscall=getpid: fsync: EDQUOT' ]
