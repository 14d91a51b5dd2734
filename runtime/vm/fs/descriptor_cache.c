/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The guest may know far more inodes than this process, or the host, has descriptors for: a
 * kernel's source alone is 80,000. So descriptors are a cache. A node that nothing is open on, and
 * whose directory and name are known, may lose its own (it is parked) when another needs one, the
 * least recently used first. It gets a new one by its name in its directory, which may have to be
 * opened the same way; what is found there must be the same inode, by device, number, mount and
 * birth, or the node is ESTALE, at which the guest's kernel looks the path up again.
 *
 * What keeps its descriptor: the root; what the guest has open; what has no name that is known,
 * since it was unlinked or never had one. Names follow the guest's own renames, and each lookup.
 * A rename on the host's side is not seen: then ESTALE is the answer until the next lookup.
 */
#include "vm/fs/fs.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

/* How many directories above a node may be parked: a host's renames can make parents a circle. */
#define DEPTH_MAX 4096

static void unlist(struct fs_session *s, struct fs_node *n)
{
	if (!n->listed)
		return;
	*(n->newer ? &n->newer->older : &s->newest) = n->older;
	*(n->older ? &n->older->newer : &s->oldest) = n->newer;
	n->newer = n->older = NULL;
	n->listed = false;
}

void fs_node_used(struct fs_session *s, struct fs_node *n)
{
	unlist(s, n);
	if (n->fd < 0 || !n->name || n->files)
		return;
	n->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = n;
	s->newest = n;
	n->listed = true;
}

void fs_node_close(struct fs_session *s, struct fs_node *n)
{
	unlist(s, n);
	if (n->fd < 0)
		return;
	fd_close(&n->fd);
	s->ndescriptors--;
}

static void park(struct fs_session *s, struct fs_node *n)
{
	struct statx st;

	/* It may be another one by now: overlayfs shows the copy's once a file was copied up. */
	if (fs_node_stat(n->fd, &st) == 0)
		n->birth = st.stx_btime;
	fs_node_close(s, n);
}

int fs_node_set_fd(struct fs_session *s, struct fs_node *n, int fd)
{
	while (s->ndescriptors >= s->config->max_descriptors) {
		if (!s->oldest)
			return -ENFILE;
		park(s, s->oldest);
	}
	n->fd = fd;
	s->ndescriptors++;
	fs_node_used(s, n);
	return 0;
}

void fs_node_set_name(
	struct fs_session *s, struct fs_node *n, const struct fs_node *dir, const char *name)
{
	if (name && n->name && n->parent == dir->id && streq(n->name, name))
		return;
	free(n->name);
	/* Out of memory, it has no name that is known. */
	n->name = name ? strdup(name) : NULL;
	n->parent = name ? dir->id : 0;
	fs_node_used(s, n);
}

static int reopen(struct fs_session *s, struct fs_node *dir, struct fs_node *n)
{
	struct statx st;

	/* Not what the new descriptor takes the place of. */
	fs_node_used(s, dir);
	_cleanup_fd_ int fd = sys_openat2(dir->fd, n->name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? -ENFILE : -ESTALE;
	if (fs_node_stat(fd, &st) < 0 || !fs_node_is(n, &st))
		return -ESTALE;
	int e = fs_node_set_fd(s, n, fd);
	if (e == 0)
		take_fd(&fd);
	return e;
}

int fs_node_hold(struct fs_session *s, struct fs_node *n)
{
	while (n->fd < 0) {
		struct fs_node *at = n, *dir;

		/* The one nearest to the root that is parked, then the next. */
		for (int depth = 0; (dir = fs_node_get(s, at->parent)) && dir->fd < 0; at = dir)
			if (++depth > DEPTH_MAX)
				return -ESTALE;
		if (!dir)
			return -ESTALE;
		int e = reopen(s, dir, at);
		if (e < 0)
			return e;
	}
	fs_node_used(s, n);
	return 0;
}

int fs_node_pin(struct fs_session *s, struct fs_node *n)
{
	int e = fs_node_hold(s, n);

	if (e == 0) {
		n->files++;
		fs_node_used(s, n);
	}
	return e;
}

void fs_node_unpin(struct fs_session *s, struct fs_node *n)
{
	n->files--;
	fs_node_put(s, n);
}
