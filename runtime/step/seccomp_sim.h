/* SPDX-License-Identifier: Apache-2.0 */
/* What a system call filter would answer, found out without loading it. Private to step/. */
#pragma once
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Returns SECCOMP_RET_*, with its data, as the kernel would for this call. A program that the
 * kernel would not take gives SECCOMP_RET_KILL_PROCESS.
 */
uint32_t seccomp_simulate(
	const struct sock_filter *program, size_t n, const struct seccomp_data *call);

/* AUDIT_ARCH_* of this process, or 0 if this file does not know the machine. */
uint32_t seccomp_native_arch(void);
