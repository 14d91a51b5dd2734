/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the owners of a node's POSIX locks. Each owner has an open file description of its own; the
 * comment at the top of lock.c says why.
 */
#include "vm/fs/fs.h"

#include <stdlib.h>

int fs_lock_owner_get(const struct fs_node *n, uint64_t owner)
{
	for (const struct fs_lock_owner *o = n->owners; o; o = o->next)
		if (o->owner == owner)
			return o->fd;
	return -ENOENT;
}

int fs_lock_owner_add(struct fs_session *s, struct fs_node *n, uint64_t owner, int fd)
{
	_cleanup_fd_ int own = fd;
	struct fs_lock_owner *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	if (fs_make_room(s, 1) < 0) {
		free(o);
		return -ENOLCK;
	}
	*o = (struct fs_lock_owner){.next = n->owners, .owner = owner, .fd = take_fd(&own)};
	n->owners = o;
	s->nowners++;
	return 0;
}

void fs_lock_owner_name(struct fs_node *n, uint64_t owner, uint32_t pid)
{
	for (struct fs_lock_owner *o = n->owners; o; o = o->next)
		if (o->owner == owner)
			o->pid = pid;
}

/*
 * Finds the owner of a lock. The kernel does not tell which open file description holds the lock.
 * But a lock does not conflict with its own description, so the owner is the one for whose
 * description the range is free.
 */
uint32_t fs_lock_owner_pid(const struct fs_node *n, uint64_t owner, const struct flock *l)
{
	for (const struct fs_lock_owner *o = n->owners; o; o = o->next) {
		struct flock probe = {.l_type = F_WRLCK,
			.l_whence = SEEK_SET,
			.l_start = l->l_start,
			.l_len = l->l_len};

		if (o->owner != owner && fcntl(o->fd, F_OFD_GETLK, &probe) == 0 &&
			probe.l_type == F_UNLCK)
			return o->pid;
	}
	return 0;
}

static void release_owner(struct fs_session *s, struct fs_lock_owner **at)
{
	struct fs_lock_owner *o = *at;

	*at = o->next;
	fd_close(&o->fd);
	free(o);
	s->nowners--;
}

void fs_lock_release(struct fs_session *s, struct fs_node *n, uint64_t owner)
{
	for (struct fs_lock_owner **at = &n->owners; *at; at = &(*at)->next) {
		if ((*at)->owner == owner) {
			release_owner(s, at);
			return;
		}
	}
}

void fs_lock_release_all(struct fs_session *s, struct fs_node *n)
{
	while (n->owners)
		release_owner(s, &n->owners);
}
