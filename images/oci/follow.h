/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads an image that another process is pulling into the same store.
 *
 * Theory of operation. The other process writes each blob to STORE/partial, and renames the blob
 * once the digest is right. This process opens a blob at either place, and at the end of the file
 * it waits for more bytes until it has as many as the blob's descriptor says. So the bytes that
 * this process reads are not checked yet. The layer that it unpacks from them becomes a shared
 * layer only if the layer's diff_id, the digest of the unpacked bytes, is right. If the other
 * process begins the blob anew, with other bytes, that digest is wrong.
 *
 * The other process tells its progress by a pipe. A byte says that all blobs are there. If the pipe
 * is closed without that byte, no more blobs will come.
 */
#pragma once
#include "images/oci/image.h"

struct follower {
	const struct store *s;
	int pipe; /* descriptor of the end for reading of the pipe from the process that pulls */
	bool complete; /* the process that pulls has said that all blobs are in the store */
	/* called once when all blobs are in the store; may be NULL */
	void (*on_complete)(void *data);
	void *data;
	struct layer_source source;
};

/*
 * Sets the members s, pipe and source of *f; the caller has set on_complete and data before. *f
 * must not be moved in memory afterwards, because its member source points to it.
 */
void follow_init(struct follower *f, const struct store *s, int pipe);

/*
 * Reads the documents of an image that another process is pulling, and waits for the image's
 * configuration. d describes a manifest or an index that the store has already. The layers of *ret
 * are read while they arrive. Returns -ECANCELED if the other process has given up.
 */
int follow_image(struct follower *f, struct arena *a, const struct descriptor *d, struct image *ret)
	must_check;
