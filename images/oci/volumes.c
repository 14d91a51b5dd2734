/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/volumes.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/copy.h"
#include "base/dir.h"
#include "base/json.h"
#include "base/remove.h"
#include "images/oci/store_internal.h"
#include "images/oci/volumes_internal.h"

#define NAME_SIZE 128 /* size of a volume's longest name in bytes, with the NUL */

static int check_name(const char *name)
{
	static const char rest[] =
		"_.-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t len = strlen(name);

	if (len >= 1 && len < NAME_SIZE && !strchr("_.-", name[0]) && strspn(name, rest) == len)
		return 0;
	return err_set(EINVAL,
		"the volume's name \"%.200s\": expected up to %d letters, digits, \"_\", \".\" and "
		"\"-\", with a letter or digit first",
		name, NAME_SIZE - 1);
}

static int open_dir(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int volumes_open(const struct store *s)
{
	if (mkdirat(s->dir, "volumes", 0700) < 0 && errno != EEXIST)
		return err_sys("create %s/volumes", s->path);
	int fd = open_dir(s->dir, "volumes");
	return fd < 0 ? err_sys("open %s/volumes", s->path) : fd;
}

int volume_open_dir(const struct store *s, const char *name)
{
	int r = check_name(name);
	if (r < 0)
		return r;
	_cleanup_fd_ int all = volumes_open(s);
	if (all < 0)
		return all;
	int fd = open_dir(all, name);
	if (fd < 0 && errno == ENOENT)
		return err_set(
			ENOENT, "there is no volume \"%s\": `caisson volume ls` lists them", name);
	return fd < 0 ? err_sys("open %s/volumes/%s", s->path, name) : fd;
}

int volumes_lock(const struct store *s, bool exclusive)
{
	_cleanup_fd_ int all = volumes_open(s);
	if (all < 0)
		return all;
	_cleanup_fd_ int fd = openat(all, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys("open %s/volumes/.lock", s->path);
	int r = store_lock_file(fd, exclusive ? LOCK_EX : LOCK_SH);
	return r < 0 ? err_set(-r, "lock %s/volumes/.lock: %s", s->path, err_text(-r))
		     : take_fd(&fd);
}

/*
 * Writes a temporary name to ret: the letters `first` and a random part. No volume can have such a
 * name.
 */
static int temporary_name(const char *first, char ret[32])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random bytes");
	snprintf(ret, 32, ".%s-%016" PRIx64, first, random);
	return 0;
}

/* Says whether a later label has the key of the first of `labels`, which then has no effect. */
static bool has_later(const char *const *labels)
{
	size_t n = strcspn(*labels, "=");

	for (const char *const *l = labels + 1; *l; l++)
		if (strcspn(*l, "=") == n && strncmp(*l, *labels, n) == 0)
			return true;
	return false;
}

static int write_volume_json(int dir, const char *const *labels, const struct volume_disk *disk)
{
	_cleanup_json_out_ struct json_out o = {0};
	char created[32], key[NAME_MAX + 1];
	time_t now = time(NULL);
	const char *text;
	struct tm tm;
	size_t len;
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	json_out_object(&o, NULL);
	json_out_str(&o, "created", created);
	if (disk) {
		json_out_str(&o, "pool", "qcow2");
		json_out_u64(&o, "size", disk->size);
	}
	json_out_object(&o, "labels");
	for (; *labels; labels++) {
		size_t n = strcspn(*labels, "=");
		if (n == 0 || n >= sizeof(key))
			return err_set(EINVAL, "the label \"%.200s\": expected KEY=VALUE", *labels);
		memcpy(key, *labels, n);
		key[n] = '\0';
		if (!has_later(labels))
			json_out_str(&o, key, (*labels)[n] ? *labels + n + 1 : "");
	}
	json_out_end_object(&o);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	if (r >= 0 && len > VOLUME_JSON_MAX)
		return err_set(E2BIG, "--label: found labels of %zu bytes, expected at most %d",
			len, VOLUME_JSON_MAX);
	return r < 0 ? r : fd_write_new_file(dir, VOLUME_JSON, text, len, 0600);
}

static int make_disk_in(
	const struct store *s, int dir, const char *temporary, const struct volume_disk *disk)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path = arena_printf(&a, "%s/volumes/%s", s->path, temporary);

	return path ? volume_disk_make(&a, dir, path, disk) : -ENOMEM;
}

static int make_in(const struct store *s, int all, const char *temporary, const char *const *labels,
	const struct volume_disk *disk)
{
	if (mkdirat(all, temporary, 0700) < 0)
		return -errno;
	_cleanup_fd_ int dir = open_dir(all, temporary);
	if (dir >= 0 && disk) {
		int r = make_disk_in(s, dir, temporary, disk);
		return r < 0 ? r : write_volume_json(dir, labels, disk);
	}
	if (dir < 0 || mkdirat(dir, "data", 0755) < 0)
		return -errno;
	/*
	 * The mode is set explicitly, because the caller's umask must not count: the container's
	 * users read the directory.
	 */
	if (fchmodat(dir, "data", 0755, 0) < 0)
		return -errno;
	return write_volume_json(dir, labels, NULL);
}

