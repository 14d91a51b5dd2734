/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what transfer.c, pull.c and push.c share: the list of blobs to move, and the threads
 * that move them.
 */
#pragma once
#include "images/oci/transfer.h"

/* A blob that is to be pulled or pushed. */
struct work {
	struct descriptor d;
	/* for push: another repository of the registry that has the blob, or NULL */
	const char *from;
};

/* The blobs of an image, each once. */
struct work_list {
	struct arena *a;
	struct work *v;
	size_t n, cap;
};

int work_add(struct work_list *l, const struct descriptor *d) must_check;

/*
 * The type of a function that moves one blob. It returns 1 if the blob was at its destination
 * already.
 */
typedef int work_fn(
	void *data, struct http *h, const struct work *w, const struct transfer_events *events);

/* Calls the function fn for each blob, in several threads. The first failure stops all threads. */
int work_run(struct registry *g, const struct work_list *l, const struct transfer_options *o,
	work_fn *fn, void *data) must_check;

/*
 * Finds the first registry that has the manifest, among the registries that an image's name may
 * mean, and opens this registry.
 */
int transfer_find(struct arena *a, const char *name, const struct transfer_options *o,
	struct registry *g, struct reference *ret, struct manifest *m) must_check;

/* Makes a descriptor of the manifest. The descriptor's media type is never empty. */
void transfer_descriptor(
	const struct manifest *m, const struct document *doc, struct descriptor *ret);
