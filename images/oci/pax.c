/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses PAX records: "LENGTH KEY=VALUE
 * ", where LENGTH is the length of the whole record, including its own digits. A record that breaks
 * this form is an error. Keys that have no meaning for a layer are ignored.
 */
#include <stdlib.h>

#include "images/oci/tar_internal.h"

#define XATTR_PREFIX "SCHILY.xattr."
#define SPARSE_PREFIX "GNU.sparse."

struct record {
	const char *key, *value; /* strings that end in NUL; the value may contain NULs too */
	size_t len;              /* length of the value */
};

static int malformed(const char *why)
{
	return err_set(EBADMSG, "the tar has a malformed PAX record: %s", why);
}

/* Takes one record from *p. Writes a NUL behind the key and behind the value. */
static int take_record(char **p, const char *end, struct record *ret)
{
	char *s = *p, *digits = s;
	size_t len = 0;

	while (s < end && *s >= '0' && *s <= '9' && s - digits < 8)
		len = len * 10 + (size_t)(*s++ - '0');
	if (s == digits || s == end || *s != ' ')
		return malformed("it does not begin with its length");
	s++;
	if (len > (size_t)(end - digits) || digits + len <= s)
		return malformed("its length is wrong");
	char *last = digits + len - 1;
	if (*last != '\n')
		return malformed("it does not end in a newline");
	char *equals = memchr(s, '=', (size_t)(last - s));
	if (!equals || equals == s)
		return malformed("it has no key");
	if (memchr(s, '\0', (size_t)(equals - s)))
		return malformed("its key holds a NUL character");
	*equals = '\0';
	*last = '\0';
	*ret = (struct record){.key = s, .value = equals + 1, .len = (size_t)(last - equals - 1)};
	*p = last + 1;
	return 0;
}

static int text(const struct record *rec, const char **ret)
{
	if (strlen(rec->value) != rec->len)
		return malformed("a name holds a NUL character");
	*ret = rec->len ? rec->value : NULL;
	return 0;
}

/* Parses the number in a record. An empty value means that the field of the header is valid. */
static int number(const struct record *rec, bool *has, uint64_t *ret)
{
	*has = rec->len > 0;
	if (!*has)
		return 0;
	if (strlen(rec->value) != rec->len || str_to_u64(rec->value, ret) < 0 || *ret > INT64_MAX)
		return malformed("a number is not one");
	return 0;
}

/* Parses "SECONDS[.FRACTION]", which may be negative. Digits beyond nanoseconds are dropped. */
static int time_of(const struct record *rec, bool *has, struct timespec *ret)
{
	const char *s = rec->value;
	char seconds[32];
	size_t n = strcspn(s, ".");
	int64_t v;
	long nanoseconds = 0, unit = 100000000;

	*has = rec->len > 0;
	if (!*has)
		return 0;
	if (strlen(s) != rec->len || n == 0 || n >= sizeof(seconds))
		return malformed("a time is not one");
	memcpy(seconds, s, n);
	seconds[n] = '\0';
	if (str_to_i64(seconds, &v) < 0)
		return malformed("a time is not one");
	for (const char *p = s[n] ? s + n + 1 : ""; *p; p++) {
		if (*p < '0' || *p > '9')
			return malformed("a time is not one");
		nanoseconds += (*p - '0') * unit;
		unit /= 10;
	}
	if (s[0] == '-' && nanoseconds > 0) {
		if (v == INT64_MIN)
			return malformed("a time is not one");
		v--;
		nanoseconds = 1000000000 - nanoseconds;
	}
	*ret = (struct timespec){.tv_sec = v, .tv_nsec = nanoseconds};
	return 0;
}

