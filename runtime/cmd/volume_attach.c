/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson volume attach` and `caisson volume detach`, which mount a volume into a
 * container that runs, and unmount it.
 */
#include "cmd/volume.h"

#include <stdlib.h>

#include "launch/hotplug.h"
#include "launch/live_list.h"
#include "launch/live_mounts.h"
#include "run/volumes.h"

struct target {
	struct run_volumes volumes;
	int lock; /* the lock of the volumes, in shared mode, so that the volume is not removed */
	struct volume volume;
	struct arena arena;
	struct container c;
	const char *list; /* path of the list of the mounts that were added to the container */
};

static void close_target(struct target *t)
{
	fd_close(&t->lock);
	run_volumes_close(&t->volumes);
	container_close(&t->c);
	arena_release(&t->arena);
}

/* Opens the volume and the container, which has to run. */
static int open_target(
	struct target *t, const struct globals *g, const char *store, char *const names[2])
{
	enum container_status status;
	const char *root;

	int r = run_volumes_open(&t->volumes, store, false);
	if (r >= 0)
		r = t->lock = volumes_lock(&t->volumes.store, false);
	if (r >= 0)
		r = volume_read(&t->volumes.store, &t->arena, names[0], &t->volume);
	if (r >= 0)
		r = cmd_open(g, names[1], true, &t->c);
	if (r >= 0 && t->volume.disk && !t->c.vm)
		return err_set(ENOTSUP,
			"the volume is a qcow2 disk, which only a microVM mounts, and container "
			"\"%s\" is in namespaces: use a volume of the pool dir",
			t->c.id);
	if (r >= 0)
		r = container_root(&t->arena, g->root, &root);
	if (r >= 0)
		r = container_status(&t->c, &status);
	if (r < 0)
		return r;
	if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
		return err_set(ESRCH, "container \"%s\" is %s: expected one that runs", t->c.id,
			container_status_name(status));
	_cleanup_free_ char *real = realpath(root, NULL);
	if (!real)
		return err_sys("--root %s", root);
	t->list = arena_printf(&t->arena, "%s/%s/" CONTAINER_ATTACHED, real, t->c.id);
	return t->list ? 0 : -ENOMEM;
}

/* Finds where the volume is in the container. Returns -ENOENT if it was not attached. */
static int find(struct target *t, const char **ret)
{
	return live_list_find_source(
		&t->c, t->volume.disk ? LIVE_VOLUME : LIVE_MOUNT, t->volume.path, ret);
}

static int attach(struct target *t, const char *path, bool read_only)
{
	const char *text, *there;

	int r = find(t, &there);
	if (r >= 0)
		return err_set(EEXIST, "the volume is attached to container \"%s\" already, at %s",
			t->c.id, there);
	if (r != -ENOENT)
		return r;
	err_clear();
	text = arena_printf(&t->arena, "%s:%s%s", t->volume.path, path, read_only ? ":ro" : "");
	if (!text)
		return -ENOMEM;
	r = volume_note_attached(&t->volumes.store, t->volume.name, t->list);
	if (r < 0)
		return r;
	return t->volume.disk ? hotplug_add_volume(&t->c, t->volume.path, path, read_only)
			      : live_mounts_add(&t->c, text);
}

int volume_attach(const struct command *self, const struct globals *g, int argc, char **argv)
{
	__attribute__((cleanup(close_target))) struct target t = {
		.volumes = RUN_VOLUMES_INIT, .lock = -EBADF, .c = CONTAINER_INIT};
	const char *store = NULL;
	bool read_only = false;
	const struct option_def defs[] = {
		{"read-only", 0, OPTION_FLAG, &read_only, NULL,
			"the container may not write to it"},
		{"store", 0, OPTION_STRING, &store, "DIR", "the store"},
		{0},
	};
	struct arguments args = {.min = 3, .max = 3};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (strchr(args.v[2], ':'))
		return err_set(EINVAL, "path %.200s: expected one without a colon", args.v[2]);
	r = open_target(&t, g, store, args.v);
	if (r >= 0)
		r = attach(&t, args.v[2], read_only);
	return r < 0 ? err_ctx(r, "volume \"%.100s\"", args.v[0]) : 0;
}

int volume_detach(const struct command *self, const struct globals *g, int argc, char **argv)
{
	__attribute__((cleanup(close_target))) struct target t = {
		.volumes = RUN_VOLUMES_INIT, .lock = -EBADF, .c = CONTAINER_INIT};
	const char *store = NULL, *path = NULL;
	const struct option_def defs[] = {
		{"store", 0, OPTION_STRING, &store, "DIR", "the store"},
		{0},
	};
	struct arguments args = {.min = 2, .max = 2};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = open_target(&t, g, store, args.v);
	if (r >= 0)
		r = find(&t, &path);
	if (r >= 0)
		r = t.volume.disk ? hotplug_remove_volume(&t.c, path)
				  : live_mounts_remove(&t.c, path);
	/* There is no volume if the command that should have attached it was killed. */
	if (r == -ENOENT && path) {
		err_clear();
		r = 0;
	}
	if (r >= 0)
		r = volume_forget_attached(&t.volumes.store, t.volume.name, t.list);
	return r < 0 ? err_ctx(r, "volume \"%.100s\"", args.v[0]) : 0;
}
