/* SPDX-License-Identifier: Apache-2.0 */
/* Images between registries and the store: what `pull`, `push` and `referrers` do. */
#pragma once
#include "images/oci/registry.h"

#define TRANSFER_JOBS 3u
#define TRANSFER_JOBS_MAX 16u

enum transfer_state { TRANSFER_BEGUN, TRANSFER_PRESENT, TRANSFER_DONE };

/* No two of these are called at the same time. All but data may be NULL. */
struct transfer_listener {
	/* What the user should know: what a short name means, which mirror does not answer. */
	void (*notice)(void *data, const char *text);
	/* Before the first blob: how many there are, and their bytes. */
	void (*plan)(void *data, size_t blobs, uint64_t bytes);
	void (*blob)(void *data, size_t index, const struct descriptor *d, enum transfer_state s);
	void (*bytes)(void *data, size_t index, uint64_t done);
	void *data;
};

struct transfer_options {
	const struct platform *platform; /* of an index; NULL: this machine's */
	bool all;                        /* every platform */
	unsigned jobs;                   /* blobs at the same time; 0: TRANSFER_JOBS */
	struct registry_options registry;
	struct transfer_listener listener;
};

struct transfer_result {
	const char *name; /* "docker.io/library/debian:12" */
	struct digest digest;
};

/*
 * Fetches an image into the store and tags it with its full name. -EPERM: policy.json or
 * registries.conf forbids it.
 */
int image_pull(const struct store *s, struct arena *a, const char *name,
	const struct transfer_options *o, struct transfer_result *ret) must_check;

/* Sends an image of the store to a registry. target NULL: the image's own name says where. */
int image_push(const struct store *s, struct arena *a, const char *name, const char *target,
	const struct transfer_options *o, struct transfer_result *ret) must_check;

/*
 * Fetches the list of what refers to an image: signatures, attestations, SBOMs. *ret_subject is the
 * image's digest.
 */
int image_referrers(struct arena *a, const char *name, const struct transfer_options *o,
	struct digest *ret_subject, struct document *ret) must_check;
