/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The store has two locks. A process takes both by flock(2), so that the
 * kernel releases them when the process ends:
 *
 * - Each process that has the store open holds a shared lock on STORE/lock. store_gc() holds the
 *   exclusive lock on STORE/lock while it removes blobs. So store_gc() never removes blobs of a
 *   pull that has no tag yet.
 * - A process holds STORE/index.lock while it reads, changes and replaces index.json.
 */
#include "images/oci/store_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/data_dir.h"

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
static const char empty_index[] =
	"{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":[]}";

int store_lock_file(int fd, int operation)
{
	while (flock(fd, operation) < 0) {
		if (errno == EINTR)
			continue;
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	}
	return 0;
}

static int make_dir(int at, const char *name, const char *path)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
			return err_sys("create %s/%s", path, name);
		fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd < 0 ? err_sys("open %s/%s", path, name) : fd;
}

/*
 * Replaces a file in STORE/images: writes the text to a new file and renames that to the old file's
 * name.
 */
static int replace_file(const struct store *s, const char *name, const char *text, size_t len)
{
	char temporary[64];

	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	_cleanup_fd_ int fd =
		openat(s->images, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys("create %s/images/%s", s->path, temporary);
	int r = fd_write_all(fd, text, len);
	if (r < 0)
		return err_set(-r, "write %s/images/%s: %s", s->path, temporary, err_text(-r));
	if (s->sync == STORE_SYNC && fsync(fd) < 0)
		return err_sys("sync %s/images/%s", s->path, temporary);
	if (renameat(s->images, temporary, s->images, name) < 0)
		return err_sys("replace %s/images/%s", s->path, name);
	if (s->sync == STORE_SYNC && fsync(s->images) < 0)
		return err_sys("sync %s/images", s->path);
	return 0;
}

static bool exists(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/*
 * Makes the directories and files of an OCI layout. The file oci-layout is made last, so that every
 * directory with this file is complete.
 */
static int make_layout(struct store *s)
{
	if (exists(s->images, "oci-layout"))
		return 0;
	int r = store_lock_file(s->lock, LOCK_EX);
	if (r < 0)
		return err_set(-r, "lock %s/lock: %s", s->path, err_text(-r));
	if (!exists(s->images, "index.json"))
		r = replace_file(s, "index.json", empty_index, strlen(empty_index));
	if (r >= 0 && !exists(s->images, "oci-layout"))
		r = replace_file(s, "oci-layout", layout_text, strlen(layout_text));
	return r;
}

static int open_dirs(struct store *s)
{
	const struct {
		int *fd;
		const char *name;
	} dirs[] = {{&s->images, "images"}, {&s->partial, "partial"}, {&s->layers, "layers"},
		{&s->chains, "chains"}, {&s->containers, "containers"}};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		*dirs[i].fd = make_dir(s->dir, dirs[i].name, s->path);
		if (*dirs[i].fd < 0)
			return *dirs[i].fd;
	}
	_cleanup_fd_ int blobs = make_dir(s->images, "blobs", s->path);
	if (blobs < 0)
		return blobs;
	for (size_t i = 0; i < ARRAY_SIZE(s->blobs); i++) {
		s->blobs[i] =
			make_dir(blobs, digest_algorithm_name((enum digest_algorithm)i), s->path);
		if (s->blobs[i] < 0)
			return s->blobs[i];
	}
	return 0;
}

int store_open(struct store *s, const char *path, enum store_sync sync)
{
	char buf[PATH_MAX];
	int r = path ? 0 : data_dir_find(buf, sizeof(buf));

	*s = (struct store)STORE_INIT;
	s->sync = sync;
	if (r < 0)
		return err_ctx(r, "where is the store? Say it with --store DIR");
	s->path = strdup(path ? path : buf);
	if (!s->path)
		return err_set(ENOMEM, "out of memory");
	/* The path must be absolute, because overlay mounts name their layers by the path. */
	char *real = realpath(s->path, NULL);
	if (!real && errno == ENOENT) {
		r = data_dir_make(s->path);
		if (r < 0)
			return r;
		real = realpath(s->path, NULL);
	}
	if (!real)
		return err_sys("find the store %s", s->path);
	free((char *)s->path);
	s->path = real;
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return err_sys("open the store %s", s->path);
	s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock < 0)
		return err_sys("open %s/lock", s->path);
	r = open_dirs(s);
	if (r >= 0)
		r = make_layout(s);
	if (r < 0)
		return r;
	r = store_lock_file(s->lock, LOCK_SH);
	return r < 0 ? err_set(-r, "lock %s/lock: %s", s->path, err_text(-r)) : 0;
}

