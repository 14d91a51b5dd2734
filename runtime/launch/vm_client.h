/* SPDX-License-Identifier: Apache-2.0 */
/* Functions by which commands ask the monitor of a running microVM, for example for statistics. */
#pragma once
#include "launch/container.h"

struct agent_frame;
struct agent_reader;

int vm_signal(struct container *c, int sig, bool all) must_check;
int vm_freeze(struct container *c, bool frozen) must_check;
/* Lets a machine go on that was paused after an error of its disk on the host. */
int vm_continue(struct container *c) must_check;
/* Makes the disk of vm.image `size` bytes large, and tells the guest. */
int vm_resize_disk(struct container *c, uint64_t size) must_check;

/*
 * Attaches a socket to the console of a foreign guest (an operating system with an init of its
 * own). The microVM's monitor gets a copy of the socket.
 */
int vm_attach_console(struct container *c, int sock) must_check;
/* Connects a VNC viewer, which is at the other end of the socket, to a foreign guest's screen. */
int vm_attach_viewer(struct container *c, int sock) must_check;

/*
 * Asks the microVM's monitor for `what`, which is "ps", "stats" or, for a foreign guest (an
 * operating system with an init of its own), "address". *ret is the reply, which the caller
 * releases.
 */
int vm_ask(struct container *c, const char *what, struct agent_frame *ret) must_check;

/* The agent that can run commands in a foreign guest. */
enum vm_agent {
	VM_AGENT_NONE,
	VM_AGENT_CAISSON,
	VM_AGENT_QEMU, /* caisson's agent does not answer, but qemu-guest-agent is there */
};

/* Waits up to timeout_ms milliseconds for the microVM's monitor. */
int vm_find_agent(struct container *c, int timeout_ms, enum vm_agent *ret) must_check;
#define VM_ASK_TIMEOUT_MS 10000

/*
 * Sends the guest new limits for the container's cgroup in the guest. `grown`: the guest has got
 * enough memory for them while it ran.
 */
int vm_update(struct container *c, const struct cg_resources *guest, bool grown) must_check;
/*
 * Takes back the last limits of vm_update(), because what followed has failed with `error`. Returns
 * `error`, whose message stays.
 */
int vm_undo_update(struct container *c, int error) must_check;

/*
 * Returns a socket that becomes readable when the guest's kernel has killed a process because
 * memory ran out.
 */
int vm_watch(struct container *c) must_check;

/*
 * Reads the socket that vm_watch() returned. Returns 1 if the guest's kernel has killed a process,
 * 0 if it has not, and -ESRCH if the microVM's monitor closed the socket.
 */
int vm_watch_read(int sock, struct agent_reader *r) must_check;

/*
 * Makes the microVM's monitor pause the machine and write its state and memory to two empty files.
 * Returns a socket. If the caller closes the socket, the machine goes on. If the caller passes the
 * socket to vm_end() instead, the machine ends, and vm_end() waits for the end.
 */
int vm_checkpoint(struct container *c, int state, int memory) must_check;
int vm_end(struct container *c, int sock) must_check;
