/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a machine whose guest is tests/unit/drive/: a thread that reads the console,
 * echoes network and sockets, and ends a machine that hangs; and a process that serves files.
 *
 *	host_open(&h, guest_path)   makes the descriptors
 *	... builds and runs h.m with them, with the thread host_live() beside it ...
 *	eventfd_write(h.stop, 1)    ends the thread
 *	host_close(&h)
 */
#pragma once
#include <pthread.h>

#include "vm/machine.h"

#define MIB (UINT64_C(1) << 20)
#define PROGRESS_AT 0x4000 /* guest address of the progress text, the same as in drive.h */
#define BALLOON_PAGES 16
#define ECHO_PORT 7
#define ECHOES_MAX 1024
#define LIMIT_MS 60000

struct host {
	struct machine m;
	pthread_t thread;
	int console[2], keys[2], net[2],
		stop; /* the host's thread uses console[0], keys[1], net[0] and stop */
	int disk, kernel;
	pid_t server; /* pid of the file server; 0: none */
	/* directory that the file server serves, with a directory "here"; NULL: one of its own */
	const char *dir;
	pthread_mutex_t lock;
	int echo[ECHOES_MAX]; /* the host's ends of the guest's sockets; guarded by the lock */
	size_t echo_count;
	char said[4096]; /* last part of the console's output */
	size_t said_len;
	char progress[128]; /* text that says what the guest was doing last */
	/*
	 * Called when the guest writes "#"; in the thread of host_live(). NULL: nothing is called.
	 */
	void (*asked)(struct host *h);
};

void host_open(struct host *h, const char *guest_path);
void host_close(struct host *h);
/* The thread. Its argument is the struct host. */
void *host_live(void *arg);
/* The function connect() of the vsock device. `ctx` is the struct host. */
int host_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
/* Starts the file server. *ret_sock is the machine's end of its socket. */
void host_serve_files(struct host *h, int *ret_sock);
