/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor is the process that stands for the container on the host in VM mode. Its pid is the
 * container's pid. It ends with the exit code of the guest's process, or by the same signal. It
 * forwards the signals that it gets to the guest's process. Its standard streams become those of
 * the guest's process.
 *
 * monitor_run() does in VM mode what ns_init() does in namespace mode, and sends the same messages
 * on the same channel (ns/channel.h): barriers, the terminal's descriptor, a failure. So the launch
 * code does not see the difference. monitor_proxy() runs the process that stands for an exec, which
 * is one more process of the guest.
 */
#pragma once
#include "machine/machine_config.h"
#include "plan/plan.h"

struct monitor_restore {
	int state, memory; /* files of a snapshot, open for reading; the monitor closes them */
};

/* Says whether QEMU has saved the machine. Nothing else of the files is checked. */
bool monitor_restores_on_qemu(const struct monitor_restore *r);

struct monitor_args {
	const struct plan *plan;
	const struct plan_env *env;
	const struct machine_config *machine;
	int *slots;
	int channel; /* socket for messages to and from the runtime */
	/* for `create`: a listening socket to which `start` connects; for `run`: -EBADF */
	int start_socket;
	int start_lock; /* file with a lock that the monitor holds until the program runs */
	int control;    /* listening socket for commands on the container (monitor/control.h) */
	/*
	 * file into which the monitor writes the error of a machine that fails after `run` has
	 * reported its start; -EBADF: the monitor logs the error
	 */
	int failure;
	/*
	 * file of the state directory, open for appending, into which the monitor writes why the
	 * machine is paused after an error of its disk; empty: it is not; -EBADF: there is no file
	 */
	int disk_error;
	int proc; /* descriptor of procfs, from path_open_proc() */
	/*
	 * files of the snapshot from which the machine starts (vm/snapshot/format.h and memory.h);
	 * NULL: the machine boots a kernel
	 */
	const struct monitor_restore *restore;
	/*
	 * the two descriptors for the output of hooks, an argument of hooks_run() (step/step.h);
	 * closed before the machine is made
	 */
	int *hook_out;
	const char *id;
	/* orders for the guest; released after they were sent */
	struct strbuf *orders;
	/*
	 * packs the orders for the guest (agent/orders.h); the monitor calls it when the
	 * descriptors of all mounts of the share have been put into the slots of the plan
	 */
	int (*make_orders)(void *data, struct strbuf *ret);
	int (*state_json)(void *data, const char *status, struct strbuf *ret);
	void *data;
	struct arena *arena;
	/*
	 * whether the monitor tells the runtime, by CHANNEL_SPAN messages, how long each part of
	 * the start took
	 */
	bool tell_spans;
	size_t from; /* index in the plan of the step after STEP_CLONE */
};

_Noreturn void monitor_run(const struct monitor_args *args);

struct proxy_args {
	const struct plan *plan;
	int channel;                 /* socket for messages to and from the runtime */
	int control;                 /* socket that is connected to the container's monitor */
	const struct strbuf *orders; /* orders for the guest, from agent_orders_pack() */
	bool tell_spans;             /* whether the channel gets the times of the guest's steps */
};

_Noreturn void monitor_proxy(const struct proxy_args *args);
