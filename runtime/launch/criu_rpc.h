/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Talks to criu(8): starts `criu swrk FD` and exchanges messages with it over a socket.
 *
 * The messages have the format of Protocol Buffers: a message is a sequence of fields, each with a
 * number and a value, which is an integer, or bytes with their length. CRIU's file images/rpc.proto
 * lists the fields. caisson needs so few of them that it writes them itself.
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"

/* Fields of CRIU's message criu_opts. */
enum criu_field {
	CRIU_IMAGES_DIR_FD = 1,
	CRIU_PID = 2,
	CRIU_LEAVE_RUNNING = 3,
	CRIU_EXT_UNIX_SK = 4,
	CRIU_TCP_ESTABLISHED = 5,
	CRIU_EVASIVE_DEVICES = 6,
	CRIU_SHELL_JOB = 7,
	CRIU_FILE_LOCKS = 8,
	CRIU_LOG_LEVEL = 9,
	CRIU_LOG_FILE = 10,
	CRIU_PAGE_SERVER = 11,
	CRIU_NOTIFY_SCRIPTS = 12,
	CRIU_ROOT = 13,
	CRIU_PARENT_IMG = 14,
	CRIU_TRACK_MEM = 15,
	CRIU_AUTO_DEDUP = 16,
	CRIU_WORK_DIR_FD = 17,
	CRIU_LINK_REMAP = 18,
	CRIU_EXT_MNT = 23,
	CRIU_CG_ROOT = 25,
	CRIU_RST_SIBLING = 26,
	CRIU_INHERIT_FD = 27,
	CRIU_MANAGE_CGROUPS_MODE = 34,
	CRIU_EXTERNAL = 37,
	CRIU_EMPTY_NS = 38,
	CRIU_JOIN_NS = 39,
	CRIU_FREEZE_CGROUP = 44,
	CRIU_TCP_SKIP_IN_FLIGHT = 46,
	CRIU_LAZY_PAGES = 48,
	CRIU_ORPHAN_PTS_MASTER = 50,
	CRIU_CONFIG_FILE = 51,
	CRIU_TCP_CLOSE = 52,
	CRIU_LSM_PROFILE = 53,
	CRIU_LSM_MOUNT_CONTEXT = 63,
	CRIU_NETWORK_LOCK = 64,
};

/* Types of requests, and of the replies to them. */
enum criu_type {
	CRIU_DUMP = 1,
	CRIU_RESTORE = 2,
	CRIU_PRE_DUMP = 4,
	CRIU_NOTIFY = 6,
};

/* A message that is being written. It remembers the first failure. */
struct criu_message {
	struct strbuf bytes;
	int failed;
};

void criu_message_release(struct criu_message *m);
#define _cleanup_criu_message_ __attribute__((cleanup(criu_message_release), unused))

void criu_put_number(struct criu_message *m, unsigned field, uint64_t value);
/* Writes the field if `value` is true. */
void criu_put_flag(struct criu_message *m, unsigned field, bool value);
/* Writes the field if `text` is not NULL. */
void criu_put_text(struct criu_message *m, unsigned field, const char *text);
/* Writes a field whose value is a message with two texts, as its fields 1 and 2. */
void criu_put_pair(struct criu_message *m, unsigned field, const char *first, const char *second);
/* Writes a field whose value is a message with a text and a number, as its fields 1 and 2. */
void criu_put_numbered(struct criu_message *m, unsigned field, const char *text, uint64_t number);

/* A message that CRIU has sent. */
struct criu_reply {
	uint64_t type; /* an enum criu_type */
	bool success;
	uint64_t pid;       /* pid of the restored first process; 0: absent */
	char script[64];    /* CRIU_NOTIFY: what CRIU has come to, such as "post-restore" */
	char message[1024]; /* CRIU's first error, or "" */
};

/* Reads a message of CRIU. Returns -EBADMSG with a message if its form is wrong. */
int criu_read_reply(const void *data, size_t len, struct criu_reply *ret) must_check;

struct criu_start {
	/*
	 * Called in the new process before it executes criu, for example to enter a namespace;
	 * NULL: nothing to do.
	 */
	int (*prepare)(void *data);
	void *data;
	/* descriptors that criu inherits, with the same numbers; negative ones are skipped */
	const int *inherited;
	size_t ninherited;
};

/* A process that executes `criu swrk`. */
struct criu {
	pid_t pid;     /* 0: not started */
	int sock;      /* socket to the process */
	int interrupt; /* from interrupt_block(), or -EBADF */
};

#define CRIU_INIT \
	{ \
		.sock = -EBADF, .interrupt = -EBADF \
	}

/*
 * Makes a process that waits until criu_call() tells it to execute criu. Meanwhile the caller can
 * move it into a cgroup.
 */
int criu_start(const struct criu_start *a, struct criu *ret) must_check;

/* Ends the connection, so that criu gives up what it is doing, and waits for its end. */
void criu_end(struct criu *c);
#define _cleanup_criu_ __attribute__((cleanup(criu_end), unused))

/*
 * Called for each notification of CRIU, which waits meanwhile. fd is the descriptor that came with
 * the notification, or -EBADF; the caller closes it. If the function fails, CRIU gives up.
 */
typedef int criu_notified_fn(void *data, const struct criu_reply *n, int fd);

/*
 * Sends the request with the options `opts`, and waits for the result. `notified` may be NULL. If
 * CRIU fails, the error is CRIU's own message, or that of `notified` if that failed before.
 */
int criu_call(struct criu *c, enum criu_type type, const struct criu_message *opts,
	criu_notified_fn *notified, void *data) must_check;