void store_close(struct store *s)
{
	fd_close(&s->images);
	for (size_t i = 0; i < ARRAY_SIZE(s->blobs); i++)
		fd_close(&s->blobs[i]);
	fd_close(&s->partial);
	fd_close(&s->layers);
	fd_close(&s->chains);
	fd_close(&s->containers);
	fd_close(&s->dir);
	fd_close(&s->lock);
	free((char *)s->path);
	s->path = NULL;
}

int store_lock_alone(struct store *s)
{
	int r = store_lock_file(s->lock, LOCK_EX | LOCK_NB);

	if (r >= 0)
		return 0;
	/*
	 * The shared lock is taken once more, because flock(2) may have released it when it failed
	 * to make the lock exclusive.
	 */
	(void)!store_lock_file(s->lock, LOCK_SH);
	return err_set(-r, "the store %s is in use by another process: try again when it is done",
		s->path);
}

int store_lock_shared(struct store *s)
{
	int r = store_lock_file(s->lock, LOCK_SH);

	return r < 0 ? err_set(-r, "lock %s/lock: %s", s->path, err_text(-r)) : 0;
}

static int read_index(const struct store *s, struct arena *a, struct document *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char what[PATH_MAX];

	snprintf(what, sizeof(what), "%s/images/index.json", s->path);
	int r = fd_read_regular(s->images, "index.json", &text, OCI_DOCUMENT_MAX);
	return r < 0 ? r : document_parse(a, &text, what, MEDIA_OCI_INDEX, ret);
}

int store_tags(const struct store *s, struct arena *a, struct document *ret)
{
	return read_index(s, a, ret);
}

static bool is_tag(const struct descriptor *d, const char *name)
{
	return d->ref_name && streq(d->ref_name, name);
}

static int write_index(const struct store *s, const struct document *index, const char *without,
	const struct descriptor *added)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	index_write(&o, index, without, added);
	r = json_out_text(&o, &text, &len);
	if (r >= 0 && len > OCI_DOCUMENT_MAX)
		return err_set(E2BIG,
			"%s/images/index.json: too many tags: remove some with "
			"`caisson image rm`",
			s->path);
	return r < 0 ? r : replace_file(s, "index.json", text, len);
}

static int lock_index(const struct store *s)
{
	_cleanup_fd_ int fd = openat(s->dir, "index.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys("open %s/index.lock", s->path);
	int r = store_lock_file(fd, LOCK_EX);
	return r < 0 ? err_set(-r, "lock %s/index.lock: %s", s->path, err_text(-r)) : take_fd(&fd);
}

int store_tag(const struct store *s, const char *name, const struct descriptor *d)
{
	_cleanup_arena_ struct arena a = {0};
	struct document index;
	struct descriptor tagged = *d;

	for (const char *p = name; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return err_set(EINVAL, "a tag's name holds a blank or a control character");
	if (!*name || strlen(name) > 512)
		return err_set(
			EINVAL, "a tag's name has %zu characters: expected 1 to 512", strlen(name));
	tagged.ref_name = name;
	_cleanup_fd_ int lock = lock_index(s);
	if (lock < 0)
		return lock;
	int r = read_index(s, &a, &index);
	return r < 0 ? r : write_index(s, &index, name, &tagged);
}

int store_untag(const struct store *s, const char *name)
{
	_cleanup_arena_ struct arena a = {0};
	struct document index;
	bool found = false;
	_cleanup_fd_ int lock = lock_index(s);

	if (lock < 0)
		return lock;
	int r = read_index(s, &a, &index);
	if (r < 0)
		return r;
	for (size_t i = 0; i < index.nmanifests; i++)
		found |= is_tag(&index.manifests[i], name);
	if (!found)
		return err_set(ENOENT,
			"no image \"%s\" in the store %s: `caisson image ls` lists them", name,
			s->path);
	return write_index(s, &index, name, NULL);
}
