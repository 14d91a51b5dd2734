/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/checkpoint.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/data_dir.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/remove.h"
#include "launch/host.h"
#include "launch/launch.h"
#include "launch/vm_client.h"

#define COMPLETE "vm" /* name of a complete checkpoint in the directory of --image-path */
/*
 * name of a file by which podman knows that a checkpoint is complete, because CRIU writes one of
 * this name last
 */
#define INVENTORY "inventory.img"
#define INVENTORY_TEXT "The checkpoint of a microVM is in the directory " COMPLETE ".\n"
#define UNDER_WAY ".vm.new" /* name of a checkpoint that is not complete yet */

/*
 * Makes the directory of --image-path, and those above it, unless they are there. Returns 1 if it
 * was made, or 0 if it was there.
 */
static int make_image(const char *path)
{
	const bool there = access(path, F_OK) == 0;
	int r = data_dir_make(path);

	return r < 0 ? err_ctx(r, "--image-path") : !there;
}

static int open_image(const char *path)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? err_sys("--image-path %s", path) : dir;
}

/*
 * Locks the directory of --image-path until its descriptor is closed, because all checkpoints that
 * are written into it have the same name, UNDER_WAY, until they are complete.
 */
static int lock_image(int image, const char *path)
{
	if (flock(image, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return err_sys("--image-path %s: lock the directory", path);
	return err_set(EBUSY,
		"--image-path %s: another checkpoint into this directory is under way: wait for "
		"its "
		"end, or name another directory",
		path);
}

static int make_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? err_sys("--image-path: make the file " UNDER_WAY "/%s", name) : fd;
}

/*
 * Makes the directory in which a checkpoint is written. If a killed command has left an incomplete
 * checkpoint there, that is removed first.
 */
static int make_directory(int image)
{
	int r = remove_tree(image, UNDER_WAY, NULL);

	if (r < 0)
		return err_ctx(r, "--image-path");
	if (mkdirat(image, UNDER_WAY, 0700) < 0)
		return err_sys("--image-path: make the directory " UNDER_WAY);
	int dir = openat(image, UNDER_WAY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return dir < 0 ? err_sys("--image-path: open " UNDER_WAY) : dir;
}

/*
 * Renames the checkpoint, which is complete, to its final name. If an older checkpoint has that
 * name, the two exchange their names in one step, and the older one is removed afterwards.
 */
static int complete(int image, int dir, int state, int memory)
{
	if (fsync(state) < 0 || fsync(memory) < 0 || fsync(dir) < 0)
		return err_sys("--image-path: make the checkpoint durable");
	int r = renameat2(image, UNDER_WAY, image, COMPLETE, RENAME_NOREPLACE);
	if (r < 0 && errno == EEXIST)
		r = renameat2(image, UNDER_WAY, image, COMPLETE, RENAME_EXCHANGE);
	if (r < 0 || fsync(image) < 0)
		return err_sys("--image-path: give the checkpoint its name");
	if (remove_tree(image, UNDER_WAY, NULL) < 0)
		log_warn("--image-path: remove the former checkpoint: %s", err_msg());
	int k = fd_replace_file(image, INVENTORY, INVENTORY_TEXT, strlen(INVENTORY_TEXT), 0600);
	return k < 0 ? err_ctx(k, "--image-path: " INVENTORY) : 0;
}

static int save(struct container *c, int image, bool leave_running)
{
	_cleanup_fd_ int dir = make_directory(image);
	if (dir < 0)
		return dir;
	_cleanup_fd_ int state = make_file(dir, "state");
	if (state < 0)
		return state;
	_cleanup_fd_ int memory = make_file(dir, "memory");
	if (memory < 0)
		return memory;
	_cleanup_fd_ int sock = vm_checkpoint(c, state, memory);
	if (sock < 0)
		return sock;
	/*
	 * Closing the connection to the monitor lets the machine go on, so the machine need not
	 * wait until the checkpoint is on disk.
	 */
	if (leave_running)
		fd_close(&sock);
	int r = complete(image, dir, state, memory);
	return r < 0 || leave_running ? r : vm_end(c, sock);
}

static int write_image(struct container *c, const struct checkpoint_options *o)
{
	_cleanup_fd_ int image = open_image(o->image_path);
	if (image < 0)
		return image;
	int r = lock_image(image, o->image_path);
	if (r < 0)
		return r;
	if (!c->vm) {
		r = criu_checkpoint(c, o, image);
		return r < 0 || o->leave_running || o->criu.pre_dump ? r : launch_delete(c, false);
	}
	r = save(c, image, o->leave_running);
	if (r >= 0)
		return o->leave_running ? 0 : launch_delete(c, false);
	_cleanup_free_ char *why = strdup(err_msg());
	if (remove_tree(image, UNDER_WAY, NULL) < 0)
		log_warn("--image-path: remove the unfinished checkpoint: %s", err_msg());
	return err_set(-r, "%s", why ? why : "out of memory");
}

int launch_checkpoint(struct container *c, const struct checkpoint_options *o)
{
	const int made = make_image(o->image_path);

	if (made < 0)
		return made;
	int r = write_image(c, o);
	/* The directory stays if something is in it, such as the log of CRIU. */
	if (r < 0 && made && rmdir(o->image_path) < 0)
		log_debug("--image-path %s: remove the directory: %s", o->image_path,
			strerror(errno));
	return r;
}

static int open_file(int dir, const char *path, const char *name)
{
	struct stat st;
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("--image-path %s: " COMPLETE "/%s", path, name);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "--image-path %s: " COMPLETE "/%s: expected a regular file",
			path, name);
	return take_fd(&fd);
}

int checkpoint_open(struct launch *l, const char *path)
{
	_cleanup_fd_ int image = open_image(path);
	if (image < 0)
		return image;
	_cleanup_fd_ int dir =
		openat(image, COMPLETE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_sys(
			"--image-path %s: it has no checkpoint of a microVM, " COMPLETE, path);
	l->vm.restore.state = open_file(dir, path, "state");
	if (l->vm.restore.state < 0)
		return l->vm.restore.state;
	l->vm.restore.memory = open_file(dir, path, "memory");
	return l->vm.restore.memory < 0 ? l->vm.restore.memory : 0;
}
