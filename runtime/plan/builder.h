/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing array of steps, and functions that append to the array, for the files that build a
 * plan. plan.c (for create) and exec.c (for exec) call these functions in the order in which the
 * steps will be done.
 *
 * If memory runs out, the functions here set b->failed and go on; plan_build() and
 * plan_build_exec() return b->failed at the end. Only the files of plan/ include this header.
 */
#pragma once
#include "plan/plan.h"

struct builder {
	struct arena *arena;
	const struct spec *spec;
	/* facts about the host and the command; NULL in the plan of an exec */
	const struct plan_env *env;
	struct step *steps;
	size_t n, cap;
	int nslots;
	bool userns; /* the container's process is in another user namespace than the runtime */
	/*
	 * INIT, the container's first process, mounts device nodes, because the kernel refuses
	 * mknod(2) to it
	 */
	bool no_mknod;
	/*
	 * The runtime makes the nodes of linux.devices, and the container's first process mounts
	 * these nodes; the default device nodes are bind-mounted from the host.
	 */
	bool make_nodes;
	bool dev_is_bound; /* /dev is a bind mount, so no device node is made in it */
	/*
	 * the step ATTACH_ROOT makes the mount namespace, and not the step CLONE: see
	 * builder_decide_namespace()
	 */
	bool root_as_namespace;
	/*
	 * first error of a function that appends steps (-errno), or 0; the function that builds the
	 * plan returns it
	 */
	int failed;
};

/*
 * Appends one step to the plan (builder.c). The returned pointer is valid until another step is
 * appended.
 */
struct step *builder_add_step(
	struct builder *b, enum step_kind kind, enum step_place place, const char *field);
void builder_add_text(struct builder *b, enum step_kind kind, const char *field, const char *text);
void builder_add_process(
	struct builder *b, enum step_kind kind, const char *field, const struct spec_process *p);
void builder_add_barrier(struct builder *b, enum step_place place, const char *name);

/* Returns the name of an array's element, such as "mounts[3]", for messages. */
const char *builder_field(struct builder *b, const char *array, size_t i);

/*
 * The functions of mounts.c. builder_check_mounts() refuses mounts that no plan can do. The others
 * append the steps for the root file system, the mounts in it, and the device nodes.
 */
int builder_check_mounts(const struct builder *b) must_check;
void builder_decide_devices(struct builder *b);
void builder_add_notify_dir(struct builder *b);
void builder_add_names_files(struct builder *b);
/*
 * Appends the steps that open the root file system and the sources of all mounts. Returns the slot
 * (the index of the opened descriptor) of the root; the slots of the sources follow it.
 */
int builder_add_opens(struct builder *b);
void builder_add_mounts(struct builder *b, int root_slot);

/*
 * Sets b->root_as_namespace (tree.c): whether the step ATTACH_ROOT makes the mount namespace. The
 * caller calls this function once all mounts are known.
 */
void builder_decide_namespace(struct builder *b);

/*
 * The next functions, in process.c, append the steps for the process that both `create` and `exec`
 * need.
 */
void builder_add_mapped_root(struct builder *b);
void builder_add_oom_score(struct builder *b, const struct spec_process *p);
void builder_add_host_rlimits(struct builder *b, const struct spec_process *p);
void builder_add_attributes(struct builder *b, const struct spec_process *p);
/*
 * Appends the step that compiles the system call filter. Returns the slot into which the step puts
 * the filter's descriptor, or -1 if config.json has no linux.seccomp.
 */
int builder_add_seccomp_compile(struct builder *b);
void builder_add_seccomp(struct builder *b, const struct spec_process *p, int seccomp_slot);
