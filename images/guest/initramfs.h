/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes an initramfs: a cpio archive of format "newc", uncompressed, as Linux unpacks it into its
 *first root file system (Documentation/driver-api/early-userspace/buffer-format.rst,
 *init/initramfs.c of 6.1).
 *
 *	_cleanup_initramfs_ struct initramfs w = {0};
 *	int fd = initramfs_memfd("guest");
 *	initramfs_begin(&w, fd, "guest initramfs");
 *	initramfs_dir(&w, "dev", &(struct initramfs_attr){.mode = 0755});
 *	initramfs_node(&w, "dev/console", &(struct initramfs_attr){.mode = S_IFCHR | 0600}, 5, 1);
 *	initramfs_file(&w, "init", &(struct initramfs_attr){.mode = 0755}, init_fd);
 *	initramfs_end(&w);
 *
 * The same calls give the same bytes: entries stand in the order of the calls, times are 0, inode
 *numbers count from 1. What the kernel would drop without a word is an error here: an entry whose
 *directory has not been written before it, a name or a link's target that is too long.
 *
 * One thread a writer. The writer owns its memory and neither fd nor any descriptor given to it;
 *after an error the archive is unfinished and only initramfs_release() may follow. Names are
 *relative to the guest's root
 * ("sbin/init"): no leading or trailing '/', no "", "." or ".." as a component: -EINVAL. Every
 *message names the archive (`what`) and the entry.
 */
#pragma once
#include <stdint.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/str.h"

#define INITRAMFS_MAX_NAME 4095          /* bytes of a name or of a link's target: PATH_MAX - 1 */
#define INITRAMFS_MAX_FILE 0xffffffffULL /* bytes of one file: eight hexadecimal digits */
#define INITRAMFS_MAX_ENTRIES 65536

struct initramfs_attr {
	mode_t mode; /* permission bits; for nodes with S_IFCHR, S_IFBLK, S_IFIFO or S_IFSOCK */
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

/* A memfd for an archive, close-on-exec and sealable (F_ADD_SEALS). -errno of memfd_create(2). */
int initramfs_memfd(const char *name) must_check;

/*
 * Starts an archive at the end of fd (open for writing, seekable), padded to 4 bytes with zeros:
 * after an earlier archive that makes a concatenation, which the kernel unpacks one after the
 * other. what: see above.
 */
int initramfs_begin(struct initramfs *w, int fd, const char *what) must_check;

/* Entries. -EINVAL: name, mode; -EEXIST: written before; -ENOENT: its directory was not; -E2BIG:
 * too many. */
int initramfs_dir(struct initramfs *w, const char *name, const struct initramfs_attr *attr)
	must_check;
/* The whole of a regular file, from its offset 0. -EIO: it changed its length meanwhile; -EFBIG:
 * too large. */
int initramfs_file(struct initramfs *w, const char *name, const struct initramfs_attr *attr, int fd)
	must_check;
int initramfs_data(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	const struct strbuf *data) must_check;
/* Device nodes (major up to 4095, minor up to 2^20 - 1, as Linux has them), FIFOs and sockets (0,
 * 0). */
int initramfs_node(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	uint32_t major, uint32_t minor) must_check;

/* Writes the trailer. The archive is then whole and another may begin on the same descriptor. */
int initramfs_end(struct initramfs *w) must_check;

/* Frees the writer's memory; the descriptor stays open. */
void initramfs_release(struct initramfs *w);
#define _cleanup_initramfs_ __attribute__((cleanup(initramfs_release), unused))

/*
 * Appends the file archive (an initramfs, compressed or not) to fd, at 4-byte alignment: behind
 * Debian's or a cached one, before or after one of our own. -EINVAL: it starts as no archive that
 * Linux 6.1 unpacks.
 */
int initramfs_append(int fd, int archive, const char *what) must_check;
