/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads an image that another process is pulling into the same store.
 *
 * Theory of operation. The other process writes each blob to DIR/partial, and renames the blob once
 * the digest is right. This process opens a blob at either place, and at the end of the file it
 * waits for more bytes until it has as many as the blob's descriptor says. So the bytes that this
 * process reads are not checked yet. The layer that it unpacks from them becomes a shared layer
 * only if the layer's diff_id, the digest of the unpacked bytes, is right. If the other process
 * begins the blob anew, with other bytes, that digest is wrong.
 *
 * The other process tells its progress by a pipe. A byte says that all blobs are there. If the pipe
 * is closed without that byte, no more blobs will come.
 */
#pragma once
#include "images/oci/image.h"

struct follower {
	const struct store *s;
	int pipe;      /* the pipe's end for reading */
	bool complete; /* all blobs are there */
	/* called once when all blobs are there; may be NULL */
	void (*on_complete)(void *data);
	void *data;
	struct layer_source source;
};

/* Prepares *f, whose other members the caller sets before. It must not move afterwards. */
void follow_init(struct follower *f, const struct store *s, int pipe);

/*
 * Reads the documents of the image that d describes, an index or a manifest of the store, and waits
 * for its configuration. The layers of *ret come from the follower. Returns -ECANCELED if the other
 * process has given up.
 */
int follow_image(struct follower *f, struct arena *a, const struct descriptor *d, struct image *ret)
	must_check;
