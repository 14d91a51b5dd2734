/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves images between registries and the store, for `caisson image pull`, `push` and `referrers`.
 */
#pragma once
#include "images/oci/registry.h"

#define TRANSFER_JOBS 3u
#define TRANSFER_JOBS_MAX 16u

enum transfer_state { TRANSFER_BEGUN, TRANSFER_PRESENT, TRANSFER_DONE };

/*
 * Functions that report progress. No two of them are called at the same time. All members except
 * `data` may be NULL.
 */
struct transfer_listener {
	/*
	 * tells the user something, such as what a short name means, or which mirror does not
	 * answer
	 */
	void (*notice)(void *data, const char *text);
	/*
	 * called before the first blob is moved, with the number of blobs and the sum of their
	 * bytes
	 */
	void (*plan)(void *data, size_t blobs, uint64_t bytes);
	void (*blob)(void *data, size_t index, const struct descriptor *d, enum transfer_state s);
	void (*bytes)(void *data, size_t index, uint64_t done);
	void *data;
};

struct transfer_options {
	/* the platform that is chosen from an index; NULL: this machine's platform */
	const struct platform *platform;
	bool all;      /* whether the images of all platforms in an index are moved */
	unsigned jobs; /* how many blobs are moved at the same time; 0: TRANSFER_JOBS */
	struct registry_options registry;
	struct transfer_listener listener;
	/*
	 * Called by a pull when the store has the manifests, with the descriptor of the image's
	 * manifest or index, before any other blob comes. May be NULL.
	 */
	void (*manifest)(void *data, const struct descriptor *d);
	void *manifest_data;
};

struct transfer_result {
	const char *name; /* full name, such as "docker.io/library/debian:12" */
	struct digest digest;
};

/*
 * Fetches an image into the store, and tags it with its full name. Returns -EPERM if policy.json or
 * registries.conf forbids the image.
 */
int image_pull(const struct store *s, struct arena *a, const char *name,
	const struct transfer_options *o, struct transfer_result *ret) must_check;

/*
 * Sends an image of the store to a registry, under the name `target`. If `target` is NULL, the
 * image keeps its own name.
 */
int image_push(const struct store *s, struct arena *a, const char *name, const char *target,
	const struct transfer_options *o, struct transfer_result *ret) must_check;

/*
 * Fetches the list of manifests that refer to an image: signatures, attestations, SBOMs.
 * *ret_subject becomes the image's digest.
 */
int image_referrers(struct arena *a, const char *name, const struct transfer_options *o,
	struct digest *ret_subject, struct document *ret) must_check;
