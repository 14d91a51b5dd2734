/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the guest's part of `caisson disk mount`: serves the disk's file systems to the host's
 * kernel by FUSE, over the standard streams.
 */
#include "inside/inside.h"
#include "vm/fs/vmfs.h"

/*
 * How long the host may cache names and attributes, in milliseconds. Nothing but the host changes
 * the disk.
 */
#define CACHE_MS 60000

int guest_mount(struct inside_guest *g, int argc, char **argv)
{
	struct vmfs_config c = {.sock = -EBADF,
		.root = -EBADF,
		.proc = -EBADF,
		.read_only = !g->options.write,
		.devices = true,
		.cache_ms = CACHE_MS};
	int r = mounts_make(g);

	if (r < 0)
		return r;
	_cleanup_fd_ int root = open(SYSROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || proc < 0)
		return err_sys("open " SYSROOT " and /proc/self/fd");
	c.root = root;
	c.proc = proc;
	r = fd_write_all(STDOUT_FILENO, INSIDE_READY, strlen(INSIDE_READY));
	if (r < 0)
		return err_set(-r, "write to the host: %s", err_text(-r));
	r = vmfs_serve_stream(&c, STDIN_FILENO, STDOUT_FILENO);
	/* The file systems can only be unmounted once this process is in none of them. */
	if (chdir("/") < 0)
		return err_sys("enter /");
	return r;
}
