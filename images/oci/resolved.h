/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STORE/resolved/KEY: what a container needs of an image whose layers are unpacked. `caisson run
 * --image` reads this one small file in place of index.json, the manifest and the configuration,
 * and so `caisson run --image` needs neither libcrypto nor caisson-image.
 *
 * KEY is made of the image's name and the platform as the user typed them. The file is valid as
 * long as STORE/images/index.json is the same file as when the name was looked up, because another
 * index.json may give the name to another image. A program that changes a tag replaces index.json,
 * so it need not know of these files. store_gc() removes all of these files, because it removes
 * layers.
 *
 * A file that is damaged, or of another name, counts as missing. A program that finds no valid file
 * runs `caisson-image resolve`, which writes the file again.
 */
#pragma once
#include "images/oci/store.h"
#include "images/oci/user.h"

struct resolved {
	const char *tag; /* the image's name in the store */
	/* names of the layers in the form of chain_unpack(); "": this host cannot use overlayfs */
	const char *layers;
	/* rootless_key() of the process that unpacked the layers */
	const char *ids;
	struct digest manifest;
	struct image_config config;
	/* `user` is set: the ids that the image's passwd and group files give for config.user */
	bool has_user;
	struct image_user user;
};

/* What fstat(2) says of index.json. If index.json has been replaced, these values differ. */
struct resolved_index {
	uint64_t inode, size;
	struct timespec mtime, ctime;
};

enum resolved_check {
	/* accept the file only if index.json is the same as when the file was written */
	RESOLVED_CURRENT,
	/*
	 * accept the file without looking at index.json, because the caller has just had the file
	 * written
	 */
	RESOLVED_ANY,
};

/*
 * Reads the file STORE/resolved/KEY for an image's name and a platform. Returns 1 with *ret, whose
 * texts live in the arena, or 0 if there is no valid file.
 */
int resolved_read(const struct store *s, struct arena *a, const char *name, const char *platform,
	enum resolved_check check, struct resolved *ret) must_check;

/*
 * Sets *ret to what fstat(2) says of index.json. The caller does this before it looks up an image's
 * name, and passes *ret to resolved_write().
 */
int resolved_look_at_index(const struct store *s, struct resolved_index *ret) must_check;

bool resolved_same_index(const struct resolved_index *a, const struct resolved_index *b);

/*
 * Writes the file STORE/resolved/KEY. `platform` is what the user typed, or NULL. `text` is the
 * image's configuration. If index.json has only just been written, first waits so long that a
 * further change of index.json would give it another time.
 */
int resolved_write(const struct store *s, const char *name, const char *platform,
	const struct resolved_index *index, const struct resolved *r, const struct strbuf *text)
	must_check;
