/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the files of an exported image, either into a directory or as members of a tar archive.
 * The directory may belong to another user, so no symbolic link in it is followed, and no existing
 * file in it is opened for writing.
 */
#pragma once
#include "images/oci/store.h"

struct export_target {
	int fd;   /* descriptor of the directory or of the tar file */
	bool tar; /* the target is a tar archive; false: a directory */
	const struct store *s;
	/*
	 * names of the blobs that the tar has already; a blob that several images share is written
	 * once
	 */
	const char **written;
	size_t nwritten, cap;
	struct arena arena;
};

#define EXPORT_TARGET_INIT \
	{ \
		.fd = -EBADF \
	}

/*
 * Opens a directory as the target, and makes the directory if it does not exist. If `layout` is
 * set, also makes the directories for blobs in it.
 */
int export_open_dir(struct export_target *t, const struct store *s, const char *path, bool layout)
	must_check;
/* Opens a tar archive as the target. The path "-" is standard output. */
int export_open_tar(struct export_target *t, const struct store *s, const char *path) must_check;

/*
 * Writes the two blocks of zeros that end a tar, and closes the tar. `r` is the result of writing
 * the tar so far: if it is an error, the incomplete file is removed. Returns r, or the error of
 * this function.
 */
int export_close_tar(struct export_target *t, const char *path, int r) must_check;

/* Closes the target *t if it is open. */
void export_release(struct export_target *t);
#define _cleanup_export_ __attribute__((cleanup(export_release), unused))

/* Writes a file of the exported image. `name` may have directories in front, which must exist. */
int export_bytes(struct export_target *t, const char *name, const void *data, size_t len)
	must_check;

/*
 * Copies a blob of the store, and checks the blob's digest at the same time, so that a damaged
 * store does not produce damaged images. Does nothing if the target has the blob already.
 */
int export_blob(struct export_target *t, const char *name, const struct descriptor *d) must_check;
