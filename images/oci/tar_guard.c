/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at the headers of a tar before libarchive does. tar.h says why.
 *
 * Theory of operation: libarchive reads its bytes from the guard. The guard counts the bytes of
 * each entry's data, so it knows where the next header is. The guard checks each header before
 * libarchive gets the header, and keeps global PAX headers back.
 */
#include <string.h>

#include "images/oci/tar_internal.h"

#define GLOBAL_HEADERS_MAX 1000 /* how many headers of type g may follow one another */

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

static void use(struct tar *t, size_t n)
{
	t->p += n;
	t->left -= n;
}

/*
 * Copies len bytes of the stream to buf. Returns the number of copied bytes, which is less than len
 * only at the end of the stream.
 */
static ssize_t take_bytes(struct tar *t, void *buf, size_t len)
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
		use(t, n);
		done += n;
	}
	return (ssize_t)done;
}

static int cut(void)
{
	return err_set(EBADMSG, "the tar ends in the midst of an entry");
}

static bool is_zero(const unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/*
 * Checks that only zeros follow the first block of zeros, because libarchive would ignore anything
 * else there silently.
 */
static int expect_end(struct tar *t)
{
	t->state = TAR_ENDED;
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

/* Reads the next header of the tar into t->block. Returns 1, or 0 at the end of the tar. */
static int read_header(struct tar *t)
{
	ssize_t n = take_bytes(t, t->block, TAR_BLOCK_SIZE);

	if (n < 0)
		return (int)n;
	if (n == 0) {
		t->state = TAR_ENDED;
		return 0;
	}
	if (!is_zero(t->block, (size_t)n)) {
		int r = (size_t)n < TAR_BLOCK_SIZE ? cut() : tar_check_sum(t->block);
		return r < 0 ? r : 1;
	}
	return expect_end(t);
}

/*
 * Reads the body of a header of type x, g, L or K. The body goes into t->special, behind the
 * header.
 */
static int read_body(struct tar *t, size_t max, size_t *ret)
{
	static const char zeros[TAR_BLOCK_SIZE];
	char buf[TAR_BLOCK_SIZE];
	int64_t size;
	int r = tar_number(t->block, AT_SIZE, 12, "size", &size);

	if (r < 0)
		return r;
	if (size < 0 || (uint64_t)size > max)
		return err_set(EBADMSG, "a tar header of type %c has %lld bytes: the limit is %zu",
			t->block[AT_TYPE], (long long)size, max);
	strbuf_reset(&t->special);
	r = strbuf_add(&t->special, t->block, TAR_BLOCK_SIZE);
	for (size_t left = (size_t)size; left > 0 && r >= 0;) {
		size_t want = left < sizeof(buf) ? left : sizeof(buf);
		ssize_t n = take_bytes(t, buf, sizeof(buf));
		if (n < 0)
			return (int)n;
		if ((size_t)n < want)
			return cut();
		r = strbuf_add(&t->special, buf, want);
		left -= want;
	}
	if (r >= 0)
		r = strbuf_add(&t->special, zeros,
			(TAR_BLOCK_SIZE - (size_t)size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE);
	*ret = (size_t)size;
	return r;
}

static int repeated(const char *what)
{
	return err_set(EBADMSG, "the tar has two %s for one entry", what);
}

/*
 * Reads a header of type x, g, L or K. Returns 1 if libarchive needs the header, or 0 if it is a
 * global header.
 */
static int take_special(struct tar *t)
{
	struct tar_headers *h = &t->headers;
	bool *had = t->block[AT_TYPE] == 'L' ? &h->had_name : &h->had_link;
	size_t len;
	int r;

	switch (t->block[AT_TYPE]) {
	case 'g':
		/*
		 * Global headers, which git archive writes, are skipped, because they mean nothing
		 * to the entries of a layer.
		 */
		if (++h->globals > GLOBAL_HEADERS_MAX)
			return err_set(EBADMSG, "the tar has too many global PAX headers");
		return read_body(t, TAR_EXTENDED_MAX, &len);
	case 'x':
		if (h->had_pax)
			return repeated("PAX headers");
		h->had_pax = true;
		r = read_body(t, TAR_EXTENDED_MAX, &len);
		strbuf_reset(&t->records);
		if (r >= 0)
			r = strbuf_add(&t->records, t->special.s + TAR_BLOCK_SIZE, len);
		if (r >= 0)
			r = pax_parse(t, &h->pax);
		break;
	default:
		if (*had)
			return repeated("long names");
		*had = true;
		r = read_body(t, 2 * TAR_NAME_MAX, &len);
	}
	return r < 0 ? r : 1;
}

static int check_sparse(const struct tar *t, bool gnu)
{
	const unsigned char *h = t->block;

	if (h[AT_TYPE] == 'S' && (!gnu || t->headers.pax.sparse))
		return err_set(EBADMSG, "the map of a sparse file is broken: type S is GNU's");
	if (h[AT_TYPE] == 'S' && h[AT_MORE_PIECES] && !h[AT_PIECES])
		return err_set(
			EBADMSG, "the map of a sparse file is broken: it has no first piece");
	if (t->headers.pax.sparse && h[AT_TYPE] != '0')
		return err_set(EBADMSG, "the tar has a map of a sparse file that is no file");
	return 0;
}

/*
 * Sets the size of the entry's data in t. As in Go's archive/tar, only files have data, so the size
 * of any other entry counts as 0.
 */
static int take_data(struct tar *t, bool gnu)
{
	struct tar_headers *h = &t->headers;
	unsigned char type = t->block[AT_TYPE];

	if (h->type != TAR_FILE) {
		if (h->pax.has_size && h->pax.size > 0)
			return err_set(EBADMSG,
				"the tar has a PAX record \"size\" for an entry that is no file");
		h->size = 0;
		tar_fill(t->block, AT_SIZE, AT_SIZE + 12, '\0');
	} else if (h->pax.has_size) {
		h->size = h->pax.size;
	}
	if (gnu && type != 'S')
		tar_fill(t->block, AT_PIECES, AT_PIECES_END, '\0');
	/*
	 * The target "?" is written into the header, because libarchive forgets a long target of a
	 * link, which an earlier header has given, if this header itself has no target.
	 */
	if (!t->block[AT_LINK] && (h->had_link || h->pax.has_linkpath))
		tar_fill(t->block, AT_LINK, AT_LINK + 1, '?');
	h->sparse = type == 'S' || h->pax.sparse;
	t->padding = (TAR_BLOCK_SIZE - h->size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE;
	t->padded = h->size + t->padding;
	t->map = 0;
	t->state = type == 'S' && t->block[AT_MORE_PIECES] ? TAR_AT_MAP : TAR_AT_DATA;
	t->data_start = t->given + TAR_BLOCK_SIZE;
	return 0;
}

static int take_header(struct tar *t)
{
	struct tar_headers *h = &t->headers;
	bool gnu = false;
	int r = tar_read_fields(t->block, h, &gnu);

	if (r >= 0)
		r = check_sparse(t, gnu);
	/*
	 * An entry may have either a GNU header with a long name or a PAX record with the name, but
	 * not both, because readers disagree on which one wins.
	 */
	if (r >= 0 && ((h->had_name && h->pax.has_path) || (h->had_link && h->pax.has_linkpath)))
		r = repeated("long names");
	return r < 0 ? r : take_data(t, gnu);
}

/* Gives libarchive the next header of the tar. */
static ssize_t next_header(struct tar *t, const void **ret)
{
	const struct tar_headers *h = &t->headers;

	for (;;) {
		int r = read_header(t);
		if (r == 0 && (h->had_pax || h->had_name || h->had_link))
			return cut();
		if (r <= 0)
			return r;
		unsigned char type = t->block[AT_TYPE];
		if (!type || !strchr("gxLK", type)) {
			r = take_header(t);
			*ret = t->block;
			return r < 0 ? r : (ssize_t)TAR_BLOCK_SIZE;
		}
		r = take_special(t);
		if (r < 0)
			return r;
		if (type != 'g') {
			*ret = t->special.s;
			return (ssize_t)t->special.len;
		}
	}
}

/*
 * Gives libarchive the blocks with a sparse file's map in the old GNU form, which stand behind the
 * header.
 */
static ssize_t next_map(struct tar *t, const void **ret)
{
	ssize_t n = take_bytes(t, t->block, TAR_BLOCK_SIZE);

	if (n < 0)
		return n;
	if ((size_t)n < TAR_BLOCK_SIZE)
		return cut();
	t->map += TAR_BLOCK_SIZE;
	if (t->map > TAR_MAP_MAX)
		return err_set(E2BIG, "a sparse file has more than %u pieces", TAR_SPARSE_MAX);
	if (!t->block[AT_MAP_MORE])
		t->state = TAR_AT_DATA;
	t->data_start = t->given + TAR_BLOCK_SIZE;
	*ret = t->block;
	return (ssize_t)TAR_BLOCK_SIZE;
}

/*
 * Gives libarchive the next bytes of an entry's data. The padding behind the last file of the tar
 * may be missing, but all of the data must be there.
 */
static ssize_t next_data(struct tar *t, const void **ret)
{
	static const char zeros[TAR_BLOCK_SIZE];
	int r = more(t);

	if (r < 0)
		return r;
	if (t->padded == 0)
		return err_set(EBADMSG, "the tar is broken: an entry is longer than its size");
	if (t->at_headers && t->given - t->data_start > TAR_MAP_MAX)
		return err_set(
			E2BIG, "the map of a sparse file has more than %u bytes", TAR_MAP_MAX);
	if (t->stream_ended) {
		if (t->padded > t->padding)
			return cut();
		size_t n = (size_t)t->padded;
		t->padded = 0;
		*ret = zeros;
		return (ssize_t)n;
	}
	size_t n = t->left < t->padded ? t->left : (size_t)t->padded;
	*ret = t->p;
	use(t, n);
	t->padded -= n;
	return (ssize_t)n;
}

void guard_expect_entry(struct tar *t)
{
	if (t->state != TAR_ENDED)
		t->state = TAR_AT_HEADER;
	t->headers = (struct tar_headers){0};
}

ssize_t guard_next(struct tar *t, const void **ret)
{
	switch (t->state) {
	case TAR_AT_HEADER:
		return next_header(t, ret);
	case TAR_AT_MAP:
		return next_map(t, ret);
	case TAR_AT_DATA:
		return next_data(t, ret);
	default:
		return 0;
	}
}
