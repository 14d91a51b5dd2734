/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands to QEMU whose answers are waited for, as saving and restoring a machine need them.
 *
 * Theory of operation. The thread that waits serves the vsock device meanwhile, because QEMU waits
 * for this device's answers before it answers a command. So that thread is the one that serves the
 * device anyway: while the machine runs, the vsock thread, and before that the monitor's only
 * thread. While the machine runs, the monitor's loop reads QEMU's messages, and wakes the vsock
 * thread when one is for it.
 */
#pragma once
#include <pthread.h>

#include "base/json.h"

struct engine;

struct qemu_talk {
	/* protects the members up to `deleted`, and `answer` */
	pthread_mutex_t lock;
	uint64_t number; /* number of the command whose answer is waited for; 0: none */
	bool answered, failed;
	char why[512]; /* QEMU's error message, if the command has failed */
	/* The thread that reads QEMU's messages calls this with the answer, with the lock held. */
	void (*take)(void *ctx, const struct json *answer);
	void *ctx;
	/* what QEMU has said of the migration since qemu_talk_begin() */
	bool migrated, migration_failed;
	const char *deletes; /* id of the device whose end is waited for; NULL: none */
	bool deleted;
	uint64_t last; /* number of the last command */
	int any;       /* epoll descriptor with all that wakes the waiting thread */
	int answer;    /* eventfd that the monitor's loop writes to wake the waiting thread */
	int timer;     /* timer that ends the wait, if this thread reads QEMU's messages itself */
	bool reads;    /* the waiting thread reads QEMU's messages itself */
	unsigned ms;   /* the time limit, if `reads` */
};

struct qemu_question {
	const char *command;
	const char *arguments; /* JSON; NULL: none */
	int fd;                /* descriptor that goes with the command; 0: none */
	void (*take)(void *ctx, const struct json *answer);
	void *ctx;
};

/*
 * Begins a conversation. With `ms` not 0, QEMU's messages are read by the caller's thread, and the
 * whole conversation may take that many milliseconds. Without `ms` the caller is the vsock thread.
 */
int qemu_talk_begin(struct engine *e, unsigned ms) must_check;
void qemu_talk_end(struct engine *e);

/* Sends a command and waits for the answer. If QEMU refuses, returns -EIO with QEMU's reason. */
int qemu_ask(struct engine *e, const struct qemu_question *q) must_check;
/*
 * Waits for any event: a message of QEMU, or a descriptor of qemu_talk_watch(). The caller checks
 * whether it was what it waits for.
 */
int qemu_talk_wait(struct engine *e) must_check;
int qemu_talk_watch(struct engine *e, int fd, uint32_t events) must_check;
void qemu_talk_unwatch(struct engine *e, int fd);
/* Waits until QEMU has deleted the device, for which qemu_expect_deletion() was called before. */
void qemu_expect_deletion(struct engine *e, const char *id);
int qemu_await_deletion(struct engine *e) must_check;
/* Waits for the end of the migration. */
int qemu_await_migration(struct engine *e) must_check;

/* Takes the message of QEMU if a thread waits for it. */
void qemu_talk_on_message(struct qemu_talk *t, const struct json *message);
