/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel between the runtime and INIT, the container's first process. The channel is a
 * SOCK_SEQPACKET pair, which carries one message at a time. A message says one of these:
 *
 * - the sender has reached a barrier
 * - a descriptor comes with this message (the terminal, a seccomp listener)
 * - the step FORK has made a process with this pid
 * - a line for the log
 * - a step of INIT took this long
 * - INIT has failed, for the reason in the text
 *
 * If the channel ends without a failure, INIT has become the program, because execve(2) closes
 * INIT's side. INIT may be under the container's system call filter, so INIT uses write(2) and
 * read(2) for all messages that carry no descriptor.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

/*
 * text of the first message that INIT (the container's first process) sends if `hide_late` is set;
 * the message tells the runtime that caisson-init runs
 */
#define CHANNEL_HELLO "hello"

enum channel_type {
	CHANNEL_REACHED = 1,
	CHANNEL_FD,
	/* code: pid in the runtime's pid namespace of the process that the step FORK made */
	CHANNEL_FORKED,
	CHANNEL_LOG, /* text: a line for the log; code: the line's severity (enum log_level) */
	/*
	 * The container's first process has done a step. code: the step's index in that process's
	 * own plan; text: how many ns the step took.
	 */
	CHANNEL_STEP,
	CHANNEL_FAILED,
	/*
	 * a party of the plan other than the sender has done something: see channel_report_span()
	 */
	CHANNEL_SPAN,
};

/*
 * The time that a party of a microVM's plan (the monitor, the guest's agent or the container's
 * first process) has spent on something.
 */
struct channel_span {
	int place; /* the party of the plan, an enum step_place */
	/*
	 * begin and end of that time in ns, by CLOCK_MONOTONIC of the process that receives the
	 * message
	 */
	uint64_t begin, end;
	bool waits; /* whether the party only waited for another one */
	/*
	 * index of the step in the party's own plan, counted from 1; 0: what the party did is no
	 * step
	 */
	size_t number;
	const char *name; /* what the party did, if that is no step; else "" */
};

struct channel_msg {
	uint32_t type;
	/*
	 * a number whose meaning depends on the type of the message; for CHANNEL_FAILED it is
	 * -errno
	 */
	int32_t code;
	uint64_t time; /* time at which the message was sent (CLOCK_MONOTONIC), in ns */
	char text[ERR_MAX];
};

int channel_pair(int ret_fds[2]) must_check;
/*
 * Sends a message without a descriptor, by write(2), because the system call filter of a
 * container's first process may forbid sendmsg(2). fd may also be a pipe. If the other side is
 * closed, the kernel sends SIGPIPE to this process.
 */
int channel_write(int fd, enum channel_type type, int code, const char *text) must_check;

int channel_send(int sock, enum channel_type type, int code, const char *text, int fd) must_check;

/*
 * Receives one message of the channel. Returns 1, or 0 at the end of the channel. *ret_fd is the
 * descriptor that came with the message, or -EBADF. A malformed message is an error, because the
 * sender may be a process in a container, so no message is trusted.
 */
int channel_recv(int sock, struct channel_msg *ret, int *ret_fd) must_check;

/* Sends the message that the sender has reached the barrier `barrier` of the plan. */
int channel_report(int sock, const char *barrier) must_check;

/*
 * channel_report_span() sends a CHANNEL_SPAN message. channel_read_span() reads such a message, and
 * returns -EPROTO if the message is malformed; ret->name points into the message.
 */
int channel_report_span(int sock, const struct channel_span *s) must_check;
int channel_read_span(const struct channel_msg *m, struct channel_span *ret) must_check;

/* Writes the line that a CHANNEL_LOG message contains to the log of this process. */
void channel_log(const struct channel_msg *m);

/*
 * Says whether the first `len` bytes of *m are a well-formed message. The container may control the
 * sender, so every member is checked.
 */
bool channel_is_valid(const struct channel_msg *m, size_t len);

/*
 * Receives one message, which must say that the runtime has reached the barrier `barrier`; any
 * other message is an error. Returns 1, or 0 at the end of the channel.
 */
int channel_await(int sock, const char *barrier) must_check;

/*
 * Does what channel_await() does, for a process that cannot go on without the runtime. If the
 * channel has ended, the process exits with 1, because the runtime has failed or was killed, and no
 * process is left to which an error could be reported.
 */
int channel_await_or_exit(int sock, const char *barrier) must_check;
