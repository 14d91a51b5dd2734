/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles seccomp profiles and simulates the compiled programs to see what they decide. */
#pragma once
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include "spec/spec.h"

#define EPERM_DEFAULT SCMP_ACT_ERRNO(EPERM)
#define NAMES(...) \
	{ \
		(const char *const[]){__VA_ARGS__, NULL}, \
			sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) \
	}
#define PROFILE(action, list) \
	{ \
		.default_action = (action), .rules = (list), .nrules = ARRAY_SIZE(list) \
	}

struct program {
	struct sock_filter f[BPF_MAXINSNS];
	size_t n;
};

void read_program(int fd, struct program *ret);

void compile_profile(const struct spec_seccomp *s, struct program *ret);

/* Returns what the program decides about system call `nr` of the architecture. args may be NULL. */
uint32_t run_program(const struct program *p, uint32_t arch, int nr, const uint64_t args[6]);

/*
 * Returns what the program decides about a system call of this machine's architecture whose first
 * argument is arg0.
 */
uint32_t decision(const struct program *p, const char *name, uint64_t arg0);
