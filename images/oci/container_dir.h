/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps STORE/containers/NAME: the directory of a container that was made from an image of the
 * store, and its bundle:
 *
 *	uses.json    what the container uses, and which process made it; written before the
 *		     directory gets its name
 *	config.json, rootfs/, upper/, work/, log
 *
 * caisson removes the directory together with the container. If caisson is killed before it can do
 * so, uses.json tells whether the directory is still needed. The process that makes the container
 * needs the directory as long as that process lives, and the container needs it as long as the
 * container's state.json is in the runtime's state directory. store_gc() keeps the layers that a
 * needed directory names, and removes the other directories.
 */
#pragma once
#include "images/oci/store.h"

#define CONTAINER_DIR_USES "uses.json"

struct container_uses {
	/* absolute path of the runtime's --root, the directory that contains NAME/state.json */
	const char *state_root;
	/*
	 * process that makes the container: the calling process, which may become the runtime by
	 * execve(2)
	 */
	pid_t maker;
	/*
	 * names of the layers in STORE/layers, with ":" in between; "": the container uses no
	 * layers
	 */
	const char *layers;
	const char *image;      /* the image's name as the user gave it */
	struct digest manifest; /* digest of the image's manifest */
};

/*
 * Makes the directory STORE/containers/NAME for the container `name`, and replaces a directory of
 * this name that nobody needs. Returns a descriptor of the directory, or -EEXIST if a container of
 * this name exists.
 */
int container_dir_make(const struct store *s, const char *name, const struct container_uses *u)
	must_check;

/*
 * Removes the directory STORE/containers/NAME of the container `name`. store_gc() later removes
 * what could not be removed.
 */
void container_dir_remove(const struct store *s, const char *name);

/*
 * Reads what the container with the name `name` uses. Returns -ENOENT if there is no such
 * container.
 */
int container_dir_read(const struct store *s, struct arena *a, const char *name,
	struct container_uses *ret) must_check;

/*
 * Returns 1 if a process or a container needs the directory STORE/containers/NAME, else 0. If the
 * calling process itself made the directory for a container, it does not count as a user, because
 * it calls this function after it has given up making the container.
 */
int container_dir_is_needed(const struct store *s, const char *name) must_check;
