/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. caisson takes the same locks on image files as QEMU, so that the two do not
 * use an image at the same time.
 *
 * A lock is a set of bytes of the file, locked for reading by an open file description (OFD). A
 * lock on byte 100 + i says "I do i", a lock on byte 200 + i "nobody else may do i", where i is 0
 * for reading consistent data, 1 for writing and 3 for changing the size. A process that opens an
 * image first locks its own bytes, then checks whether another process holds a lock that excludes
 * one of them. So if two processes open the image at the same time, at least one of them sees the
 * other's locks. The bytes need not exist in the file, and nothing is written.
 */
#include "images/disk/lock.h"

#include <fcntl.h>

#define DOES_BASE 100
#define FORBIDS_BASE 200

enum { CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE };

static int lock_byte(int fd, int cmd, off_t at, struct flock *l)
{
	*l = (struct flock){.l_type = cmd == F_OFD_GETLK ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = at,
		.l_len = 1};
	return fcntl(fd, cmd, l) < 0 ? -errno : 0;
}

/*
 * Returns -EAGAIN if another open file description has locked the byte at `at`. `why` says what the
 * process that holds the lock does with the image; the error message quotes it.
 */
static int check_byte(int fd, const char *name, off_t at, const char *why)
{
	struct flock l;
	int r = lock_byte(fd, F_OFD_GETLK, at, &l);

	if (r < 0)
		return err_set(-r, "%s: look for locks of others: %s", name, err_text(-r));
	if (l.l_type != F_UNLCK)
		return err_set(EAGAIN, "%s: another process %s: end it first", name, why);
	return 0;
}

static int take_bytes(int fd, const char *name, const int *does, const int *forbids)
{
	struct flock l;
	int r = 0;

	for (; *does >= 0 && r >= 0; does++)
		r = lock_byte(fd, F_OFD_SETLK, DOES_BASE + *does, &l);
	for (; *forbids >= 0 && r >= 0; forbids++)
		r = lock_byte(fd, F_OFD_SETLK, FORBIDS_BASE + *forbids, &l);
	/*
	 * An error of fcntl(2) here means that the file system does not support locks. It cannot
	 * mean that another process holds the lock, because all processes take read locks, which do
	 * not conflict.
	 */
	return r < 0 ? err_set(-r, "%s: lock it: %s", name, err_text(-r)) : 0;
}

int disk_lock(int fd, const char *name, bool write, bool shared)
{
	static const int reads[] = {CONSISTENT_READ, -1};
	static const int writes[] = {CONSISTENT_READ, WRITE, RESIZE, -1};
	static const int nothing[] = {-1}, changes[] = {WRITE, RESIZE, -1};

	int r = take_bytes(fd, name, write ? writes : reads, shared ? nothing : changes);
	if (r >= 0)
		r = check_byte(
			fd, name, FORBIDS_BASE + CONSISTENT_READ, "does not let others read it");
	if (r >= 0 && !shared) {
		r = check_byte(fd, name, DOES_BASE + WRITE, "writes it");
		if (r >= 0)
			r = check_byte(fd, name, DOES_BASE + RESIZE, "may change its size");
	}
	if (r >= 0 && write) {
		r = check_byte(fd, name, FORBIDS_BASE + WRITE, "uses it");
		if (r >= 0)
			r = check_byte(fd, name, FORBIDS_BASE + RESIZE, "uses it");
	}
	return r;
}
