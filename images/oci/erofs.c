/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the EROFS image of a chain of unpacked layers.
 *
 * Theory of operation. mkfs.erofs(1) takes the path of a directory and resolves symbolic links in
 * it, so the tree needs a place in the file system. This process enters a mount namespace of its
 * own, and attaches the tree to STORE/layers there; no other process sees that mount. The image is
 * written to a file in STORE/partial, which this process locks. If this process is killed, the
 * kernel removes the lock and the mount, and the next process writes the file anew.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/helper.h"
#include "base/sys.h"
#include "images/oci/chain.h"
#include "images/oci/store_internal.h"

#define PROGRAM "mkfs.erofs"
#define MESSAGES_MAX 65536
#define NOT_EXECUTED 127 /* exit code of a helper that could not be executed */

struct making {
	const struct store *s;
	const char *layers;
	char name[CHAIN_EROFS_SIZE];         /* name of the image in STORE/layers */
	char partial[CHAIN_EROFS_SIZE + 32]; /* path in STORE of the unfinished image */
	struct strbuf tree, image; /* absolute paths of the tree and of the file that is written */
};

static void release(struct making *m)
{
	strbuf_release(&m->tree);
	strbuf_release(&m->image);
}

static bool exists(const struct making *m)
{
	return faccessat(m->s->layers, m->name, F_OK, 0) == 0;
}

/*
 * Opens the file in STORE/partial, makes it if it is missing, and locks it. While this process
 * waits for the lock, the process that holds it may remove the file. The lock of a removed file
 * keeps no other process away, so this process then opens the file anew.
 */
static int open_partial(const struct making *m)
{
	struct stat st;

	for (;;) {
		_cleanup_fd_ int fd =
			openat(m->s->dir, m->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return err_sys("open %s", strbuf_str(&m->image));
		int r = store_lock_file(fd, LOCK_EX);
		if (r < 0)
			return err_set(-r, "lock %s: %s", strbuf_str(&m->image), err_text(-r));
		if (fstat(fd, &st) < 0)
			return err_sys("look at %s", strbuf_str(&m->image));
		if (st.st_nlink > 0)
			return take_fd(&fd);
	}
}

/*
 * Opens the tree of the layers as a detached mount. If there is only one layer, chain_open_view()
 * returns that layer's plain directory, so this function makes a detached mount of the directory.
 */
static int open_tree_of(const struct making *m)
{
	_cleanup_fd_ int view = chain_open_view(m->s, m->layers);

	if (view < 0 || strchr(m->layers, ':'))
		return view < 0 ? view : take_fd(&view);
	int copy = open_tree(view, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return copy < 0 ? err_sys("copy the mount of %s", strbuf_str(&m->tree)) : copy;
}

static int attach_tree(const struct making *m)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys("make a mount namespace");
	_cleanup_fd_ int tree = open_tree_of(m);
	if (tree < 0)
		return tree;
	if (move_mount(tree, "", AT_FDCWD, strbuf_str(&m->tree), MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("attach the image's tree to %s", strbuf_str(&m->tree));
	return 0;
}

static int run_program(const struct making *m)
{
	const char *argv[] = {
		PROGRAM, "--quiet", strbuf_str(&m->image), strbuf_str(&m->tree), NULL};
	_cleanup_helper_streams_ struct helper_streams streams = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf messages = {0};
	int status;
	int r = helper_streams_open(&streams, NULL, 0);

	if (r >= 0)
		r = helper_run(&streams, PROGRAM, argv, &status);
	if (r < 0 || status == 0)
		return r;
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_EXECUTED)
		return err_set(ENOENT, PROGRAM " cannot be executed: install the package "
					       "erofs-utils");
	r = helper_read(&streams, 2, &messages, MESSAGES_MAX);
	return r < 0 ? r
		     : err_set(EIO, PROGRAM " of %s failed: %s", m->name,
			       helper_last_line(&messages));
}

/*
 * Writes the image to the file `fd`, whose lock this process holds, and renames the file to the
 * image's name.
 */
static int write_image(const struct making *m, int fd)
{
	if (ftruncate(fd, 0) < 0)
		return err_sys("empty %s", strbuf_str(&m->image));
	int r = attach_tree(m);
	if (r < 0)
		return r;
	r = run_program(m);
	if (umount2(strbuf_str(&m->tree), MNT_DETACH) < 0 && r >= 0)
		r = err_sys("detach the image's tree from %s", strbuf_str(&m->tree));
	if (r >= 0 && m->s->sync == STORE_SYNC && fsync(fd) < 0)
		r = err_sys("sync %s", strbuf_str(&m->image));
	if (r >= 0 && renameat(m->s->dir, m->partial, m->s->layers, m->name) < 0)
		r = err_sys("rename %s", strbuf_str(&m->image));
	if (r >= 0 && m->s->sync == STORE_SYNC && fsync(m->s->layers) < 0)
		r = err_sys("sync %s", strbuf_str(&m->tree));
	return r;
}

static int make(const struct making *m)
{
	_cleanup_fd_ int fd = open_partial(m);

	if (fd < 0)
		return fd;
	/*
	 * Another process may have made the image while this process waited for the lock. This
	 * process then holds the lock of that image, or of an empty file.
	 */
	int r = exists(m) ? 0 : write_image(m, fd);
	if ((r < 0 || exists(m)) && unlinkat(m->s->dir, m->partial, 0) < 0 && errno != ENOENT &&
		r >= 0)
		r = err_sys("remove %s", strbuf_str(&m->image));
	return r;
}

int chain_make_erofs(const struct store *s, const char *layers)
{
	__attribute__((cleanup(release))) struct making m = {.s = s, .layers = layers};
	_cleanup_free_ char *real = realpath(s->path, NULL);

	chain_erofs_name(layers, m.name);
	if (exists(&m))
		return 0;
	if (!real)
		return err_sys("look at %s", s->path);
	snprintf(m.partial, sizeof(m.partial), "partial/erofs-%s", m.name);
	int r = strbuf_addf(&m.tree, "%s/layers", real);
	if (r >= 0)
		r = strbuf_addf(&m.image, "%s/%s", real, m.partial);
	return r < 0 ? r : make(&m);
}
