/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that build a plan share: a growing array of steps, and the functions that append
 * to it. plan.c (create) and exec.c (exec) call them in the order in which the steps are walked.
 *
 * A function here that runs out of memory sets b->failed and goes on; plan_build() and
 * plan_build_exec() return b->failed at the end. Private to plan/.
 */
#pragma once
#include "plan/plan.h"

struct builder {
	struct arena *arena;
	const struct spec *spec;
	const struct plan_env *env; /* NULL for an exec */
	struct step *steps;
	size_t n, cap;
	int nslots;
	bool userns;       /* the process is in another user namespace than the runtime */
	bool no_mknod;     /* device nodes are bound from the host, because mknod(2) is refused */
	bool dev_is_bound; /* /dev is a bind mount, so no device node is made in it */
	int failed;        /* -errno, or 0 */
};

/* builder.c: one step. The pointer is valid until the next step is added. */
struct step *builder_add_step(
	struct builder *b, enum step_kind kind, enum step_place place, const char *field);
void builder_add_text(struct builder *b, enum step_kind kind, const char *field, const char *text);
void builder_add_process(
	struct builder *b, enum step_kind kind, const char *field, const struct spec_process *p);
void builder_add_barrier(struct builder *b, enum step_place place, const char *name);

/* The name of an array's element in messages: "mounts[3]". */
const char *builder_field(struct builder *b, const char *array, size_t i);

/* mounts.c: the root file system, what is mounted in it, and its device nodes. */
int builder_check_mounts(const struct builder *b) must_check;
void builder_decide_devices(struct builder *b);
void builder_add_notify_dir(struct builder *b);
/* Opens the root and all sources. Returns the slot of the root; the sources' slots follow it. */
int builder_add_opens(struct builder *b);
void builder_add_mounts(struct builder *b, int root_slot);

/* process.c: what the process of a create and that of an exec have in common. */
void builder_add_mapped_root(struct builder *b);
void builder_add_oom_score(struct builder *b, const struct spec_process *p);
void builder_add_host_rlimits(struct builder *b, const struct spec_process *p);
void builder_add_attributes(struct builder *b, const struct spec_process *p);
/* Returns the slot of the compiled filter, or -1 if there is no linux.seccomp. */
int builder_add_seccomp_compile(struct builder *b);
void builder_add_seccomp(struct builder *b, const struct spec_process *p, int seccomp_slot);
