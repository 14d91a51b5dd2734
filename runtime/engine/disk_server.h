/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts and ends the process that serves vm.image if it is not a raw image: caisson-disk, with the
 * subcommand `serve`. It is a program of its own because it parses a format that the guest may have
 * written, and because caisson links no compression library. It opens the image itself and then
 * enters a jail (runtime/disk/serve.c). It ends once the socket is closed, after it has written all
 * that it still held to the image.
 */
#pragma once
#include <sys/types.h>

#include "machine/machine_config.h"

#define IMAGE_SERIAL "image" /* serial number of vm.image */

struct disk_server {
	pid_t pid;  /* pid of the server, a child of the monitor; 0: none */
	int sock;   /* vhost-user socket of the server */
	bool ended; /* the server has ended, with this wait status */
	int status;
};

/*
 * Starts the server and waits until it has opened the image. Its later errors go to `errors`. Must
 * be called before the jail is entered, while there is only one thread.
 */
int disk_server_start(struct disk_server *ret, const struct machine_config *c, int errors)
	must_check;
/*
 * Finds out whether the server has ended, and waits for its end for up to `wait_ms`. Returns 0 if
 * it still runs, -EIO with a message if it was killed or failed, and -EPIPE with a message if it
 * ended because the hypervisor has closed the connection. Returns the same if it is called again.
 */
int disk_server_check(struct disk_server *s, int wait_ms) must_check;
/*
 * Closes the socket and waits for the server's end. Kills it if it takes too long. The engine must
 * have been stopped before, because it may have the socket too.
 */
void disk_server_stop(struct disk_server *s);
