/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes an initramfs: an uncompressed cpio archive of the format "newc", which Linux unpacks into
 * its first root file system (Documentation/driver-api/early-userspace/buffer-format.rst,
 * init/initramfs.c of 6.1).
 *
 *	_cleanup_initramfs_ struct initramfs w = {0};
 *	int fd = initramfs_memfd("guest");
 *	initramfs_begin(&w, fd, "guest initramfs");
 *	initramfs_dir(&w, "dev", &(struct initramfs_attr){.mode = 0755});
 *	initramfs_node(&w, "dev/console", &(struct initramfs_attr){.mode = S_IFCHR | 0600}, 5, 1);
 *	initramfs_file(&w, "init", &(struct initramfs_attr){.mode = 0755}, init_fd);
 *	initramfs_end(&w);
 *
 * The same calls give the same bytes: the entries are in the order of the calls, all times are 0,
 * and inode numbers count from 1. The kernel silently drops an entry whose directory has not been
 * written before it, or whose name is too long; here both are errors.
 *
 * A writer belongs to one thread. It owns its memory, but neither fd nor any descriptor that it is
 * given. After an error the archive is unfinished, and only initramfs_release() may follow.
 *
 * Names are relative to the guest's root, such as "sbin/init". A leading or trailing '/', or "",
 * "." or ".." as a component, is -EINVAL. Every message names the archive (`what`) and the entry.
 */
#pragma once
#include <stdint.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/str.h"

#define INITRAMFS_MAX_NAME 4095          /* bytes of a name: PATH_MAX - 1 */
#define INITRAMFS_MAX_FILE 0xffffffffULL /* bytes of one file: eight hexadecimal digits */
#define INITRAMFS_MAX_ENTRIES 65536

struct initramfs_attr {
	mode_t mode; /* permission bits; for nodes also S_IFCHR, S_IFBLK, S_IFIFO or S_IFSOCK */
	uid_t uid;
	gid_t gid;
};

struct initramfs {
	struct arena arena;
	void *names;      /* search tree of the entries written so far */
	const char *what; /* borrowed: names the archive in errors */
	uint64_t offset;  /* bytes written, from the start of fd */
	uint32_t entries;
	int fd; /* borrowed */
};

/*
 * Makes a memfd for an archive, close-on-exec and sealable (F_ADD_SEALS). -errno of
 * memfd_create(2).
 */
int initramfs_memfd(const char *name) must_check;

/*
 * Starts an archive at the end of fd, which is open for writing and can seek. The end is first
 * padded to 4 bytes with zeros. Behind an earlier archive this makes a concatenation, and the
 * kernel unpacks one archive after the other. what: the name of the archive in messages.
 */
int initramfs_begin(struct initramfs *w, int fd, const char *what) must_check;

/*
 * The next four functions write an entry each. -EINVAL: a wrong name or mode; -EEXIST: the name has
 * been written before; -ENOENT: its directory has not been written; -E2BIG: too many entries.
 */
int initramfs_dir(struct initramfs *w, const char *name, const struct initramfs_attr *attr)
	must_check;
/*
 * Writes a regular file with the bytes of fd, from offset 0. -EIO: the length changed while the
 * file was read; -EFBIG: the file is too large.
 */
int initramfs_file(struct initramfs *w, const char *name, const struct initramfs_attr *attr, int fd)
	must_check;
int initramfs_data(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	const struct strbuf *data) must_check;
/*
 * Writes a device node (major up to 4095, minor up to 2^20 - 1, which are Linux's limits), or a
 * FIFO or a socket (major and minor 0).
 */
int initramfs_node(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	uint32_t major, uint32_t minor) must_check;

/*
 * Writes the trailer, which completes the archive. Another archive may begin on the same
 * descriptor.
 */
int initramfs_end(struct initramfs *w) must_check;

/* Frees the writer's memory; the descriptor stays open. */
void initramfs_release(struct initramfs *w);
#define _cleanup_initramfs_ __attribute__((cleanup(initramfs_release), unused))

/*
 * Appends a finished archive, compressed or not, to fd at 4-byte alignment. -EINVAL: the file does
 * not start as an archive that Linux 6.1 unpacks.
 */
int initramfs_append(int fd, int archive, const char *what) must_check;
