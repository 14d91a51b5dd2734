/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps STORE/volumes/NAME: directories with names, which containers of the store mount with `-v
 * NAME:PATH` and which stay when the containers are removed, as docker's named volumes do.
 *
 *	STORE/volumes/NAME/volume.json  when the volume was made, and its labels; written before the
 *					directory gets its name
 *	STORE/volumes/NAME/data/        the content, of a volume in the pool "dir"
 *	STORE/volumes/NAME/disk.qcow2   the content, of a volume in the pool "qcow2": a disk with an
 *					ext4 file system, which only microVMs can mount
 *	STORE/volumes/NAME/attached/KEY path of a file that lists the mounts which were added to a
 *					running container, in the form {"mounts": [{"source"}]}. The
 *					file is in the container's state directory, which has the
 *					container's id as its name. KEY is a hash of the path,
 *					because containers below two --root directories may have the
 *					same id
 *	STORE/volumes/.lock             a process that is about to mount a volume locks this file
 *					in shared mode, and one that fills or removes a volume in
 *					exclusive mode
 *
 * If a process is killed at any point, a volume exists as a whole or not at all, and the volume has
 * either the whole first content or none.
 */
#pragma once
#include "images/oci/store.h"

struct volume {
	const char *name;
	/*
	 * absolute path of the directory or the disk with the content if the store's path is
	 * absolute
	 */
	const char *path;
	bool disk;           /* the volume is in the pool "qcow2" */
	uint64_t size, used; /* of a disk: bytes that it can hold, and that it takes on the host */
	const char *created; /* date and time in the form of RFC 3339, in UTC */
	const struct json *labels; /* JSON object whose members are strings, or NULL */
	dev_t dev;                 /* device and inode of the directory or disk */
	ino_t ino;
	const char *user; /* name of a container that mounts the volume, or NULL */
	/* whether the volume was mounted into the running container `user` later */
	bool attached;
	/*
	 * error message that says why the volume cannot be read, or NULL; with a message only
	 * `name` is set
	 */
	const char *damage;
};

/* Returns a descriptor that holds the lock of all volumes, in exclusive or in shared mode. */
int volumes_lock(const struct store *s, bool exclusive) must_check;

/*
 * Notes that a running container may mount the volume: it does so as long as the file at the
 * absolute path `list`, in the container's state directory, has a mount of it. The caller holds the
 * lock of volumes_lock() until that file is written.
 */
int volume_note_attached(const struct store *s, const char *name, const char *list) must_check;
/* Removes the note that volume_note_attached() has made. It is no error if there is none. */
int volume_forget_attached(const struct store *s, const char *name, const char *list) must_check;

/* Returns the path of a volume's content, or NULL if there is no memory. */
const char *volume_path(const struct store *s, struct arena *a, const char *name);

/*
 * Makes a volume with the given labels, each "KEY=VALUE" or "KEY", with NULL at the end of the
 * list. Returns 0, or 1 if a volume of that name exists, which then stays as it is. The caller
 * holds the lock of volumes_lock().
 */
int volume_make(const struct store *s, const char *name, const char *const *labels) must_check;

/* How the disk of a volume in the pool "qcow2" is made. */
struct volume_disk {
	uint64_t size;    /* in bytes */
	const char *tool; /* path of caisson-disk */
};

/* Does what volume_make() does, for a volume in the pool "qcow2". */
int volume_make_disk(const struct store *s, const char *name, const char *const *labels,
	const struct volume_disk *disk) must_check;

/*
 * Sets *ret to the path of the volume's disk, or to NULL if there is no such volume or the volume
 * is a directory.
 */
int volume_find_disk(const struct store *s, struct arena *a, const char *name, const char **ret)
	must_check;

/*
 * Reads the sizes of all disks again, with the program `tool`, and removes what killed commands
 * have left. *ret are all volumes; the member `damage` says which of them could not be read. The
 * caller holds the lock of volumes_lock() in exclusive mode.
 */
int volumes_rescan(const struct store *s, struct arena *a, const char *tool, struct volume **ret,
	size_t *ret_n) must_check;

/*
 * Gives an empty volume its first content, a copy of the directory `from` with the owner and mode
 * of that directory. Leaves a volume that a container mounts empty. Fails if the volume has
 * content. The caller holds the lock of volumes_lock() in exclusive mode.
 */
int volume_fill(const struct store *s, const char *name, int from) must_check;

/*
 * Returns 1 if the volume has no content, 0 if it has content, or -ENOENT if there is no such
 * volume.
 */
int volume_is_empty(const struct store *s, const char *name) must_check;

/*
 * volume_read() reads one volume, volumes_read() reads all volumes in the order of their names.
 * volume_read() returns -ENOENT if there is no volume of that name, and an error if the volume is
 * damaged, which volumes_read() stores in the member `damage`. The results are in the arena.
 */
int volume_read(const struct store *s, struct arena *a, const char *name, struct volume *ret)
	must_check;
int volumes_read(const struct store *s, struct arena *a, struct volume **ret, size_t *ret_n)
	must_check;

/*
 * Removes a volume with its content. Returns -EBUSY if a container mounts the volume, and -ENOENT
 * if there is no such volume. Removes a damaged volume only if `damaged_too` is set. The caller
 * holds the lock of volumes_lock() in exclusive mode.
 */
int volume_remove(const struct store *s, struct arena *a, const char *name, bool damaged_too)
	must_check;
