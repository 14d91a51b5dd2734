/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identifies the host's inodes: reads the key by which an inode is known (device, number, mount),
 * and compares a node with an inode.
 */
#include <stdlib.h>

#include "vm/fs/fs.h"

struct fs_node *fs_node_get(const struct fs_session *s, uint64_t id)
{
	return fs_slots_get(&s->nodes, id);
}

uint64_t fs_stat_dev(const struct statx *st)
{
	return (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
}

/*
 * Returns the index of the device in the session's list of file systems. Adds the device if it is
 * not in the list.
 */
static uint32_t find_device(struct fs_session *s, uint64_t dev)
{
	for (uint32_t i = 0; i < s->ndevices; i++)
		if (s->devices[i] == dev)
			return i;
	if (!s->devices)
		s->devices = malloc(FS_DEVICES_MAX * sizeof(*s->devices));
	if (!s->devices || s->ndevices == FS_DEVICES_MAX)
		return FS_DEVICES_MAX;
	s->devices[s->ndevices] = dev;
	return s->ndevices++;
}

uint64_t fs_inode_number(struct fs_session *s, uint64_t dev, uint64_t ino)
{
	return ino ^ (uint64_t)find_device(s, dev) << 48;
}

bool fs_node_is(const struct fs_node *n, const struct statx *st)
{
	return n->ino == st->stx_ino && n->dev == fs_stat_dev(st) && n->mnt == st->stx_mnt_id &&
	       (n->fd >= 0 || (n->birth.tv_sec == st->stx_btime.tv_sec &&
				      n->birth.tv_nsec == st->stx_btime.tv_nsec));
}

int fs_node_stat(int fd, struct statx *st)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, FS_STATX_WANT, st) < 0 ? -errno : 0;
}
