/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of what was attached to a container while it ran, in CONTAINER_ATTACHED of its state
 * directory. An entry is written before anything is attached, and removed after it was detached. It
 * stays if the guest did not answer in time, because the device stays too (monitor/hotplug.h).
 */
#pragma once
#include "launch/container.h"

#define LIVE_MOUNT "mount"
#define LIVE_DISK "disk"
#define LIVE_NET "net"
#define LIVE_VOLUME "volume"

#define LIVE_ENTRIES_MAX 64

struct live_entry {
	const char *kind;   /* LIVE_MOUNT, LIVE_DISK, LIVE_NET or LIVE_VOLUME */
	const char *source; /* path on the host, or the name of an interface */
	const char *target; /* path in the container, or the name of the interface */
	const char *share;  /* name in a microVM's share; NULL: it is no such mount */
	/* device and inode of a mount's root, by which a later command recognizes the mount */
	uint64_t dev, ino;
};

struct live_list {
	struct live_entry v[LIVE_ENTRIES_MAX];
	size_t n;
};

int live_list_read(struct container *c, struct live_list *ret) must_check;
struct live_entry *live_list_find(struct live_list *l, const char *kind, const char *target);

/*
 * Finds the target, in the container's arena, of an entry of this kind and source. Returns -ENOENT
 * if there is none.
 */
int live_list_find_source(struct container *c, const char *kind, const char *source,
	const char **ret_target) must_check;

/*
 * Adds an entry, unless there is one of this kind and target. Returns 1 if it was added, 0 if there
 * is one of the same source, and -EEXIST if there is one of another source.
 */
int live_list_note(struct container *c, const struct live_entry *e) must_check;
/* Removes an entry, if there is one. */
int live_list_forget(struct container *c, const char *kind, const char *target) must_check;
/* Removes an entry after a failure r. Returns r with its error message. */
int live_list_undo(struct container *c, const char *kind, const char *target, int r) must_check;

/*
 * Splits SOURCE:TARGET[:OPTIONS], the description of what is to be attached, into its parts, which
 * are in the arena. ret[2] is NULL if there are no options. An error message says what was
 * expected, with the text `expected`.
 */
int live_list_split(struct arena *a, const char *text, const char *expected, char *ret[static 3])
	must_check;

/* Sets c->attached to a text such as "mount /data, disk /dev/x"; NULL: the list is empty. */
int live_list_describe(struct container *c) must_check;
