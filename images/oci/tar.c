/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/tar.h"

#include <stdio.h>
#include <stdlib.h>

#include "images/oci/tar_internal.h"

/* Offsets of fields in a ustar header. */
enum {
	AT_MODE = 100,
	AT_UID = 108,
	AT_GID = 116,
	AT_SIZE = 124,
	AT_MTIME = 136,
	AT_CHECKSUM = 148,
	AT_TYPE = 156,
	AT_LINK = 157,
	AT_MAGIC = 257,
	AT_MAJOR = 329,
	AT_MINOR = 337,
	AT_PREFIX = 345,
	AT_STAR_TRAILER = 508,
};

/* The long names that GNU's L and K entries give to the entry that follows them. */
struct ahead_of {
	bool pax, name, link;
};

void tar_init(struct tar *t, const struct stream *stream)
{
	*t = (struct tar){.stream = stream};
}

void tar_release(struct tar *t)
{
	strbuf_release(&t->extended);
	free(t->pieces);
	t->pieces = NULL;
}

static int more(struct tar *t)
{
	if (t->left > 0 || t->stream_ended)
		return 0;
	ssize_t n = stream_next(t->stream, &t->p);
	if (n < 0)
		return (int)n;
	t->left = (size_t)n;
	t->stream_ended = n == 0;
	return 0;
}

ssize_t tar_read(struct tar *t, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		int r = more(t);
		if (r < 0)
			return r;
		if (t->stream_ended)
			break;
		size_t n = t->left < len - done ? t->left : len - done;
		memcpy((char *)buf + done, t->p, n);
		t->p += n;
		t->left -= n;
		done += n;
	}
	return (ssize_t)done;
}

static int cut(void)
{
	return err_set(EBADMSG, "the tar ends in the midst of an entry");
}

/*
 * Skips the rest of the entry's data and its padding. The padding behind the last entry may be
 * missing, but its data may not.
 */
static int skip(struct tar *t)
{
	while (t->padded > 0) {
		int r = more(t);
		if (r < 0)
			return r;
		if (t->stream_ended) {
			if (t->padded > t->padding)
				return cut();
			t->padded = 0;
			break;
		}
		size_t n = t->left < t->padded ? t->left : (size_t)t->padded;
		t->p += n;
		t->left -= n;
		t->padded -= n;
	}
	return 0;
}

int tar_number(const unsigned char *field, size_t len, int64_t *ret)
{
	size_t i = 0;
	uint64_t v = 0;

	if (field[0] & 0x80) {
		/*
		 * The number is in base 256: the remaining bits are a number in two's complement.
		 */
		bool negative = field[0] & 0x40;
		uint64_t invert = negative ? 0xff : 0;
		for (i = 0; i < len; i++) {
			uint64_t c = field[i] ^ invert;
			if (i == 0)
				c &= 0x7f;
			if (v >> 55)
				return -ERANGE;
			v = v << 8 | c;
		}
		*ret = negative ? (int64_t)~v : (int64_t)v;
		return 0;
	}
	while (i < len && (field[i] == ' ' || field[i] == '\0'))
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
		if (v >> 60)
			return -ERANGE;
		v = v << 3 | (uint64_t)(field[i] - '0');
	}
	for (; i < len; i++)
		if (field[i] != ' ' && field[i] != '\0')
			return -EINVAL;
	*ret = (int64_t)v;
	return 0;
}

static int number(const unsigned char *h, size_t at, size_t len, const char *what, int64_t *ret)
{
	return tar_number(h + at, len, ret) < 0
		       ? err_set(EBADMSG, "a tar header's %s is not a number", what)
		       : 0;
}

