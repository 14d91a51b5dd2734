/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The guest may know many more inodes than this process or the host may have open descriptors: the
 * source of a kernel alone has 80,000 files. So the descriptors of nodes are a cache. If another
 * node needs a descriptor, the least recently used node is parked: its descriptor is closed,
 * provided that no file is open on the node and that the node's directory and name are known. When
 * a parked node is used again, the server opens a new descriptor by the node's name in its
 * directory, which may be parked and opened in the same way. The file with that name must be the
 * same inode, by device, number, mount and birth time. Otherwise the request fails with ESTALE, and
 * the guest's kernel looks the path up again.
 *
 * The node of a file that the guest has only looked up is parked from the start, if its file system
 * has birth times. The server opens a descriptor for the node when a request uses it.
 *
 * These nodes keep their descriptors: the root, those that the guest has open, and those without a
 * known name, because they were unlinked or never had one. The server updates the recorded names at
 * each rename by the guest and at each lookup. The server does not see renames on the host; after a
 * rename there, requests for the node fail with ESTALE until the next lookup.
 */
#include "vm/fs/fs.h"

#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

/*
 * How many directories above a node the server opens again at most, in order to open the node.
 * There is a limit because renames on the host can make the recorded parents a circle.
 */
#define DEPTH_MAX 4096

static void unlist_node(struct fs_session *s, struct fs_node *n)
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
	unlist_node(s, n);
	if (n->fd < 0 || !n->name || n->files)
		return;
	n->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = n;
	s->newest = n;
	n->listed = true;
}

void fs_node_close(struct fs_session *s, struct fs_node *n)
{
	unlist_node(s, n);
	if (n->fd < 0)
		return;
	fd_close(&n->fd);
	s->ndescriptors--;
}

static void park_node(struct fs_session *s, struct fs_node *n)
{
	struct statx st;

	/*
	 * Reads the inode's birth time once more, because overlayfs reports another birth time
	 * after it has copied the file up.
	 */
	if (fs_node_stat(n->fd, &st) == 0)
		n->birth = st.stx_btime;
	fs_node_close(s, n);
}

int fs_make_room(struct fs_session *s, uint32_t n)
{
	while (s->ndescriptors + s->nfiles + s->nowners + n > s->config->max_descriptors) {
		if (!s->oldest)
			return -ENFILE;
		park_node(s, s->oldest);
	}
	return 0;
}

int fs_node_set_fd(struct fs_session *s, struct fs_node *n, int fd)
{
	int e = fs_make_room(s, 1);
	if (e < 0)
		return e;
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
	/*
	 * If there is no memory for the copy of the name, the node counts as one without a known
	 * name, so that its descriptor stays open.
	 */
	n->name = name ? strdup(name) : NULL;
	n->parent = name ? dir->id : 0;
	fs_node_used(s, n);
}

static int reopen_node(struct fs_session *s, struct fs_node *dir, struct fs_node *n)
{
	struct statx st;

	/*
	 * Marks the directory as used, so that the cache does not close the directory's descriptor
	 * to make room for the node's new descriptor.
	 */
	fs_node_used(s, dir);
	_cleanup_fd_ int fd = sys_openat2(dir->fd, n->name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? -ENFILE : -ESTALE;
	if (fs_node_stat(fd, &st) < 0 || !fs_node_is(n, &st))
		return -ESTALE;
	fs_node_found(s, n, &st);
	int e = fs_node_set_fd(s, n, fd);
	if (e == 0)
		take_fd(&fd);
	return e;
}

int fs_node_hold(struct fs_session *s, struct fs_node *n)
{
	while (n->fd < 0) {
		struct fs_node *at = n, *dir;

		/*
		 * Finds, among the directories above the node whose descriptors are closed, the one
		 * that is nearest to the root. The server opens this directory first, because each
		 * directory is opened by its name in its parent.
		 */
		for (int depth = 0; (dir = fs_node_get(s, at->parent)) && dir->fd < 0; at = dir)
			if (++depth > DEPTH_MAX)
				return -ESTALE;
		if (!dir)
			return -ESTALE;
		int e = reopen_node(s, dir, at);
		if (e < 0)
			return e;
	}
	fs_node_used(s, n);
	return 0;
}
