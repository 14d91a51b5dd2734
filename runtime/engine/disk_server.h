/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts and ends the process that serves vm.image if that image is not raw: caisson-disk, with the
 * subcommand `serve`. caisson-disk is a program of its own, because it parses a format that the
 * guest may have written, and because caisson links no compression library. It opens the image
 * itself and then enters a jail (runtime/disk/serve.c). It ends once the socket is closed, after it
 * has written all that it still held to the image.
 */
#pragma once
#include <sys/types.h>

#include "machine/machine_config.h"

#define IMAGE_SERIAL "image" /* serial number of vm.image */

struct disk_server {
	pid_t pid;  /* pid of the server, a child of the monitor; 0: there is no server */
	int sock;   /* vhost-user socket of the server */
	bool ended; /* whether the server has ended; then `status` is its wait status */
	int status;
};

/*
 * Starts the server and waits until the server has opened the image. The server writes later errors
 * to `errors`. Must be called before the jail is entered, while there is only one thread.
 */
int disk_server_start(struct disk_server *ret, const struct machine_config *c, int errors)
	must_check;
/*
 * Finds out whether the server has ended, and waits for its end for up to `wait_ms`. Returns 0 if
 * the server still runs, -EIO with a message if it was killed or failed, and -EPIPE with a message
 * if it ended because the hypervisor has closed the connection. A later call returns the same
 * result.
 */
int disk_server_check(struct disk_server *s, int wait_ms) must_check;
/*
 * Closes the socket and waits for the server's end. Kills the server if that takes too long. The
 * engine must have been stopped before, because it may have the socket too.
 */
void disk_server_stop(struct disk_server *s);
