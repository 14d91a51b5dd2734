/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIR/containers/NAME: the directory of a container that was made from an image of the store, and
 * its bundle:
 *
 *	uses.json    what it uses, and who made it; written before it has its name
 *	config.json, rootfs/, upper/, work/, log
 *
 * caisson removes the directory together with the container. Before the container exists, and if
 * both are killed in between, uses.json tells whether anybody needs the directory: the process that
 * is to make the container, as long as it lives, and the container, as long as its state.json is in
 * the runtime's state directory. store_gc() keeps the layers that a needed directory names, and
 * removes the other directories.
 */
#pragma once
#include "images/oci/store.h"

#define CONTAINER_DIR_USES "uses.json"

struct container_uses {
	const char *state_root; /* absolute: the runtime's --root; NAME/state.json is in it */
	pid_t maker;            /* this process, or the one that it becomes by execve(2) */
	const char *layers;     /* names in DIR/layers, with ":" in between; "": none */
	const char *image;      /* as the user named it */
	struct digest manifest; /* of the image */
};

/*
 * Makes the directory of that name. -EEXIST: a container of that name is there. A directory that
 * nobody needs is replaced. Returns a descriptor of it.
 */
int container_dir_make(const struct store *s, const char *name, const struct container_uses *u)
	must_check;

/* Removes it. What can't be removed is left to store_gc(). */
void container_dir_remove(const struct store *s, const char *name);

/* Reads what the container of that name uses. -ENOENT: there is none. */
int container_dir_read(const struct store *s, struct arena *a, const char *name,
	struct container_uses *ret) must_check;

/*
 * 1: somebody needs the directory; 0: nobody does. The maker asks this once it has given up making
 * the container, so it does not count itself.
 */
int container_dir_is_needed(const struct store *s, const char *name) must_check;
