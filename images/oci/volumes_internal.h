/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what volumes.c and volume_users.c share. */
#pragma once
#include "images/oci/volumes.h"

/* Opens the directory of a volume. Returns -ENOENT, with a message, if there is no such volume. */
int volume_open_dir(const struct store *s, const char *name) must_check;

/*
 * Sets the user of each of the n volumes to the name of a container that mounts the volume, or to
 * NULL if no container mounts it. Each config.json is read once.
 */
int volumes_find_users(const struct store *s, struct arena *a, struct volume *v, size_t n)
	must_check;