int volume_make(const struct store *s, const char *name, const char *const *labels)
{
	return volume_make_disk(s, name, labels, NULL);
}

int volume_make_disk(const struct store *s, const char *name, const char *const *labels,
	const struct volume_disk *disk)
{
	char temporary[32], message[ERR_MAX];
	struct stat st;
	int r = check_name(name);

	if (r < 0)
		return r;
	_cleanup_fd_ int all = volumes_open(s);
	if (all < 0)
		return all;
	if (fstatat(all, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	r = temporary_name("new", temporary);
	if (r < 0)
		return r;
	err_clear();
	r = make_in(s, all, temporary, labels, disk);
	if (r >= 0 && renameat2(all, temporary, all, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (r >= 0)
		r = -errno;
	if (r != -EEXIST && !*err_msg())
		err_set(-r, "create %s/volumes/%s: %s", s->path, name, err_text(-r));
	snprintf(message, sizeof(message), "%s", err_msg());
	if (remove_tree(all, temporary, NULL) < 0)
		err_clear();
	return r == -EEXIST ? 1 : err_set(-r, "%s", message);
}

/* Returns 1 if the directory `dir` is empty, else 0. */
static int is_empty(int dir)
{
	DIR *d = dir_take_fd(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int r = 1;

	if (!d)
		return err_sys("read the volume");
	for (struct dirent *e; r == 1 && (e = readdir(d));)
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			r = 0;
	closedir(d);
	return r;
}

static int open_data(int volume, const char *name)
{
	int fd = open_dir(volume, "data");

	return fd < 0 ? err_sys("open the content of the volume \"%s\"", name) : fd;
}

int volume_is_empty(const struct store *s, const char *name)
{
	_cleanup_fd_ int dir = volume_open_dir(s, name);
	if (dir < 0)
		return dir;
	_cleanup_fd_ int data = open_data(dir, name);
	return data < 0 ? data : is_empty(data);
}

/* Sets dev and ino of the volume in the directory `dir`; volumes_find_users() compares them. */
static int identify(int dir, struct volume *v)
{
	struct stat data;

	if (fstatat(dir, v->disk ? VOLUME_DISK : "data", &data, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("look at the content of a volume");
	v->dev = data.st_dev;
	v->ino = data.st_ino;
	v->used = (uint64_t)data.st_blocks * 512;
	return 0;
}

int volume_fill(const struct store *s, const char *name, int from)
{
	_cleanup_arena_ struct arena a = {0};
	struct volume v = {.name = name};

	_cleanup_fd_ int dir = volume_open_dir(s, name);
	if (dir < 0)
		return dir;
	/*
	 * A volume that a container mounts stays empty, because the rename below would take the
	 * directory away from the container.
	 */
	int r = identify(dir, &v);
	if (r >= 0)
		r = volumes_find_users(s, &a, &v, 1);
	if (r < 0 || v.user)
		return r;
	/*
	 * The directory "new" is removed first, because an interrupted volume_fill() may have left
	 * it.
	 */
	r = remove_tree(dir, "new", NULL);
	if (r < 0)
		return r;
	if (mkdirat(dir, "new", 0700) < 0)
		return err_sys("create %s/volumes/%s/new", s->path, name);
	_cleanup_fd_ int new = open_dir(dir, "new");
	r = new < 0 ? err_sys("open %s/volumes/%s/new", s->path, name)
		    : copy_tree_with_root(from, new);
	/*
	 * The rename fails if the volume has content, because rename(2) replaces an empty directory
	 * and no other.
	 */
	if (r >= 0 && renameat(dir, "new", dir, "data") < 0)
		r = err_sys("fill the volume \"%s\"", name);
	return r;
}

const char *volume_path(const struct store *s, struct arena *a, const char *name)
{
	return arena_printf(a, "%s/volumes/%s/data", s->path, name);
}

/* Does what volume_read_own() does, with the volume's directory `dir`. */
static int read_dir(
	const struct store *s, struct arena *a, const char *name, int dir, struct volume *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *j;

	int r = fd_read_file(dir, VOLUME_JSON, &text, VOLUME_JSON_MAX);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&text), text.len, VOLUME_JSON, &j);
	if (r < 0)
		return r;
	ret->name = arena_strdup(a, name);
	const char *pool = json_get_str(j, "pool");
	ret->disk = pool && streq(pool, "qcow2");
	ret->path = ret->disk ? arena_printf(a, "%s/volumes/%s/" VOLUME_DISK, s->path, name)
			      : volume_path(s, a, name);
	(void)!json_get_u64(j, "size", &ret->size);
	ret->created = json_get_str(j, "created");
	ret->labels = json_get(j, "labels");
	if (!ret->name || !ret->path)
		return -ENOMEM;
	return identify(dir, ret);
}

int volume_read_own(const struct store *s, struct arena *a, const char *name, struct volume *ret)
{
	*ret = (struct volume){0};
	_cleanup_fd_ int dir = volume_open_dir(s, name);
	if (dir < 0)
		return dir;
	int r = read_dir(s, a, name, dir, ret);
	if (r >= 0)
		return r;
	r = err_ctx(r == -ENOENT ? -EBADMSG : r, "the volume \"%s\"", name);
	/*
	 * The directory is looked up a second time, because a process that removes the volume gives
	 * the directory another name first, and then removes its files.
	 */
	_cleanup_free_ char *message = strdup(err_msg());
	if (!message)
		return -ENOMEM;
	_cleanup_fd_ int again = volume_open_dir(s, name);
	return again == -ENOENT ? again : err_set(-r, "%s", message);
}

int volume_note_damage(struct arena *a, struct volume *v, int r)
{
	if (r == -ENOMEM)
		return r;
	v->damage = arena_strdup(a, err_msg());
	err_clear();
	return v->damage ? 0 : -ENOMEM;
}

int volume_read(const struct store *s, struct arena *a, const char *name, struct volume *ret)
{
	int r = volume_read_own(s, a, name, ret);

	return r < 0 ? r : volumes_find_users(s, a, ret, 1);
}

/*
 * Reads a volume into v[*n] and increments *n. If another process has removed the volume after its
 * name was read, the volume is left out.
 */
static int add_volume(
	const struct store *s, struct arena *a, const char *name, struct volume *v, size_t *n)
{
	int r = volume_read_own(s, a, name, &v[*n]);

	if (r == -ENOENT) {
		err_clear();
		return 0;
	}
	if (r < 0) {
		v[*n] = (struct volume){.name = arena_strdup(a, name)};
		r = v[*n].name ? volume_note_damage(a, &v[*n], r) : -ENOMEM;
	}
	++*n;
	return r;
}

int volumes_read(const struct store *s, struct arena *a, struct volume **ret, size_t *ret_n)
{
	_cleanup_fd_ int all = volumes_open(s);
	struct dirent **entries;
	int r = 0;

	*ret_n = 0;
	if (all < 0)
		return all;
	int n = scandirat(all, ".", &entries, NULL, alphasort);
	if (n < 0)
		return err_sys("read %s/volumes", s->path);
	*ret = arena_array(a, (size_t)n, sizeof(**ret));
	if (!*ret)
		r = -ENOMEM;
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		/* No volume has another name: .lock is not one, nor the lost+found of ext4. */
		if (r >= 0 && check_name(name) >= 0)
			r = add_volume(s, a, name, *ret, ret_n);
		else if (r >= 0)
			err_clear();
		free(entries[i]);
	}
	free(entries);
	return r < 0 ? r : volumes_find_users(s, a, *ret, *ret_n);
}

static int err_in_use(const struct volume *v)
{
	if (v->attached)
		return err_set(EBUSY,
			"the volume \"%s\" is mounted in the container \"%s\": `caisson volume "
			"detach "
			"%s %s` or `caisson rm %s` first",
			v->name, v->user, v->name, v->user, v->user);
	return err_set(EBUSY,
		"the volume \"%s\" is mounted in the container \"%s\": `caisson rm %s` first",
		v->name, v->user, v->user);
}

/*
 * Finds a container that mounts what there is of a damaged volume. The volume is looked at as two,
 * one with a directory and one with a disk, because volume.json would say which of them is there.
 */
static int read_damaged(
	const struct store *s, struct arena *a, const char *name, struct volume *ret)
{
	struct volume v[] = {{.name = name}, {.name = name, .disk = true}};

	_cleanup_fd_ int dir = volume_open_dir(s, name);
	if (dir < 0)
		return dir;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		int r = identify(dir, &v[i]);
		if (r == -ENOENT)
			err_clear();
		else if (r < 0)
			return r;
	}
	int r = volumes_find_users(s, a, v, ARRAY_SIZE(v));
	*ret = v[0].user ? v[0] : v[1];
	/* Only `caisson rm` ends the use, because `caisson volume detach` reads volume.json. */
	ret->attached = false;
	return r;
}

int volume_remove(const struct store *s, struct arena *a, const char *name, bool damaged_too)
{
	struct volume v;
	char gone[32];
	int r = volume_read_own(s, a, name, &v);

	if (r == -ENOENT || r == -ENOMEM || (r < 0 && check_name(name) < 0))
		return r;
	if (r < 0 && !damaged_too)
		return err_ctx(r, "`caisson volume rm --force` removes it with its content");
	r = r < 0 ? read_damaged(s, a, name, &v) : volumes_find_users(s, a, &v, 1);
	if (r < 0)
		return r;
	if (v.user)
		return err_in_use(&v);
	r = temporary_name("old", gone);
	if (r < 0)
		return r;
	_cleanup_fd_ int all = volumes_open(s);
	if (all < 0)
		return all;
	if (renameat(all, name, all, gone) < 0)
		return err_sys("remove %s/volumes/%s", s->path, name);
	return remove_tree(all, gone, NULL);
}
