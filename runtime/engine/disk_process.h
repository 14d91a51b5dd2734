/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts caisson-disk with its subcommand `serve` (disk/serve.c), for vm.image (disk_server.h) and
 * for the disks that commands attach to a microVM that runs (launch/hotplug_disk.h).
 */
#pragma once
#include <sys/types.h>

#include "base/err.h"
#include "vm/virtio/blk_control.h"

/*
 * how long, in ms, caisson-disk may take to write what it holds in memory when it ends;
 * fdatasync(2) takes most of this time
 */
#define DISK_PROCESS_END_MS 30000

struct disk_process_options {
	const char *program; /* path of caisson-disk */
	const char *field;   /* what error messages call the image: vm.image, or an option */
	const char *image, *format;
	const char *serial; /* serial number of the disk, up to VIRTIO_BLK_ID_BYTES bytes */
	/* values of the options --backing and --key; NULL: the option is not given */
	const char *backing, *key;
	/* values of the options --werror and --rerror; NULL: the guest gets the error */
	const char *werror, *rerror;
	unsigned queues; /* number of queues; 0: one */
	bool read_only, snapshot, write_through;
	/*
	 * caisson-disk becomes the user that this monitor becomes in its jail (jail_id()). For an
	 * ordinary user it does so in a user namespace of its own.
	 */
	pid_t monitor;
	/* descriptor to which it writes its error messages later; -EBADF: it writes them nowhere */
	int errors;
};

/*
 * Starts caisson-disk and waits until it has opened the image. Returns its pid, of a child of the
 * caller. *ret_sock is its vhost-user socket, at whose end caisson-disk ends. *ret_control is the
 * socket for the messages of vm/virtio/blk_control.h. If caisson-disk fails, the error message is
 * its own, and it has ended. The caller must have one thread only.
 */
pid_t disk_process_start(const struct disk_process_options *o, int *ret_sock, int *ret_control)
	must_check;
/*
 * Reads from the control socket of a caisson-disk that has ended whether all that the guest wrote
 * is in the image. Returns 0, or else the error of the last write, or -EIO if caisson-disk was
 * killed before that. The error message begins with `what`, which names the disk.
 * disk_process_ended() does the same for a caller that has read the message BLK_ENDED itself.
 */
int disk_process_result(int control, const char *what) must_check;
int disk_process_ended(const struct blk_message *m, const char *what) must_check;
