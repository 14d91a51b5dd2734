/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: the process that is the container to the rest of the host in VM mode. Its pid is the
 * container's; it ends with the exit code of the guest's process, or by the same signal; what it is
 * sent it hands on; its standard streams are the guest process's.
 *
 * monitor_run() is to VM mode what ns_init() is to namespace mode, and speaks the same language on
 * the same channel (ns/channel.h): barriers, the terminal's descriptor, a failure. The launch code
 * does not see the difference. monitor_proxy() is the same for an exec: a process that stands for
 * one of the guest's.
 */
#pragma once
#include "machine/machine_config.h"
#include "plan/plan.h"

struct monitor_args {
	const struct plan *plan;
	const struct plan_env *env;
	const struct machine_config *machine;
	int *slots;
	/* Of the mount in each slot: MOUNT_ATTR_*, which the guest's gets too. */
	const uint32_t *mount_flags;
	int channel;      /* to the runtime */
	int start_socket; /* create: listening, where `start` will connect; run: -EBADF */
	int start_lock;   /* held until the program runs */
	int control;      /* listening: control.h */
	int failure;   /* for the error of a machine that fails while it runs; -EBADF: to the log */
	int proc;      /* path_open_proc() */
	int *hook_out; /* two: step/step.h, hooks_run(); closed when the machine boots */
	const char *id;
	const char *config; /* config.json's text */
	size_t config_len;
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *state_data;
	struct arena *arena;
	size_t from; /* index of the step after STEP_CLONE */
};

_Noreturn void monitor_run(const struct monitor_args *args);

struct proxy_args {
	const struct plan *plan;
	const struct plan_exec_env *env;
	int channel; /* to the runtime */
	int control; /* connected to the container's monitor */
	int filter;  /* the compiled system call filter, or -EBADF */
	const char *id;
	const char *cgroup;  /* beneath the container's in the guest, or NULL */
	const char *process; /* the process object's text */
	size_t process_len;
};

_Noreturn void monitor_proxy(const struct proxy_args *args);
