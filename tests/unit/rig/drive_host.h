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
/* guest address of the text that says what the guest is doing; the same as in drive.h */
#define PROGRESS_AT 0x4000
#define BALLOON_PAGES 16
#define ECHO_PORT 7
#define ECHOES_MAX 1024
#define LIMIT_MS 60000

struct host {
	struct machine m;
	pthread_t thread;
	int console[2], keys[2], net[2],
		stop; /* the thread of host_live() uses console[0], keys[1], net[0] and stop */
	int disk, kernel;
	pid_t server; /* pid of the file server; 0: none */
	/*
	 * Directory with a subdirectory "here" that the file server serves. NULL: the file server
	 * makes a directory itself.
	 */
	const char *dir;
	pthread_mutex_t lock;
	int echo[ECHOES_MAX]; /* the host's ends of the guest's sockets; guarded by the lock */
	size_t echo_count;
	char said[4096]; /* last part of what the guest has written to its console */
	size_t said_len;
	char progress[128]; /* text that says what the guest was doing last */
	/*
	 * host_live() calls this function when the guest writes "#" to its console. NULL: it calls
	 * nothing.
	 */
	void (*asked)(struct host *h);
};

void host_open(struct host *h, const char *guest_path);
void host_close(struct host *h);
/*
 * Function of the thread that plays the host while the machine runs. Its argument is the struct
 * host.
 */
void *host_live(void *arg);
/*
 * Function for the member `connect` of the vsock device's options; their `ctx` must be the struct
 * host.
 */
int host_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
/*
 * Starts the process of the file server. Stores the machine's end of the server's socket in
 * *ret_sock.
 */
void host_serve_files(struct host *h, int *ret_sock);
