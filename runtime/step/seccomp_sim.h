/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds out what a system call filter would answer to a system call, without loading the filter.
 * Only the files in step/ use this header.
 */
#pragma once
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Returns the answer of the filter to a system call, as the kernel would compute it: SECCOMP_RET_*
 * with its data. Returns SECCOMP_RET_KILL_PROCESS if the kernel would reject the filter.
 */
uint32_t seccomp_simulate(
	const struct sock_filter *program, size_t n, const struct seccomp_data *call);

/*
 * Returns the AUDIT_ARCH_* constant of this process, or 0 if seccomp_sim.c does not know the
 * machine.
 */
uint32_t seccomp_native_arch(void);
