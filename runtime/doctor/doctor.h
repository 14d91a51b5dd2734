/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which isolation modes this host can run, and for each no: why, and what to do.
 *
 *	doctor_examine(&arena, &d);
 *	for (i = 0; i < d.n; i++)
 *		... d.v[i].mode, .name, .verdict, .text
 *
 * The examination leaves nothing behind: namespaces are tried in a child process that ends. The
 * only program that it starts is `qemu-system-x86_64 -version`. Strings live in the arena.
 *
 * To add a check: a function in ns.c or vm.c that calls doctor_report(), and its call in
 * doctor_ns(), doctor_kvm() or doctor_qemu().
 */
#pragma once
#include "base/arena.h"

enum doctor_mode {
	DOCTOR_NS,   /* --isolation ns */
	DOCTOR_KVM,  /* --isolation vm, on /dev/kvm */
	DOCTOR_QEMU, /* --isolation vm, on QEMU in software */
	DOCTOR_MODES,
};

enum doctor_verdict {
	DOCTOR_OK,
	DOCTOR_WARNING, /* the mode runs, except for what the text says */
	DOCTOR_NO,      /* the mode does not run */
};

struct doctor_check {
	enum doctor_mode mode;
	enum doctor_verdict verdict;
	const char
		*name; /* "kernel", "cgroup", ...: one word, different for each check of a mode */
	const char *text; /* one line: what was found, and after a warning or a no what to do */
};

#define DOCTOR_MAX_CHECKS 48

struct doctor {
	struct doctor_check v[DOCTOR_MAX_CHECKS]; /* in the order of modes */
	size_t n;
	bool runs[DOCTOR_MODES]; /* the mode has no check that is a no */
};

/* Fails only if memory runs out. */
int doctor_examine(struct arena *a, struct doctor *ret) must_check;

const char *doctor_verdict_name(enum doctor_verdict v); /* "ok", "warning", "no" */

/* --- shared by the files of doctor/ --- */

struct doctor_ctx {
	struct arena *arena;
	struct doctor *d;
	enum doctor_mode mode;
};

/* Adds a check's result. name must be a constant. */
int doctor_report(struct doctor_ctx *c, enum doctor_verdict v, const char *name, const char *fmt,
	...) must_check printf_like(4, 5);

/* Looks for a program in $PATH. *ret: its path, in the arena, or NULL. */
int doctor_find_program(struct arena *a, const char *name, const char **ret) must_check;

/*
 * Whether Linux of this release (uname -r) and version (uname -v, where Debian's kernels name the
 * release that they are made from) has the fix of CVE-2026-53359: a guest that runs guests could
 * get out to the host. *ret_fix: the release of its series that has it, or of the next series.
 */
bool doctor_nested_fixed(const char *release, const char *version, const char **ret_fix);

int doctor_ns(struct doctor_ctx *c) must_check;
int doctor_kvm(struct doctor_ctx *c) must_check;
int doctor_qemu(struct doctor_ctx *c) must_check;
int doctor_nested(struct doctor_ctx *c) must_check;
