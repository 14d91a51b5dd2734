/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that move images share. */
#pragma once
#include "images/oci/transfer.h"

/* A blob to be moved. */
struct work {
	struct descriptor d;
	const char *from; /* push: another repository of the registry that has it, or NULL */
};

/* The blobs of an image, each once. */
struct work_list {
	struct arena *a;
	struct work *v;
	size_t n, cap;
};

int work_add(struct work_list *l, const struct descriptor *d) must_check;

/* Moves one blob. 1: it was there already. */
typedef int work_fn(
	void *data, struct http *h, const struct work *w, const struct transfer_events *events);

/* Runs the function for each blob, in several threads. The first failure stops all. */
int work_run(struct registry *g, const struct work_list *l, const struct transfer_options *o,
	work_fn *fn, void *data) must_check;

void transfer_notice(const struct transfer_options *o, const char *fmt, ...) printf_like(2, 3);

/* Opens the first registry of those that the name may mean that has the manifest. */
int transfer_find(struct arena *a, const char *name, const struct transfer_options *o,
	struct registry *g, struct reference *ret, struct manifest *m) must_check;

/* A descriptor of the manifest, with a media type that is never empty. */
void transfer_descriptor(
	const struct manifest *m, const struct document *doc, struct descriptor *ret);
