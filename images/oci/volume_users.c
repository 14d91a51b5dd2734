/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds out which containers mount a volume, and records to which running containers a volume was
 * attached.
 */
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "images/oci/container_dir.h"
#include "images/oci/store_internal.h"
#include "images/oci/volumes_internal.h"

#define ATTACHED "attached"
#define CONFIG_JSON_MAX (16u << 20)
#define NOTE_NAME_SIZE 17 /* size in bytes of a note's name, 16 hexadecimal digits with the NUL */

static int open_attached(int dir)
{
	return openat(dir, ATTACHED, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * Sets the user of the volumes whose content is at `path` and that have no user yet. Returns their
 * number.
 */
static size_t note_path(const char *path, const char *container, struct volume *v, size_t n)
{
	struct stat st;
	size_t found = 0;

	if (!path || *path != '/' || stat(path, &st) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (!v[i].user && v[i].dev == st.st_dev && v[i].ino == st.st_ino) {
			v[i].user = container;
			found++;
		}
	return found;
}

/* Does that for the member "source" of each object of an array. */
static size_t note_sources(
	const struct json *array, const char *container, struct volume *v, size_t n)
{
	size_t found = 0;

	for (const struct json *m = array && array->type == JSON_ARRAY ? array->first : NULL; m;
		m = m->next)
		found += note_path(json_get_str(m, "source"), container, v, n);
	return found;
}

/*
 * Sets the user of each volume that has no user yet and that the container's config.json names, as
 * the source of a mount or as the disk of the container's microVM, or the list of what was attached
 * to the container (launch/live_list.h). Returns how many volumes got a user.
 */
static size_t note_mounts(
	const struct json *config, const char *container, struct volume *v, size_t n)
{
	const struct json *image = json_get(json_get(config, "vm"), "image");

	return note_path(json_get_str(image, "path"), container, v, n) +
	       note_sources(json_get(config, "mounts"), container, v, n) +
	       note_sources(json_get(config, "devices"), container, v, n);
}

/* Reads the container's config.json. *ret is NULL if the container mounts no volume yet. */
static int read_config(
	const struct store *s, struct arena *a, const char *container, struct json **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[NAME_MAX + sizeof("/config.json")];
	int r = container_dir_is_needed(s, container);

	*ret = NULL;
	if (r <= 0)
		return r;
	snprintf(path, sizeof(path), "%s/config.json", container);
	r = fd_read_file(s->containers, path, &text, CONFIG_JSON_MAX);
	/*
	 * A container without config.json mounts no volume yet: it is still being made, and will
	 * lock the volumes before it mounts one.
	 */
	if (r == -ENOENT) {
		err_clear();
		return 0;
	}
	return r < 0 ? r : json_parse(a, strbuf_str(&text), text.len, path, ret);
}

/* Does what note_mounts() does, with the config.json of that container. */
static int note_container(
	const struct store *s, struct arena *a, const char *name, struct volume *v, size_t n)
{
	struct json *config;
	int r = read_config(s, a, name, &config);

	if (r < 0 || !config)
		return r;
	const char *copy = arena_strdup(a, name);
	return copy ? (int)note_mounts(config, copy, v, n) : -ENOMEM;
}

/* Makes the name of the note about the container whose list of added mounts is at this path. */
static void note_name(const char *list, char ret[static NOTE_NAME_SIZE])
{
	snprintf(ret, NOTE_NAME_SIZE, "%016" PRIx64, hash_add(HASH_START, list, strlen(list)));
}

int volume_note_attached(const struct store *s, const char *name, const char *list)
{
	char note[NOTE_NAME_SIZE];

	note_name(list, note);
	_cleanup_fd_ int dir = volume_open_dir(s, name);
	if (dir < 0)
		return dir;
	if (mkdirat(dir, ATTACHED, 0700) < 0 && errno != EEXIST)
		return err_sys("create %s/volumes/%s/" ATTACHED, s->path, name);
	_cleanup_fd_ int attached = open_attached(dir);
	if (attached < 0)
		return err_sys("open %s/volumes/%s/" ATTACHED, s->path, name);
	return fd_replace_file(attached, note, list, strlen(list), 0600);
}

int volume_forget_attached(const struct store *s, const char *name, const char *list)
{
	char note[NOTE_NAME_SIZE];

	note_name(list, note);
	_cleanup_fd_ int dir = volume_open_dir(s, name);
	_cleanup_fd_ int attached = dir < 0 ? dir : open_attached(dir);

	if (dir < 0)
		return dir;
	if (attached < 0 || unlinkat(attached, note, 0) < 0)
		return errno == ENOENT ? 0
				       : err_sys("remove %s/volumes/%s/" ATTACHED "/%s", s->path,
						 name, note);
	return 0;
}

/* Returns the id of the container whose list of added mounts is at this path. */
static const char *id_of_list(struct arena *a, const char *list)
{
	const char *end = strrchr(list, '/'), *start = end;

	while (start && start > list && start[-1] != '/')
		start--;
	return arena_strndup(a, start ? start : list, start ? (size_t)(end - start) : strlen(list));
}

/*
 * Sets the user of the volume to the container that a note is about, if that container's list of
 * added mounts has a mount of the volume. There is no list if the container was removed.
 */
static int note_attached(int attached, struct arena *a, const char *note, struct volume *v)
{
	_cleanup_strbuf_ struct strbuf path = {0}, text = {0};
	struct json *list;

	int r = fd_read_file(attached, note, &path, PATH_MAX);
	if (r >= 0)
		r = fd_read_file(AT_FDCWD, strbuf_str(&path), &text, CONFIG_JSON_MAX);
	if (r == -ENOENT || r == -ENOTDIR) {
		err_clear();
		return 0;
	}
	if (r >= 0)
		r = json_parse(a, strbuf_str(&text), text.len, strbuf_str(&path), &list);
	const char *id = id_of_list(a, strbuf_str(&path));
	if (r < 0 || !id)
		return r < 0 ? r : -ENOMEM;
	v->attached = note_mounts(list, id, v, 1) > 0;
	return 0;
}

/* Does what note_attached() does, for all containers to which the volume was attached. */
static int find_attached(const struct store *s, struct arena *a, struct volume *v)
{
	struct dirent **entries;
	int r = 0;

	_cleanup_fd_ int dir = volume_open_dir(s, v->name);
	_cleanup_fd_ int attached = dir < 0 ? -EBADF : open_attached(dir);
	if (attached < 0) {
		err_clear();
		return 0;
	}
	int count = scandirat(attached, ".", &entries, NULL, alphasort);
	if (count < 0)
		return err_sys("read %s/volumes/%s/" ATTACHED, s->path, v->name);
	for (int i = 0; i < count; i++) {
		if (r >= 0 && !v->user && entries[i]->d_name[0] != '.')
			r = note_attached(attached, a, entries[i]->d_name, v);
		free(entries[i]);
	}
	free(entries);
	return r;
}

int volumes_find_users(const struct store *s, struct arena *a, struct volume *v, size_t n)
{
	struct dirent **entries;
	size_t left = n;
	int r = 0;

	int count = scandirat(s->containers, ".", &entries, NULL, alphasort);
	if (count < 0)
		return err_sys("read %s/containers", s->path);
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		if (r >= 0 && left > 0 && *name != '.')
			r = note_container(s, a, name, v, n);
		left -= r > 0 ? (size_t)r : 0;
		free(entries[i]);
		r = r < 0 ? r : 0;
	}
	free(entries);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (!v[i].user && v[i].name)
			r = find_attached(s, a, &v[i]);
	return r;
}