static int xattr(struct tar *t, const struct record *rec, struct pax *p)
{
	const char *name = rec->key + strlen(XATTR_PREFIX);
	size_t i = 0;

	if (!*name)
		return malformed("an extended attribute has no name");
	while (i < p->nxattrs && !streq(t->xattrs[i].name, name))
		i++;
	if (i == TAR_XATTRS_MAX)
		return err_set(
			E2BIG, "a tar entry has more than %u extended attributes", TAR_XATTRS_MAX);
	t->xattrs[i] = (struct tar_xattr){.name = name, .value = rec->value, .len = rec->len};
	if (i == p->nxattrs)
		p->nxattrs++;
	return 0;
}

/* Parses the map of a sparse file in GNU's format 0.1: "offset,length,offset,length". */
static int map(struct tar *t, const char *s)
{
	uint64_t pair[2];
	char digits[24];

	while (*s) {
		for (int i = 0; i < 2; i++) {
			size_t n = strcspn(s, ",");
			if (n == 0 || n >= sizeof(digits))
				return malformed("the map of a sparse file is broken");
			memcpy(digits, s, n);
			digits[n] = '\0';
			if (str_to_u64(digits, &pair[i]) < 0)
				return malformed("the map of a sparse file is broken");
			s += n;
			if (*s == ',')
				s++;
			else if (i == 0)
				return malformed("the map of a sparse file is broken");
		}
		int r = sparse_add(t, pair[0], pair[1]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* State for GNU's sparse format 0.0, in which a pair of records describes each piece. */
struct sparse_pair {
	bool has_offset;
	uint64_t offset;
};

static int sparse(struct tar *t, const struct record *rec, struct pax *p, struct sparse_pair *pair)
{
	const char *key = rec->key + strlen(SPARSE_PREFIX);
	uint64_t v = 0;
	bool has;
	int r = 0;

	p->sparse = true;
	if (streq(key, "name"))
		return text(rec, &p->sparse_name);
	if (streq(key, "map"))
		return strlen(rec->value) == rec->len
			       ? map(t, rec->value)
			       : malformed("the map of a sparse file is broken");
	r = number(rec, &has, &v);
	if (r < 0)
		return r;
	if (streq(key, "major"))
		p->sparse_map_in_data = v == 1;
	else if (streq(key, "realsize") || streq(key, "size")) {
		p->has_real_size = has;
		p->real_size = v;
	} else if (streq(key, "offset")) {
		*pair = (struct sparse_pair){.has_offset = true, .offset = v};
	} else if (streq(key, "numbytes")) {
		if (!pair->has_offset)
			return malformed("a sparse file's numbytes has no offset before it");
		pair->has_offset = false;
		r = sparse_add(t, pair->offset, v);
	}
	return r;
}

static int take(struct tar *t, const struct record *rec, struct pax *p, struct sparse_pair *pair)
{
	if (streq(rec->key, "path"))
		return text(rec, &p->path);
	if (streq(rec->key, "linkpath"))
		return text(rec, &p->linkpath);
	if (streq(rec->key, "size"))
		return number(rec, &p->has_size, &p->size);
	if (streq(rec->key, "uid"))
		return number(rec, &p->has_uid, &p->uid);
	if (streq(rec->key, "gid"))
		return number(rec, &p->has_gid, &p->gid);
	if (streq(rec->key, "mtime"))
		return time_of(rec, &p->has_mtime, &p->mtime);
	if (str_starts(rec->key, XATTR_PREFIX))
		return xattr(t, rec, p);
	if (str_starts(rec->key, SPARSE_PREFIX))
		return sparse(t, rec, p, pair);
	return 0;
}

int pax_parse(struct tar *t, struct pax *ret)
{
	struct sparse_pair pair = {0};
	int r = 0;

	*ret = (struct pax){0};
	if (t->extended.len == 0)
		return 0;
	char *p = t->extended.s, *end = p + t->extended.len;
	while (p < end && r >= 0) {
		struct record rec = {0};
		r = take_record(&p, end, &rec);
		if (r >= 0)
			r = take(t, &rec, ret, &pair);
	}
	return r;
}
