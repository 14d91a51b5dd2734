/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: images on this machine.
 *
 *	DIR/images/             an OCI image layout, which skopeo and umoci read in place
 *	DIR/images/index.json   the tags: descriptors with the annotation ANNOTATION_REF_NAME
 *	DIR/images/blobs/ALGORITHM/HEX
 *	DIR/partial/            blobs that are being written
 *
 * Order of calls: store_open(), then any, then store_close(). From store_open() on the process
 * holds a shared lock, so that no other process removes blobs meanwhile. kill -9 at any point
 * leaves nothing half-done in use: a blob gets its name only once its digest was checked, and
 * index.json is replaced as a whole.
 *
 * A struct store may be used by several threads, a struct blob_writer by one at a time.
 */
#pragma once
#include "base/fd.h"
#include "images/oci/oci.h"

enum store_sync {
	STORE_SYNC,    /* what is finished outlives a crash of the machine (fsync) */
	STORE_NO_SYNC, /* it outlives a crash of the process */
};

struct store {
	const char *path; /* for messages */
	int dir;          /* DIR */
	int images;       /* DIR/images */
	int blobs[2];     /* DIR/images/blobs/ALGORITHM, by enum digest_algorithm */
	int partial;      /* DIR/partial */
	int lock;         /* DIR/lock, locked shared */
	enum store_sync sync;
};

#define STORE_INIT \
	{ \
		.dir = -EBADF, .images = -EBADF, .blobs = {-EBADF, -EBADF}, .partial = -EBADF, \
		.lock = -EBADF \
	}

/*
 * Opens the store in the directory path, and makes it if nothing is there. path must stay valid.
 * NULL: /var/lib/caisson for root, else $XDG_DATA_HOME/caisson or ~/.local/share/caisson.
 */
int store_open(struct store *s, const char *path, enum store_sync sync) must_check;
void store_close(struct store *s);
#define _cleanup_store_ __attribute__((cleanup(store_close), unused))

/* 1: the blob is here, whole. 0: it is not. Its size must be the given one. */
int store_has_blob(const struct store *s, const struct digest *d, uint64_t size) must_check;

/* Opens a blob for reading. -ENOENT: it is not here. *ret_size may be NULL. */
int store_open_blob(const struct store *s, const struct digest *d, uint64_t *ret_size) must_check;

/*
 * Reads the blob of a manifest, an index or a configuration (up to OCI_DOCUMENT_MAX bytes), and
 * checks its size and digest.
 */
int store_read_document(const struct store *s, const struct descriptor *d, struct strbuf *ret)
	must_check;

/* A blob that is being written. */
struct blob_writer {
	const struct store *store;
	int fd;                      /* in DIR/partial, locked; -EBADF: not open */
	char name[DIGEST_TEXT_SIZE]; /* there */
	struct hasher hasher;
	struct digest expected; /* "" text: not known before the end */
	uint64_t size;          /* bytes it will have; UINT64_MAX: not known */
	uint64_t written;       /* bytes it has */
};

#define BLOB_WRITER_INIT \
	{ \
		.fd = -EBADF \
	}

/*
 * Begins a blob. Its digest and size are those of a descriptor, or expected is NULL and size
 * UINT64_MAX where they are to be found out. Returns
 *	0: w is ready. w->written bytes are there already, from a download that was cut, and are
 *	   digested: go on from this offset, or call blob_restart().
 *	1: the blob is here already; w is not open.
 *	-EBUSY: another process, or another writer of this one, is writing it: try again later.
 */
int blob_begin(const struct store *s, const struct digest *expected, uint64_t size,
	struct blob_writer *w) must_check;

/* Forgets what was written: for a server that cannot go on from an offset. */
int blob_restart(struct blob_writer *w) must_check;

/* Writes the next bytes. -EFBIG: more than the blob's size. */
int blob_write(struct blob_writer *w, const void *data, size_t len) must_check;

/*
 * Checks size and digest, makes the blob last as the store's policy says, and gives it its name.
 * -EBADMSG: another size or digest; what was written is removed. *ret (may be NULL) is its
 * descriptor's digest and size. w is closed.
 */
int blob_finish(struct blob_writer *w, struct digest *ret, uint64_t *ret_size) must_check;

/*
 * Closes w if it is open. What was written of a blob of known digest stays, so that a later
 * blob_begin() goes on from there; otherwise it is removed.
 */
void blob_close(struct blob_writer *w);
#define _cleanup_blob_ __attribute__((cleanup(blob_close), unused))

/* Writes a whole blob. d->media_type is left alone, digest and size are set. */
int store_add_blob(const struct store *s, const void *data, size_t len, struct descriptor *d)
	must_check;

/*
 * Sets a tag: name ("docker.io/library/debian:12") means what d describes, from now on. All blobs
 * that d leads to must be here before. An older meaning of the name is replaced.
 */
int store_tag(const struct store *s, const char *name, const struct descriptor *d) must_check;

/* Removes a tag. -ENOENT: there is none of that name. The blobs stay until store_gc(). */
int store_untag(const struct store *s, const char *name) must_check;

/* Reads all tags: an index, each descriptor with its ref_name (NULL for a descriptor without). */
int store_tags(const struct store *s, struct arena *a, struct document *ret) must_check;

/* Finds the tag of that name. -ENOENT: there is none. */
int store_find_tag(const struct store *s, struct arena *a, const char *name, struct descriptor *ret)
	must_check;

/* What store_gc() removed. */
struct store_freed {
	uint64_t blobs, bytes;
};

/*
 * Removes every blob that no tag leads to, and what downloads left. -EBUSY: another process uses
 * the store; nothing was removed.
 */
int store_gc(struct store *s, struct store_freed *ret) must_check;
