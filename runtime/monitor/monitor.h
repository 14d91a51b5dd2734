/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor is the process that stands for the container on the host in VM mode. Its pid is the
 * container's pid; it exits with the exit code of the guest's process, or by the same signal; it
 * hands the signals that it gets on to the guest's process; its standard streams become that
 * process's.
 *
 * monitor_run() is to VM mode what ns_init() is to namespace mode, and sends the same messages on
 * the same channel (ns/channel.h): barriers, the terminal's descriptor, a failure. So the launch
 * code does not see the difference. monitor_proxy() does the same for an exec: it is the process
 * that stands for one more process of the guest.
 */
#pragma once
#include "machine/machine_config.h"
#include "plan/plan.h"

struct monitor_args {
	const struct plan *plan;
	const struct plan_env *env;
	const struct machine_config *machine;
	int *slots;
	/* MOUNT_ATTR_* of the mount in each slot; the guest sets the same on its mount. */
	const uint32_t *mount_flags;
	int channel;      /* to the runtime */
	int start_socket; /* create: a listening socket to which `start` connects; run: -EBADF */
	int start_lock;   /* held until the program runs */
	int control;      /* the listening socket of monitor/control.h */
	int failure;      /* gets the error of a machine that fails later; -EBADF: the log does */
	int proc;         /* path_open_proc() */
	int *hook_out;    /* two descriptors of hooks_run() (step/step.h); closed for the machine */
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
	const char *cgroup;  /* a path beneath the container's cgroup in the guest, or NULL */
	const char *process; /* the text of config.json's process object */
	size_t process_len;
};

_Noreturn void monitor_proxy(const struct proxy_args *args);
