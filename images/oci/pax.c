/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses PAX records: "LENGTH KEY=VALUE
 * ", where LENGTH is the length of the whole record, including its own digits. A record that breaks
 * this form is an error. Keys that have no meaning for a layer are ignored.
 */
#include "images/oci/tar_internal.h"

#define XATTR_PREFIX "SCHILY.xattr."
#define SPARSE_PREFIX "GNU.sparse."

struct record {
	/* key and value of a PAX record; both end in NUL, and the value may also contain NULs */
	const char *key, *value;
	size_t len; /* length of the value in bytes, without the NUL at its end */
};

static int malformed(const char *why)
{
	return err_set(EBADMSG, "the tar has a malformed PAX record: %s", why);
}

/*
 * Takes one record from *p, and moves *p behind it. Writes a NUL behind the key and behind the
 * value.
 */
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

static int text(const struct record *rec, bool *has)
{
	if (strlen(rec->value) != rec->len)
		return malformed("a name holds a NUL character");
	*has = rec->len > 0;
	return 0;
}

/*
 * Parses the number that is the value of a PAX record. An empty value means that the field of the
 * tar header counts instead of the record.
 */
static int number(const struct record *rec, bool *has, uint64_t *ret)
{
	*has = rec->len > 0;
	if (!*has)
		return 0;
	if (strlen(rec->value) != rec->len || str_to_u64(rec->value, ret) < 0 || *ret > INT64_MAX)
		return malformed("a number is not one");
	return 0;
}

/*
 * Parses the time that is the value of a PAX record, "SECONDS[.FRACTION]", which may be negative.
 * Digits beyond nanoseconds are dropped.
 */
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

/*
 * Reads a uid or a gid from a PAX record. If the value is empty, the id of the tar header counts,
 * although libarchive reads an empty value as 0.
 */
static int id(const struct record *rec, bool *ret_none)
{
	uint64_t v;
	bool has = false;
	int r = number(rec, &has, &v);

	*ret_none = !has;
	return r;
}

/*
 * Reads a size from a PAX record. An empty value is refused, because programs that read tars
 * disagree on its meaning.
 */
static int size(const struct record *rec, struct pax *p)
{
	return rec->len == 0 ? malformed("a size is empty") : number(rec, &p->has_size, &p->size);
}

/*
 * Checks the map of a sparse file in GNU's form 0.1, the value of a PAX record:
 * "offset,length,offset,length".
 */
static int map(const struct record *rec)
{
	size_t commas = 0;

	for (size_t i = 0; i < rec->len; i++) {
		bool comma = rec->value[i] == ',';
		if (!comma && (rec->value[i] < '0' || rec->value[i] > '9'))
			return malformed("the map of a sparse file is broken");
		if (comma && (i == 0 || i + 1 == rec->len || rec->value[i - 1] == ','))
			return malformed("the map of a sparse file is broken");
		commas += comma;
	}
	return commas % 2 == 1 ? 0 : malformed("the map of a sparse file is broken");
}

/*
 * Which PAX records of a sparse file a tar entry has. All records that the sparse file's form needs
 * must be in the same entry, because libarchive keeps some records of the entry before.
 */
struct sparse_records {
	bool major, minor, numblocks, offset;
};

static int sparse_number(const struct record *rec, const char *key, struct sparse_records *s)
{
	uint64_t v = 0;
	bool has = false;
	int r = number(rec, &has, &v);

	if (r < 0)
		return r;
	if (!has)
		return malformed("a number of a sparse file is empty");
	if (streq(key, "major") || streq(key, "minor")) {
		bool major = key[1] == 'a';
		*(major ? &s->major : &s->minor) = true;
		if (v != (major ? 1 : 0))
			return malformed("an unknown form of a sparse file");
	} else if (streq(key, "numblocks")) {
		s->numblocks = true;
	} else if (streq(key, "offset")) {
		if (s->offset || !s->numblocks)
			return malformed("an offset of a sparse file is out of order");
		s->offset = true;
	} else if (streq(key, "numbytes")) {
		if (!s->offset)
			return malformed("a sparse file's numbytes has no offset before it");
		s->offset = false;
	}
	return 0;
}

static int sparse(const struct record *rec, struct pax *p, struct sparse_records *s)
{
	static const char *const numbers[] = {
		"major", "minor", "realsize", "size", "numblocks", "offset", "numbytes"};
	const char *key = rec->key + strlen(SPARSE_PREFIX);

	p->sparse = true;
	if (streq(key, "name"))
		return text(rec, &p->has_path);
	if (streq(key, "map"))
		return map(rec);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (streq(key, numbers[i]))
			return sparse_number(rec, key, s);
	return malformed("an unknown record of a sparse file");
}

static int take(struct tar *t, const struct record *rec, struct pax *p, struct sparse_records *s)
{
	if (streq(rec->key, "path"))
		return text(rec, &p->has_path);
	if (streq(rec->key, "linkpath"))
		return text(rec, &p->has_linkpath);
	if (streq(rec->key, "size"))
		return size(rec, p);
	if (streq(rec->key, "uid"))
		return id(rec, &p->no_uid);
	if (streq(rec->key, "gid"))
		return id(rec, &p->no_gid);
	if (streq(rec->key, "mtime"))
		return time_of(rec, &p->has_mtime, &p->mtime);
	if (str_starts(rec->key, XATTR_PREFIX))
		return xattr(t, rec, p);
	if (str_starts(rec->key, SPARSE_PREFIX))
		return sparse(rec, p, s);
	if (streq(rec->key, "SCHILY.realsize") || streq(rec->key, "SUN.holesdata"))
		return err_set(EBADMSG,
			"the tar has a PAX record %s: only GNU's forms of sparse files are known",
			rec->key);
	return 0;
}

int pax_parse(struct tar *t, struct pax *ret)
{
	struct sparse_records s = {0};
	int r = 0;

	*ret = (struct pax){0};
	if (t->records.len == 0)
		return 0;
	char *p = t->records.s, *end = p + t->records.len;
	while (p < end && r >= 0) {
		struct record rec = {0};
		r = take_record(&p, end, &rec);
		if (r >= 0)
			r = take(t, &rec, ret, &s);
	}
	if (r >= 0 && (s.major != s.minor || s.offset))
		return malformed("the map of a sparse file is cut");
	return r;
}
