/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps images on this machine, in a directory called the store. STORE is its path:
 *
 *	STORE/images/             an OCI image layout, which skopeo and umoci read in place
 *	STORE/images/index.json   the tags: descriptors with the annotation ANNOTATION_REF_NAME
 *	STORE/images/blobs/ALGORITHM/HEX
 *	STORE/partial/            blobs that are being written
 *	STORE/layers, chains      unpacked layers: see chain.h
 *	STORE/containers/NAME/    what a container uses: see container_dir.h
 *	STORE/volumes/NAME/       directories that containers mount by name: see volumes.h
 *
 * Order of calls: store_open(), then any others, then store_close(). In between the process holds a
 * shared lock, so that no other process removes blobs. If the process is killed at any point, no
 * incomplete file is ever used: a blob gets its name only after its digest was checked, and
 * index.json is replaced as a whole.
 *
 * Several threads may use a struct store, but only one a struct blob_writer.
 */
#pragma once
#include "base/fd.h"
#include "images/oci/oci.h"

enum store_sync {
	STORE_SYNC, /* call fsync(2), so that finished blobs survive a crash of the machine */
	/* do not call fsync(2), so that finished blobs survive only a crash of the process */
	STORE_NO_SYNC,
};

struct store {
	const char *path; /* path of the store, STORE, which error messages use */
	int dir;          /* descriptor of STORE */
	int images;       /* descriptor of STORE/images */
	/* descriptors of STORE/images/blobs/ALGORITHM, indexed by enum digest_algorithm */
	int blobs[2];
	int partial;    /* descriptor of STORE/partial */
	int layers;     /* descriptor of STORE/layers */
	int chains;     /* descriptor of STORE/chains */
	int containers; /* descriptor of STORE/containers */
	int lock;       /* descriptor of STORE/lock, which is locked in shared mode */
	enum store_sync sync;
};

#define STORE_INIT \
	{ \
		.dir = -EBADF, .images = -EBADF, .blobs = {-EBADF, -EBADF}, .partial = -EBADF, \
		.layers = -EBADF, .chains = -EBADF, .containers = -EBADF, .lock = -EBADF \
	}

/*
 * Opens the store in the directory `path`, and makes the store if there is none. The string must
 * stay valid. NULL means /var/lib/caisson for root, otherwise $XDG_DATA_HOME/caisson or
 * ~/.local/share/caisson.
 */
int store_open(struct store *s, const char *path, enum store_sync sync) must_check;
void store_close(struct store *s);
#define _cleanup_store_ __attribute__((cleanup(store_close), unused))

/* Returns 1 if the store has a complete blob with this digest and size, else 0. */
int store_has_blob(const struct store *s, const struct digest *d, uint64_t size) must_check;

/*
 * Opens a blob for reading and returns the descriptor, or -ENOENT if the store does not have it.
 * ret_size may be NULL.
 */
int store_open_blob(const struct store *s, const struct digest *d, uint64_t *ret_size) must_check;

/*
 * Opens a blob that is being written. It may get more bytes, and none of them has been checked.
 * Returns -ENOENT, without a message, if nobody is writing it.
 */
int store_open_unfinished(const struct store *s, const struct digest *d) must_check;

/*
 * Reads the blob of a manifest, an index or a configuration, up to OCI_DOCUMENT_MAX bytes, and
 * checks its size and digest.
 */
int store_read_document(const struct store *s, const struct descriptor *d, struct strbuf *ret)
	must_check;

/* A blob that is being written to the store, from blob_begin() to blob_finish() or blob_close(). */
struct blob_writer {
	const struct store *store;
	/* descriptor of the file in STORE/partial, which is locked; -EBADF: the file is not open */
	int fd;
	char name[DIGEST_TEXT_SIZE]; /* name of the file in STORE/partial */
	struct hasher hasher;
	/* digest that the blob must have; "" if the digest is not known before the end */
	struct digest expected;
	uint64_t size;    /* size that the blob must have in bytes; UINT64_MAX: not known */
	uint64_t written; /* number of bytes that are written */
};

#define BLOB_WRITER_INIT \
	{ \
		.fd = -EBADF \
	}

/*
 * Begins to write a blob. `expected` and `size` come from the blob's descriptor; if they are not
 * known, they are NULL and UINT64_MAX. Returns
 *
 *  0: *w is ready. w->written bytes are stored and digested already, from a download that was
 *     interrupted. The caller continues at this offset, or calls blob_restart().
 *  1: the store has the blob already; *w is not open.
 *  -EBUSY: another process, or another writer of this one, is writing the blob. The caller may try
 *     again later.
 */
int blob_begin(const struct store *s, const struct digest *expected, uint64_t size,
	struct blob_writer *w) must_check;

/*
 * Begins to write the blob that a descriptor describes. Waits if another process is writing the
 * same blob.
 */
int blob_begin_patiently(const struct store *s, const struct descriptor *d, struct blob_writer *w)
	must_check;

/*
 * Drops all bytes of the blob that are written, so that the caller can begin anew, because a server
 * may be unable to continue at an offset.
 */
int blob_restart(struct blob_writer *w) must_check;

/*
 * Appends bytes to the blob. Returns -EFBIG if the blob would become larger than its size allows.
 */
int blob_write(struct blob_writer *w, const void *data, size_t len) must_check;

/*
 * Checks size and digest, syncs the blob if the store is open with STORE_SYNC, and gives the blob
 * its final name. Closes *w. *ret and *ret_size (both may be NULL) are set to the digest and the
 * size. Returns -EBADMSG if size or digest are wrong; the bytes are then removed.
 */
int blob_finish(struct blob_writer *w, struct digest *ret, uint64_t *ret_size) must_check;

/*
 * Closes *w if it is open. If the blob's digest is known, the bytes that were written stay, so that
 * a later blob_begin() continues there; otherwise the bytes are removed.
 */
void blob_close(struct blob_writer *w);
#define _cleanup_blob_ __attribute__((cleanup(blob_close), unused))

/* Writes a whole blob, and sets digest and size of *d. Leaves d->media_type unchanged. */
int store_add_blob(const struct store *s, const void *data, size_t len, struct descriptor *d)
	must_check;

/* Writes a whole blob, whose size and digest must be those of the descriptor. */
int store_add_document(
	const struct store *s, const void *data, size_t len, const struct descriptor *d) must_check;

/*
 * Makes the tag `name`, such as "docker.io/library/debian:12", lead to what d describes. A tag of
 * this name that exists is replaced. All blobs to which d leads must already be in the store.
 */
int store_tag(const struct store *s, const char *name, const struct descriptor *d) must_check;

/* Removes a tag. Returns -ENOENT if there is no such tag. The blobs stay until store_gc(). */
int store_untag(const struct store *s, const char *name) must_check;

/*
 * Reads all tags into *ret, as an index whose descriptors have the tags' names as ref_name.
 * ref_name is NULL if a descriptor has no tag.
 */
int store_tags(const struct store *s, struct arena *a, struct document *ret) must_check;

/* What store_gc() has removed. */
struct store_freed {
	uint64_t blobs, bytes;       /* number of blobs, and the sum of their sizes */
	uint64_t layers, containers; /* number of removed directories of layers and of containers */
};

/*
 * Removes every blob to which no tag leads, every unpacked layer that neither a tag nor a container
 * needs, the directories of containers that no longer exist, and the rest of interrupted downloads.
 * Returns -EBUSY, without removing anything, if another process has the store open.
 */
int store_gc(struct store *s, struct store_freed *ret) must_check;
