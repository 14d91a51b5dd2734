/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIR/resolved/KEY: what a container needs of an image whose layers are unpacked. `caisson run
 * --image` reads this one small file in place of index.json, the manifest and the configuration,
 * and so it needs neither libcrypto nor caisson-image.
 *
 * KEY is made of the image's name and the platform as the user typed them. The file holds for as
 * long as DIR/images/index.json is the file that it was when the name was looked up, because
 * another index.json may give the name to another image. Whoever changes a tag replaces index.json,
 * so nobody needs to know of these files. store_gc() removes them all, because it removes layers.
 *
 * A file that is damaged, or of another name, counts as missing: whoever misses one has
 * `caisson-image resolve` write it again.
 */
#pragma once
#include "images/oci/store.h"
#include "images/oci/user.h"

struct resolved {
	const char *tag;    /* the image's name in the store */
	const char *layers; /* as chain_unpack() gives them; "": overlayfs can't be had here */
	struct digest manifest;
	struct image_config config;
	bool has_user; /* user is whom config.user means by the image's passwd and group */
	struct image_user user;
};

/* What index.json was like. */
struct resolved_index {
	uint64_t inode, size;
	struct timespec mtime, ctime;
};

enum resolved_check {
	RESOLVED_CURRENT, /* index.json must be as it was */
	RESOLVED_ANY,     /* the caller has just had the file written */
};

/* Returns 1 with *ret, whose texts live in the arena, or 0 if there is no such file. */
int resolved_read(const struct store *s, struct arena *a, const char *name, const char *platform,
	enum resolved_check check, struct resolved *ret) must_check;

/* Comes before the look-up of the name that resolved_write() is told of. */
int resolved_look_at_index(const struct store *s, struct resolved_index *ret) must_check;

bool resolved_same_index(const struct resolved_index *a, const struct resolved_index *b);

/*
 * Writes the file. platform is what the user typed, or NULL. text is the image's configuration. If
 * index.json was written only now, waits until a further change would be seen in its times.
 */
int resolved_write(const struct store *s, const char *name, const char *platform,
	const struct resolved_index *index, const struct resolved *r, const struct strbuf *text)
	must_check;
