/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacked layers, which containers share by overlayfs. STORE is the directory of the store:
 *
 *	STORE/layers/NAME              what one layer changes, as overlayfs keeps it
 *	STORE/layers/NAME.erofs        the tree of a chain as a file system for microVMs
 *	STORE/chains/ALGORITHM-HEX[.KEY]   a symbolic link whose text is NAME
 *
 * The key is the chain ID (image-spec, config.md): the digest of a layer and of all layers below
 * it. So all images that have a layer above the same layers share one copy of that layer. KEY is
 * that of rootless_key(), because the owners of the files in a layer depend on the id maps of the
 * process that unpacked it. In the initial user namespace there is no KEY.
 *
 * image-spec applies a layer to the tree below it, and this store gives exactly that tree. The
 * layer is written, by the same code as into a plain directory, into an overlay mount of the layers
 * below it, and what the kernel leaves in the upper directory is the layer. So whiteouts, opaque
 * directories, links through lower symbolic links, hard links to lower files and the modes of
 * directories that the layer does not list come out as they would in one tree. A store that unpacks
 * each layer alone, as other engines do, can get none of these right.
 *
 * A chain's link is made last, once its directory is complete, so a process that is killed leaves
 * no incomplete layer that another process would use. A process that unpacks a chain holds the lock
 * STORE/partial/chain-ALGORITHM-HEX, and other processes wait for it. store_gc() removes
 * directories that no link names.
 *
 * The EROFS image of a chain is written to STORE/partial and gets its name once it is complete. It
 * is removed together with the topmost layer of its chain.
 *
 * NAME has five characters, so that the names of 500 layers fit into the page of options that
 * mount(2) takes.
 */
#pragma once
#include "base/rootless.h"
#include "images/oci/image.h"

/* size in bytes of a name in STORE/chains, with the NUL */
#define CHAIN_KEY_SIZE (DIGEST_TEXT_SIZE + ROOTLESS_KEY_SIZE)

/* Computes the chain ID of layers 0 to `index` of the image. */
int chain_id(const struct image *img, size_t index, struct digest *ret) must_check;

/*
 * Unpacks the layers of the image that the store has not unpacked yet. *ret gets the names of all
 * layers in STORE/layers, the topmost first, with ":" in between, as struct overlay takes them.
 *
 * Returns -EOPNOTSUPP if overlayfs cannot be used on this host, because the caller lacks the
 * permission, or the kernel or the file system does not support it. The caller should then unpack
 * the image into a directory of the container's own.
 */
int chain_unpack(const struct store *s, const struct image *img, const struct tree_options *options,
	const struct unpack_progress *progress, struct strbuf *ret) must_check;

/*
 * If the store has all layers of the image unpacked, sets *ret as chain_unpack() does, and returns
 * 1. Returns 0 if the store lacks a layer.
 */
int chain_find(const struct store *s, const struct image *img, struct strbuf *ret) must_check;

/*
 * Opens the tree that the unpacked layers with the names `layers` make together, read-only. The
 * tree of a single layer is the layer's directory. The tree of several layers is a detached overlay
 * mount, which ends when the descriptor is closed.
 */
int chain_open_view(const struct store *s, const char *layers) must_check;

#define CHAIN_EROFS_SUFFIX ".erofs"
#define CHAIN_EROFS_SIZE 32 /* size in bytes of an EROFS image's name, with the NUL */

/*
 * Makes the name, in STORE/layers, of the EROFS image of the unpacked layers with the names
 * `layers`.
 */
void chain_erofs_name(const char *layers, char ret[CHAIN_EROFS_SIZE]);

/*
 * Makes the EROFS image of the unpacked layers, STORE/layers/NAME.erofs, by mkfs.erofs(1), unless
 * the image exists. NAME is the name of the topmost layer.
 */
int chain_make_erofs(const struct store *s, const char *layers) must_check;
