/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds disk images that come as images of containers, as KubeVirt's containerdisks do: the disk is
 * a file /disk/NAME.qcow2, .raw or .img in a layer. The layers must be unpacked (chain.h).
 */
#pragma once
#include "images/oci/store.h"

struct image_disk {
	const char *path; /* path in the image, such as "/disk/fedora.qcow2" */
	/*
	 * Absolute path of the file in the store. The file must only be read, because all users of
	 * the image share it, and only while the caller has the store open or a container uses the
	 * image, because store_gc() removes layers.
	 */
	const char *file;
	uint64_t size; /* size of the file in bytes */
};

struct image_disks {
	/* array in the arena, sorted by path; the paths are in the arena, too */
	struct image_disk *v;
	size_t n;
};

#define IMAGE_DISKS_MAX 64u

/*
 * Finds the disks of the image with the given layers, whose names have the form of chain_unpack()
 * and struct resolved. ret->n is 0 if the image has no disks. Links are not followed. If an image
 * has more than IMAGE_DISKS_MAX disks, the rest is left out.
 */
int image_disks_find(const struct store *s, const char *layers, struct arena *a,
	struct image_disks *ret) must_check;
