/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vmfs_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "unit/rig/child.h"
#include "unit/rig/vmfs_front.h"

int front_make(struct front *f, const char *name, uint32_t mode, uint32_t rdev)
{
	struct fuse_mknod_in in = {.mode = mode, .rdev = rdev};

	return front_fuse(f, FUSE_MKNOD, 1, &in, sizeof(in), name, strlen(name) + 1);
}

void front_ready(struct front *f)
{
	front_begin(f, false, 100);
	front_start_queue(f);
	front_fuse_init(f);
}

uint64_t front_create(struct front *f, const char *name, uint64_t *ret_node)
{
	struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};

	CHECK(front_fuse(f, FUSE_CREATE, 1, &in, sizeof(in), name, strlen(name) + 1) == 0);
	*ret_node = front_entry(f);
	return ((const struct fuse_open_out *)((const struct fuse_entry_out *)front_reply(f) + 1))
		->fh;
}
