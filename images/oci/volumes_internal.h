/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what volumes.c and volume_users.c share. */
#pragma once
#include "images/oci/volumes.h"

#define VOLUME_JSON "volume.json"
#define VOLUME_JSON_MAX 65536

/* Opens STORE/volumes, and makes the directory if there is none. */
int volumes_open(const struct store *s) must_check;

/*
 * Stores the error message of the error r in v->damage and returns 0. Returns r if no memory is
 * left, which is no damage of the volume.
 */
int volume_note_damage(struct arena *a, struct volume *v, int r) must_check;

/* Opens the directory of a volume. Returns -ENOENT, with a message, if there is no such volume. */
int volume_open_dir(const struct store *s, const char *name) must_check;

/*
 * Sets the user of each of the n volumes to the name of a container that mounts the volume, or to
 * NULL if no container mounts it. Each config.json is read once.
 */
int volumes_find_users(const struct store *s, struct arena *a, struct volume *v, size_t n)
	must_check;

#define VOLUME_DISK "disk.qcow2" /* file of a volume in the pool "qcow2" */

/*
 * The functions of volume_disk.c. volume_disk_make() makes VOLUME_DISK with an empty file system in
 * the directory `dir`, whose path is `path`. volume_disk_size() reads the size in bytes of the disk
 * in the file `path`, with the program `tool`.
 */
int volume_disk_make(struct arena *a, int dir, const char *path, const struct volume_disk *d)
	must_check;
int volume_disk_size(struct arena *a, const char *path, const char *tool, uint64_t *ret) must_check;

/*
 * Reads what the volume's own directory says, which is all but its user. Returns -ENOENT if there
 * is no such volume, but not if there is one that lacks a file.
 */
int volume_read_own(const struct store *s, struct arena *a, const char *name, struct volume *ret)
	must_check;
