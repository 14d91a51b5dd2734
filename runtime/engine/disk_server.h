/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts and ends caisson-disk, with the subcommand `serve`: the process that serves vm.image if
 * the image is not raw, or if what the guest writes to it is dropped at the end. caisson-disk is a
 * program of its own, because it parses a format that the guest may have written, and because
 * caisson links no compression library. caisson-disk opens the image itself and then enters a jail
 * (runtime/disk/serve.c). It ends once its vhost-user socket is closed, after it has written to the
 * image all data that it still held in memory.
 */
#pragma once
#include <sys/types.h>

#include "machine/machine_config.h"
#include "vm/virtio/blk_control.h"

struct disk_server {
	pid_t pid;   /* pid of caisson-disk, a child of the monitor; 0: there is no server */
	int sock;    /* vhost-user socket of caisson-disk */
	int control; /* socket for the messages of vm/virtio/blk_control.h, or -EBADF */
	bool ended;  /* whether caisson-disk has ended; then `status` is its wait status */
	int status;
};

/*
 * Starts caisson-disk and waits until it has opened the image. Later it writes its error messages
 * to `errors`. The caller must call this function before it enters the jail, while it has only one
 * thread.
 */
int disk_server_start(struct disk_server *ret, const struct machine_config *c, int errors)
	must_check;
/*
 * Finds out whether caisson-disk has ended, and waits for its end for up to `wait_ms`. Returns 0 if
 * caisson-disk still runs, -EIO with a message if it was killed or failed, and -EPIPE with a
 * message if it ended because the hypervisor has closed the connection. A later call returns the
 * same result.
 */
int disk_server_check(struct disk_server *s, int wait_ms) must_check;
/* Reads a message of caisson-disk. Returns 1 with the message in *ret, or 0 if there is none. */
int disk_server_next(struct disk_server *s, struct blk_message *ret) must_check;
/* Makes caisson-disk serve the held requests again. */
int disk_server_retry(struct disk_server *s) must_check;
/* Asks caisson-disk to make the disk `size` bytes large. caisson-disk answers by BLK_RESIZED. */
int disk_server_resize(struct disk_server *s, uint64_t size) must_check;
/*
 * Closes the vhost-user socket and waits for the end of caisson-disk. Kills caisson-disk if that
 * takes too long. The caller must have stopped the engine before, because the engine may hold the
 * socket open too. Returns -errno with a message if not all that the guest wrote is in the image.
 */
int disk_server_stop(struct disk_server *s) must_check;
