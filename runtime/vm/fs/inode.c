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

/* Adds the device to the session's list if it is not in the list. */
uint32_t fs_device_index(struct fs_session *s, uint64_t dev)
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
	return ino ^ (uint64_t)fs_device_index(s, dev) << 48;
}

int fs_expect_devices(struct fs_session *s, uint32_t n)
{
	if (!s->devices)
		s->devices = malloc(FS_DEVICES_MAX * sizeof(*s->devices));
	if (!s->devices)
		return -ENOMEM;
	/*
	 * Stores numbers that no device can have as placeholders, because a device number of the
	 * kernel has 32 bits. fs_device_found() replaces them.
	 */
	for (uint32_t i = 0; i < n; i++)
		s->devices[i] = UINT64_MAX - i;
	s->ndevices = n;
	return 0;
}

void fs_device_found(struct fs_session *s, uint32_t index, uint64_t dev)
{
	if (index < s->ndevices && s->devices[index] == UINT64_MAX - index)
		s->devices[index] = dev;
}

bool fs_node_is(const struct fs_node *n, const struct statx *st)
{
	if (n->loaded)
		return n->ino == st->stx_ino && n->type == (st->stx_mode & S_IFMT) &&
		       n->birth.tv_sec == st->stx_btime.tv_sec &&
		       n->birth.tv_nsec == st->stx_btime.tv_nsec;
	return n->ino == st->stx_ino && n->dev == fs_stat_dev(st) && n->mnt == st->stx_mnt_id &&
	       (n->fd >= 0 || (n->birth.tv_sec == st->stx_btime.tv_sec &&
				      n->birth.tv_nsec == st->stx_btime.tv_nsec));
}

int fs_node_stat(int fd, struct statx *st)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, FS_STATX_WANT, st) < 0 ? -errno : 0;
}
