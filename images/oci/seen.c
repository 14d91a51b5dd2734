/* SPDX-License-Identifier: Apache-2.0 */
/* The names that a layer has written, and the times of the directories that it changes. */
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/remove.h"
#include "images/oci/tree_internal.h"

/* A set of hashes, stored as a hash table with open addressing, in which 0 is an empty place. */
struct seen {
	/*
	 * random key of the hash, so that the author of a layer cannot cause collisions on purpose
	 */
	uint64_t key[2];
	uint64_t *v;
	size_t cap, n; /* cap: places in the table, a power of two; n: used places */
};

#define SEEN_START 1024

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

static uint64_t hash(const struct seen *s, uint64_t dir, const char *name)
{
	uint64_t h = mix(s->key[0] ^ dir);

	for (; *name; name++)
		h = mix(h ^ (unsigned char)*name ^ s->key[1]);
	return h ? h : 1;
}

static size_t place(const struct seen *s, uint64_t h)
{
	size_t i = h & (s->cap - 1);

	while (s->v[i] && s->v[i] != h)
		i = (i + 1) & (s->cap - 1);
	return i;
}

int seen_new(struct seen **ret)
{
	struct seen *s = calloc(1, sizeof(*s));

	if (s)
		s->v = calloc(SEEN_START, sizeof(*s->v));
	if (!s || !s->v) {
		free(s);
		return err_set(ENOMEM, "out of memory");
	}
	s->cap = SEEN_START;
	*ret = s;
	if (getrandom(s->key, sizeof(s->key), 0) != sizeof(s->key))
		return err_sys("get random bytes");
	return 0;
}

static int grow(struct seen *s)
{
	struct seen larger = {.cap = s->cap * 2};

	larger.v = calloc(larger.cap, sizeof(*larger.v));
	if (!larger.v)
		return err_set(ENOMEM, "out of memory");
	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i])
			larger.v[place(&larger, s->v[i])] = s->v[i];
	free(s->v);
	s->v = larger.v;
	s->cap = larger.cap;
	return 0;
}

int seen_add(struct seen *s, uint64_t dir, const char *name)
{
	if (s->n * 4 >= s->cap * 3) {
		int r = grow(s);
		if (r < 0)
			return r;
	}
	uint64_t h = hash(s, dir, name);
	size_t i = place(s, h);
	s->n += s->v[i] == 0;
	s->v[i] = h;
	return 0;
}

static bool seen_has(const struct seen *s, uint64_t dir, const char *name)
{
	return s && s->v[place(s, hash(s, dir, name))] != 0;
}

static bool seen_is_empty(const struct seen *s)
{
	return s->n == 0;
}

static bool keep_seen(const void *data, uint64_t dir, const char *name)
{
	return seen_has(data, dir, name);
}

/*
 * Returns the set of files that remove_tree() must keep because this layer wrote them, or NULL if
 * this layer has written no files. With NULL, remove_tree() may move whole directories.
 */
static const struct remove_keep *keep_of(const struct seen *s, struct remove_keep *buf)
{
	*buf = (struct remove_keep){keep_seen, s};
	return s && !seen_is_empty(s) ? buf : NULL;
}

int tree_remove(int dir, const char *name, const struct seen *keep)
{
	struct remove_keep buf;

	return remove_tree(dir, name, keep_of(keep, &buf));
}

int tree_clear(int dir, const struct seen *keep)
{
	struct remove_keep buf;

	return remove_all_in(dir, keep_of(keep, &buf));
}

void seen_free(struct seen *s)
{
	if (s)
		free(s->v);
	free(s);
}

struct dir_time {
	char *path;
	ino_t ino;
	dev_t dev;
	struct timespec mtime;
};

struct dir_times {
	struct dir_time *v;
	size_t n, cap;
	struct seen *noted; /* set of the inodes whose times are recorded */
};

int dir_times_new(struct dir_times **ret)
{
	struct dir_times *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(ENOMEM, "out of memory");
	*ret = d;
	return seen_new(&d->noted);
}

int dir_times_note(struct dir_times *d, const char *path, const struct stat *st,
	const struct timespec *mtime, bool first)
{
	if (first && seen_has(d->noted, st->st_ino, ""))
		return 0;
	if (d->n == TREE_DIRS_MAX)
		return err_set(E2BIG, "a layer changes more than %u directories", TREE_DIRS_MAX);
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 256;
		struct dir_time *v = reallocarray(d->v, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		d->v = v;
		d->cap = cap;
	}
	char *copy = strdup(path);
	if (!copy)
		return err_set(ENOMEM, "out of memory");
	d->v[d->n++] = (struct dir_time){copy, st->st_ino, st->st_dev, *mtime};
	return seen_add(d->noted, st->st_ino, "");
}

int dir_times_apply(struct dir_times *d, int root)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct dir_time *t = &d->v[i];
		const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, t->mtime};
		struct stat st;
		_cleanup_fd_ int fd = path_open(root, t->path, O_RDONLY | O_DIRECTORY);
		/*
		 * A directory that a later entry of the layer has removed or replaced is skipped.
		 */
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != t->ino || st.st_dev != t->dev)
			continue;
		if (futimens(fd, times) < 0)
			return err_sys("set the time of the directory %s", t->path);
	}
	err_clear();
	return 0;
}

void dir_times_free(struct dir_times *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].path);
	free(d->v);
	seen_free(d->noted);
	free(d);
}
