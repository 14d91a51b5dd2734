/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How commands reach a container's monitor: frames of the agent protocol (agent.h) over the Unix
 * socket CONTROL_SOCKET in the container's state directory, which only root can enter.
 *
 *	exec     {text: LEN, facts: {...}, stdio: [..]} + descriptors of stdio + blob
 *		 -> failed | running, then exited; meanwhile it may send
 *		 signal {signal}, resize {rows, columns}; closing it kills the process
 *	signal   {signal, all}          -> reply
 *	freeze   {frozen}               -> reply
 *	ps, stats, update {resources}   -> reply
 *	watch    {}     -> from now on, oom {} at each time that the guest says so
 */
#pragma once
#include "agent/agent.h"

#define CONTROL_SOCKET "vm.sock"

/* dir: the state directory. A listening socket, or one connected to it. */
int control_listen(int dir) must_check;
int control_connect(int dir) must_check;

/*
 * Sends a request and waits for its reply, timeout_ms at most; -ETIMEDOUT. A reply that says errno
 * becomes -errno with its message. *ret is to be released.
 */
int control_call(int sock, struct agent_writer *w, int timeout_ms, struct agent_frame *ret)
	must_check;
