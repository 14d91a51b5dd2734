/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds out which isolation modes this host can run, and for each mode that it cannot run: why, and
 * what to do.
 *
 * 	doctor_examine(&arena, &d);
 * 	for (i = 0; i < d.n; i++)
 * 		... d.v[i].mode, .name, .verdict, .text
 *
 * The examination leaves nothing behind: namespaces are tried in a child process that ends. The
 * only program that the examination starts is `qemu-system-x86_64 -version`. The strings in `d`
 * live in the arena.
 *
 * To add a check: a function in ns.c or vm.c that calls doctor_report(), and its call in
 * doctor_ns(), doctor_kvm() or doctor_qemu().
 */
#pragma once
#include "base/arena.h"

enum doctor_mode {
	DOCTOR_NS,   /* the mode `--isolation ns`: namespaces */
	DOCTOR_KVM,  /* the mode `--isolation vm` on /dev/kvm */
	DOCTOR_QEMU, /* the mode `--isolation vm` on QEMU in software */
	DOCTOR_MODES,
};

enum doctor_verdict {
	DOCTOR_OK,
	DOCTOR_WARNING, /* the mode works, except for what the text says */
	DOCTOR_NO,      /* the mode does not work */
};

struct doctor_check {
	enum doctor_mode mode;
	enum doctor_verdict verdict;
	const char
		/*
		 * name of the check in one word, such as "kernel"; no other check of the same mode
		 * has the same name
		 */
		*name;
	/* one line that says what the check found, and for a warning or a "no" also what to do */
	const char *text;
};

#define DOCTOR_MAX_CHECKS 48

struct doctor {
	struct doctor_check v[DOCTOR_MAX_CHECKS]; /* the results, in the order of modes */
	size_t n;
	/* whether each mode works, which it does if none of its checks has the verdict "no" */
	bool runs[DOCTOR_MODES];
};

/* Does all checks of this host. Returns an error only if memory runs out. */
int doctor_examine(struct arena *a, struct doctor *ret) must_check;

const char *doctor_verdict_name(enum doctor_verdict v); /* Returns "ok", "warning" or "no". */

/* --- declarations that only the files of doctor/ use --- */

struct doctor_ctx {
	struct arena *arena;
	struct doctor *d;
	enum doctor_mode mode;
};

/* Adds the result of a check to those of doctor_examine(). name must be a string constant. */
int doctor_report(struct doctor_ctx *c, enum doctor_verdict v, const char *name, const char *fmt,
	...) must_check printf_like(4, 5);

/*
 * Looks for a program in $PATH. *ret is the program's path, in the arena, or NULL if $PATH has no
 * such program.
 */
int doctor_find_program(struct arena *a, const char *name, const char **ret) must_check;

/*
 * Says whether a Linux kernel has the fix of CVE-2026-53359, by which a guest that runs guests
 * could get out to the host. release is from uname -r. version is from uname -v, where Debian's
 * kernels name the release that they are made from. *ret_fix is the release of the kernel's series
 * that has the fix, or of the next series that does.
 */
bool doctor_nested_fixed(const char *release, const char *version, const char **ret_fix);

/*
 * Checks which ids an ordinary user can map in a user namespace and, for the modes of microVMs,
 * whether the user can have a user namespace at all.
 */
int doctor_rootless(struct doctor_ctx *c) must_check;
int doctor_ns(struct doctor_ctx *c) must_check;
int doctor_kvm(struct doctor_ctx *c) must_check;
int doctor_qemu(struct doctor_ctx *c) must_check;
int doctor_nested(struct doctor_ctx *c) must_check;
