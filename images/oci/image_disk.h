/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds disk images that are shipped as images of containers, as KubeVirt's containerdisks are: a
 * file /disk/NAME.qcow2, .raw or .img in a layer. The layers must be unpacked (chain.h).
 */
#pragma once
#include "images/oci/store.h"

struct image_disk {
	const char *path; /* path in the image, such as "/disk/fedora.qcow2" */
	/*
	 * Absolute path of the file in the store. It must only be read, because all users of the
	 * image share it, and only while the caller has the store open or a container uses the
	 * image, because store_gc() removes layers.
	 */
	const char *file;
	uint64_t size; /* bytes of the file */
};

struct image_disks {
	struct image_disk *v; /* sorted by path; lives in the arena, as do the paths */
	size_t n;
};

#define IMAGE_DISKS_MAX 64u

/*
 * Finds the disks of the image with these layers, as chain_unpack() and struct resolved name them.
 * ret->n is 0 if the image has none. Links are not followed. Of an image with more than
 * IMAGE_DISKS_MAX disks the others are left out.
 */
int image_disks_find(const struct store *s, const char *layers, struct arena *a,
	struct image_disks *ret) must_check;
