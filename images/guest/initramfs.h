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
 * written before it, or whose name is too long; these functions refuse such an entry with an error.
 *
 * Only one thread may use a writer. The writer owns its memory, but the caller owns fd and all
 * other descriptors. After an error the archive is unfinished, and only initramfs_release() may
 * follow.
 *
 * Names are relative to the guest's root, such as "sbin/init". A name with a leading or trailing
 * '/', or with the component "", "." or "..", is refused with -EINVAL. Every message names the
 * archive (`what`) and the entry.
 */
#pragma once
#include <stdint.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/str.h"

#define INITRAMFS_MAX_NAME 4095 /* longest name in bytes: PATH_MAX - 1 */
/* largest file in bytes, because the header has eight hexadecimal digits for the size */
#define INITRAMFS_MAX_FILE 0xffffffffULL
#define INITRAMFS_MAX_ENTRIES 65536

struct initramfs_attr {
	mode_t mode; /* permission bits; for nodes also S_IFCHR, S_IFBLK, S_IFIFO or S_IFSOCK */
	uid_t uid;
	gid_t gid;
};

struct initramfs {
	struct arena arena;
	void *names;      /* search tree of the entries written so far */
	const char *what; /* name of the archive in error messages; the caller owns the string */
	uint64_t offset;  /* number of bytes written, counted from the start of fd */
	uint32_t entries;
	int fd; /* the archive's file; the caller closes it */
};

/*
 * Makes a memfd for an archive, with close-on-exec, whose size can be sealed (F_ADD_SEALS). Returns
 * the descriptor, or the -errno of memfd_create(2).
 */
int initramfs_memfd(const char *name) must_check;

/*
 * Starts an archive at the end of fd, which must be open for writing and seekable. First adds zeros
 * up to a multiple of 4 bytes. If fd holds an archive already, the kernel will unpack that archive
 * first and then the new one. `what` is the name of the archive, which error messages use.
 */
int initramfs_begin(struct initramfs *w, int fd, const char *what) must_check;

/*
 * The next four functions write an entry each. They return -EINVAL for a wrong name or mode,
 * -EEXIST if the name was written before, -ENOENT if the directory of the name was not written,
 * -E2BIG if there are too many entries.
 */
int initramfs_dir(struct initramfs *w, const char *name, const struct initramfs_attr *attr)
	must_check;
/*
 * Writes a regular file with all bytes of fd, from offset 0. Returns -EIO if the length of the file
 * changes while it is read, -EFBIG if the file is too large.
 */
int initramfs_file(struct initramfs *w, const char *name, const struct initramfs_attr *attr, int fd)
	must_check;
int initramfs_data(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	const struct strbuf *data) must_check;
/*
 * Writes a device node, a FIFO or a socket. For a device Linux allows major numbers up to 4095 and
 * minor numbers up to 2^20 - 1; for a FIFO and a socket both numbers must be 0.
 */
int initramfs_node(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	uint32_t major, uint32_t minor) must_check;

/*
 * Writes the trailer, which completes the archive. Afterwards another archive may begin on the same
 * descriptor.
 */
int initramfs_end(struct initramfs *w) must_check;

/* Frees the writer's memory. The descriptor stays open. */
void initramfs_release(struct initramfs *w);
#define _cleanup_initramfs_ __attribute__((cleanup(initramfs_release), unused))

/*
 * Appends the finished archive in file `archive`, compressed or not, to fd, aligned to 4 bytes.
 * Returns -EINVAL if the file does not begin like an archive that Linux 6.1 unpacks.
 */
int initramfs_append(int fd, int archive, const char *what) must_check;