static bool is_zero(const unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static int check_sum(const unsigned char *h)
{
	int64_t said = -1, sum = 0, signed_sum = 0;
	bool number_given = tar_number(h + AT_CHECKSUM, 8, &said) >= 0;

	for (size_t i = 0; i < TAR_BLOCK_SIZE; i++) {
		unsigned char c = i >= AT_CHECKSUM && i < AT_CHECKSUM + 8 ? ' ' : h[i];
		sum += c;
		signed_sum += (signed char)c;
	}
	if (!number_given || (said != sum && said != signed_sum))
		return err_set(EBADMSG,
			"a tar header's checksum is wrong: this is no tar, or it is damaged");
	return 0;
}

/*
 * Checks that only zeros follow the first block of zeros, which ends the tar. Anything else would
 * be lost without a message.
 */
static int expect_end(struct tar *t)
{
	for (;;) {
		int r = more(t);
		if (r < 0)
			return r;
		if (t->stream_ended)
			return 0;
		if (!is_zero(t->p, t->left))
			return err_set(
				EBADMSG, "the tar has bytes behind its end mark, a block of zeros");
		t->left = 0;
	}
}

/* Returns 1 if it has read a header, and 0 at the end of the tar. */
static int read_header(struct tar *t, unsigned char h[TAR_BLOCK_SIZE])
{
	ssize_t n = tar_read(t, h, TAR_BLOCK_SIZE);

	if (n <= 0)
		return (int)n;
	if ((size_t)n < TAR_BLOCK_SIZE)
		return is_zero(h, (size_t)n) ? 0 : cut();
	if (is_zero(h, TAR_BLOCK_SIZE))
		return expect_end(t);
	int r = check_sum(h);
	return r < 0 ? r : 1;
}

static void set_padded(struct tar *t, uint64_t size)
{
	t->padding = (TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE;
	t->padded = size + t->padding;
}

static int read_body(struct tar *t, const unsigned char *h, uint64_t max, struct strbuf *ret)
{
	int64_t size;
	char buf[TAR_BLOCK_SIZE];
	int r = number(h, AT_SIZE, 12, "size", &size);

	if (r < 0)
		return r;
	if (size < 0 || (uint64_t)size > max)
		return err_set(EBADMSG, "a tar header of type %c has %lld bytes: the limit is %llu",
			h[AT_TYPE], (long long)size, (unsigned long long)max);
	set_padded(t, (uint64_t)size);
	strbuf_reset(ret);
	while (t->padded > t->padding && r >= 0) {
		size_t want = t->padded - t->padding < sizeof(buf)
				      ? (size_t)(t->padded - t->padding)
				      : sizeof(buf);
		ssize_t n = tar_read(t, buf, want);
		if (n < 0)
			return (int)n;
		if ((size_t)n < want)
			return cut();
		t->padded -= (uint64_t)n;
		r = strbuf_add(ret, buf, (size_t)n);
	}
	return r < 0 ? r : skip(t);
}

static int set_name(char dst[TAR_NAME_MAX], const char *src, size_t len, const char *what)
{
	if (len >= TAR_NAME_MAX)
		return err_set(ENAMETOOLONG, "the tar has %s of %zu bytes: the limit is %u", what,
			len, TAR_NAME_MAX - 1);
	memcpy(dst, src, len);
	dst[len] = '\0';
	return 0;
}

/* Reads the name in a GNU L or K entry, which is too long for a header and ends in NUL. */
static int read_long_name(struct tar *t, const unsigned char *h, char dst[TAR_NAME_MAX])
{
	_cleanup_strbuf_ struct strbuf body = {0};
	int r = read_body(t, h, 2 * TAR_NAME_MAX, &body);

	return r < 0 ? r
		     : set_name(dst, strbuf_str(&body), strlen(strbuf_str(&body)), "a long name");
}

/*
 * Returns the length of the field with the name's prefix if the header is of the kind that Go calls
 * "star" or "ustar", else 0.
 */
static size_t prefix_size(const unsigned char *h)
{
	if (memcmp(h + AT_MAGIC,
		    "ustar\0"
		    "00",
		    8) != 0)
		return 0;
	return memcmp(h + AT_STAR_TRAILER, "tar", 4) == 0 ? 131 : 155;
}

static bool has_devices(const unsigned char *h)
{
	return memcmp(h + AT_MAGIC, "ustar", 5) == 0;
}

static int take_names(struct tar *t, const unsigned char *h, const struct ahead_of *had)
{
	const char *name = (const char *)h, *prefix = name + AT_PREFIX, *link = name + AT_LINK;
	char joined[300];
	int r = 0;

	if (!had->name) {
		int plen = (int)strnlen(prefix, prefix_size(h)), nlen = (int)strnlen(name, 100);
		snprintf(joined, sizeof(joined), "%.*s%s%.*s", plen, prefix, plen ? "/" : "", nlen,
			name);
		r = set_name(t->name, joined, strlen(joined), "a name");
	}
	if (r >= 0 && !had->link)
		r = set_name(t->link, link, strnlen(link, 100), "a link's target");
	return r;
}

static int take_numbers(const unsigned char *h, struct tar_entry *e)
{
	int64_t mode = 0, uid = 0, gid = 0, size = 0, mtime = 0, major = 0, minor = 0;
	int r = number(h, AT_MODE, 8, "mode", &mode);

	if (r >= 0)
		r = number(h, AT_UID, 8, "uid", &uid);
	if (r >= 0)
		r = number(h, AT_GID, 8, "gid", &gid);
	if (r >= 0)
		r = number(h, AT_SIZE, 12, "size", &size);
	if (r >= 0)
		r = number(h, AT_MTIME, 12, "mtime", &mtime);
	if (r >= 0 && has_devices(h))
		r = number(h, AT_MAJOR, 8, "major number", &major);
	if (r >= 0 && has_devices(h))
		r = number(h, AT_MINOR, 8, "minor number", &minor);
	if (r < 0)
		return r;
	if (size < 0 || uid < 0 || gid < 0 || major < 0 || minor < 0 || major > UINT32_MAX ||
		minor > UINT32_MAX)
		return err_set(
			EBADMSG, "a tar header has a negative number, or one that is too large");
	e->mode = (mode_t)(mode & 07777);
	e->uid = (uint64_t)uid;
	e->gid = (uint64_t)gid;
	e->size = (uint64_t)size;
	e->mtime.tv_sec = mtime;
	e->major = (uint32_t)major;
	e->minor = (uint32_t)minor;
	return 0;
}

static int take_type(const struct tar *t, unsigned char type, struct tar_entry *e)
{
	size_t len = strlen(t->name);

	switch (type) {
	case '0':
	case '\0':
	case 'S':
		e->type = len > 0 && t->name[len - 1] == '/' ? TAR_DIR : TAR_FILE;
		return 0;
	case '7': /* a contiguous file */
		e->type = TAR_FILE;
		return 0;
	case '1':
		e->type = TAR_HARDLINK;
		return 0;
	case '2':
		e->type = TAR_SYMLINK;
		return 0;
	case '3':
		e->type = TAR_CHAR;
		return 0;
	case '4':
		e->type = TAR_BLOCK;
		return 0;
	case '5':
		e->type = TAR_DIR;
		return 0;
	case '6':
		e->type = TAR_FIFO;
		return 0;
	default:
		return err_set(EBADMSG,
			"the tar has an entry of the type 0x%02x, which no layer has", type);
	}
}

static int take_pax(struct tar *t, struct tar_entry *e, const struct pax *p)
{
	int r = 0;

	if (p->sparse_name)
		r = set_name(t->name, p->sparse_name, strlen(p->sparse_name), "a name");
	else if (p->path)
		r = set_name(t->name, p->path, strlen(p->path), "a name");
	if (r >= 0 && p->linkpath)
		r = set_name(t->link, p->linkpath, strlen(p->linkpath), "a link's target");
	if (p->has_size)
		e->size = p->size;
	if (p->has_uid)
		e->uid = p->uid;
	if (p->has_gid)
		e->gid = p->gid;
	if (p->has_mtime)
		e->mtime = p->mtime;
	e->xattrs = t->xattrs;
	e->nxattrs = p->nxattrs;
	return r;
}

/*
 * Sets up the reading of a file's data: where the data lies in the stream, and at which offsets of
 * the file.
 */
static int take_data(
	struct tar *t, const unsigned char *h, const struct pax *p, struct tar_entry *e)
{
	int r = 0;

	t->npieces = p->sparse && !p->sparse_map_in_data ? t->npieces : 0;
	t->piece = 0;
	t->piece_done = t->position = 0;
	if (e->type != TAR_FILE) {
		e->size = 0;
		set_padded(t, 0);
		return 0;
	}
	e->stored = e->size;
	if (h[AT_TYPE] == 'S') {
		uint64_t real;
		r = sparse_read_old(t, h, &real);
		set_padded(t, e->stored);
		e->size = real;
		return r < 0 ? r : sparse_check(t, e->size, e->stored);
	}
	set_padded(t, e->stored);
	if (!p->sparse)
		return 0;
	e->size = p->has_real_size ? p->real_size : e->size;
	if (p->sparse_map_in_data) {
		r = sparse_read_map(t);
		e->stored = t->padded - t->padding;
	}
	return r < 0 ? r : sparse_check(t, e->size, e->stored);
}

static void strip_slashes(char *name)
{
	size_t len = strlen(name);

	while (len > 1 && name[len - 1] == '/')
		name[--len] = '\0';
}

static int take_entry(
	struct tar *t, const unsigned char *h, const struct ahead_of *had, struct tar_entry *e)
{
	struct pax p = {0};

	*e = (struct tar_entry){0};
	int r = take_names(t, h, had);
	if (r >= 0)
		r = take_numbers(h, e);
	t->npieces = 0;
	if (r >= 0 && had->pax)
		r = pax_parse(t, &p);
	if (r >= 0 && had->pax)
		r = take_pax(t, e, &p);
	if (r >= 0)
		r = take_type(t, h[AT_TYPE], e);
	if (r >= 0)
		r = take_data(t, h, &p, e);
	if (r < 0)
		return r;
	strip_slashes(t->name);
	e->name = t->name;
	e->link = e->type == TAR_HARDLINK || e->type == TAR_SYMLINK ? t->link : "";
	t->entry = e;
	return 1;
}

int tar_next(struct tar *t, struct tar_entry *e)
{
	unsigned char h[TAR_BLOCK_SIZE];
	struct ahead_of had = {0};
	int64_t size;

	t->entry = NULL;
	for (;;) {
		int r = skip(t);
		if (r >= 0)
			r = read_header(t, h);
		if (r == 0 && (had.pax || had.name || had.link))
			return cut();
		if (r <= 0)
			return r;
		switch (h[AT_TYPE]) {
		case 'L':
			had.name = true;
			r = read_long_name(t, h, t->name);
			break;
		case 'K':
			had.link = true;
			r = read_long_name(t, h, t->link);
			break;
		case 'x':
			had.pax = true;
			r = read_body(t, h, TAR_EXTENDED_MAX, &t->extended);
			break;
		case 'g':
			/*
			 * Ignores global PAX headers, which apply to all entries, because git
			 * archive writes one with a comment only.
			 */
			r = number(h, AT_SIZE, 12, "size", &size);
			if (r >= 0 && (size < 0 || size > TAR_EXTENDED_MAX))
				r = err_set(EBADMSG, "a global PAX header is too large");
			if (r >= 0)
				set_padded(t, (uint64_t)size);
			break;
		default:
			return take_entry(t, h, &had, e);
		}
		if (r < 0)
			return r;
	}
}

/*
 * Returns how many bytes of the file the stream has next, and sets the offset in the file at which
 * they belong.
 */
static uint64_t next_piece(struct tar *t)
{
	if (t->entry->size == t->entry->stored && t->npieces == 0)
		return t->padded - t->padding;
	while (t->piece < t->npieces && t->piece_done == t->pieces[t->piece].len) {
		t->piece++;
		t->piece_done = 0;
	}
	if (t->piece == t->npieces)
		return 0;
	t->position = t->pieces[t->piece].offset + t->piece_done;
	return t->pieces[t->piece].len - t->piece_done;
}

ssize_t tar_data(struct tar *t, const unsigned char **ret, uint64_t *ret_offset)
{
	if (!t->entry || t->entry->type != TAR_FILE)
		return 0;
	uint64_t want = next_piece(t);
	if (want == 0)
		return 0;
	int r = more(t);
	if (r < 0)
		return r;
	if (t->stream_ended)
		return cut();
	size_t n = t->left < want ? t->left : (size_t)want;
	*ret = t->p;
	*ret_offset = t->position;
	t->p += n;
	t->left -= n;
	t->padded -= n;
	t->position += n;
	t->piece_done += n;
	return (ssize_t)n;
}
