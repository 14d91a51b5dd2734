/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a VHDX image ([MS-VHDX] 2.3), a ring of entries. The valid entries are a sequence
 * whose sequence numbers rise without gaps. If there are several complete sequences, the one that
 * ends with the highest number is valid. An entry is a header, descriptors, and a page of data for
 * some of the descriptors.
 */
#include "base/crc32c.h"
#include "images/disk/vhdx/internal.h"

#define LOG_MAX (16u << 20)
#define ENTRY_HEADER 64
#define DESCRIPTOR 32
/* how often each byte of the log may be examined, on average, before the image is refused */
#define OVERLAP_MAX 8
#define PAGES_MAX 8192 /* how many changed pages may be held in memory: 32 MiB of them */
#define CHANGES_MAX 65536

struct entry {
	/*
	 * length of the entry in bytes, a multiple of a page; 0: no valid entry begins at this page
	 */
	uint32_t length;
	/* offset in the log of the first entry of the sequence that ends with this entry */
	uint32_t tail;
	uint64_t sequence;
	uint32_t descriptors;
	uint64_t flushed_size; /* the size in bytes that the image file must have at least */
};

struct log {
	struct disk *d;
	uint8_t *bytes; /* the contents of the whole log, which is a ring */
	uint32_t size;
	struct entry *entries; /* array with an element for each page of the log */
	/* number of page changes in the log; a page that is changed twice counts twice */
	unsigned changes;
};

uint32_t vhdx_crc(const uint8_t *p, size_t len, size_t field)
{
	const size_t end = field + sizeof(uint32_t);
	uint32_t crc = crc32c(0, p, field);

	crc = crc32c(crc, &(uint32_t){0}, sizeof(uint32_t));
	return crc32c(crc, p + end, len - end);
}

/*
 * Copies bytes out of the log, which is a ring: behind its end the copy goes on at its beginning.
 */
static void ring_get(const struct log *l, uint32_t at, uint8_t *out, uint32_t len)
{
	uint32_t first = l->size - at < len ? l->size - at : len;

	memcpy(out, l->bytes + at, first);
	memcpy(out + first, l->bytes, len - first);
}

/*
 * Reads the header of an entry. Returns whether the bytes can be a header; the checksum is not
 * checked here.
 */
static bool read_entry(const struct log *l, uint32_t at, struct entry *e, uint32_t *ret_crc)
{
	uint8_t h[ENTRY_HEADER];

	ring_get(l, at, h, sizeof(h));
	*e = (struct entry){.length = le32(h + 8),
		.tail = le32(h + 12),
		.sequence = le64(h + 16),
		.descriptors = le32(h + 24),
		.flushed_size = le64(h + 48)};
	*ret_crc = le32(h + 4);
	return memcmp(h, "loge", 4) == 0 && memcmp(h + 32, vhdx_of(l->d)->log_guid, 16) == 0 &&
	       e->length > 0 && e->length % VHDX_PAGE == 0 && e->length <= l->size &&
	       e->tail % VHDX_PAGE == 0 && e->tail < l->size && e->sequence != 0 &&
	       e->descriptors <= (e->length - ENTRY_HEADER) / DESCRIPTOR;
}

/*
 * Finds all valid entries of the log. The log also has old entries and incomplete ones. The number
 * of bytes that are examined is limited, because a hostile image may have on every page an entry
 * that is as long as the log.
 */
static int find_entries(struct log *l, uint8_t *buf)
{
	uint64_t work = 0;

	for (uint32_t at = 0; at < l->size; at += VHDX_PAGE) {
		struct entry e;
		uint32_t crc;

		if (!read_entry(l, at, &e, &crc))
			continue;
		work += e.length;
		if (work > (uint64_t)l->size * OVERLAP_MAX)
			return disk_err(l->d, EINVAL,
				"VHDX log: found too many entries that overlap: the image is "
				"damaged");
		ring_get(l, at, buf, e.length);
		if (vhdx_crc(buf, e.length, 4) == crc)
			l->entries[at / VHDX_PAGE] = e;
	}
	return 0;
}

/*
 * Returns whether the sequence that ends with the entry `head` is complete, from the tail that
 * `head` names.
 */
static bool run_is_whole(const struct log *l, const struct entry *head)
{
	const struct entry *before = NULL;
	uint64_t left = l->size, at = head->tail;

	for (;;) {
		const struct entry *e = &l->entries[at / VHDX_PAGE];

		if (e->length == 0 || e->length > left ||
			(before && e->sequence != before->sequence + 1))
			return false;
		if (e->sequence == head->sequence)
			return true;
		left -= e->length;
		at = (at + e->length) % l->size;
		before = e;
	}
}

/* Finds the last entry of the valid sequence. Returns NULL if the log has no complete sequence. */
static const struct entry *find_head(const struct log *l)
{
	const struct entry *head = NULL;

	for (uint32_t i = 0; i < l->size / VHDX_PAGE; i++) {
		const struct entry *e = &l->entries[i];

		if (e->length && (!head || e->sequence > head->sequence) && run_is_whole(l, e))
			head = e;
	}
	return head;
}

static int compare_page(const void *key, const void *page)
{
	uint64_t at = *(const uint64_t *)key;
	const struct vhdx_page *p = page;

	return at < p->at ? -1 : at > p->at;
}

static struct vhdx_page *find_page(const struct vhdx *v, uint64_t at)
{
	return v->n_pages ? bsearch(&at, v->pages, v->n_pages, sizeof(*v->pages), compare_page)
			  : NULL;
}

/* Stores the bytes of a page, which then replace the bytes of the file. NULL stands for zeros. */
static int set_page(struct log *l, uint64_t at, const uint8_t *bytes)
{
	struct disk *d = l->d;
	struct vhdx *v = vhdx_of(d);
	struct vhdx_page *p = find_page(v, at);

	if (at > INT64_MAX || ++l->changes > CHANGES_MAX)
		return disk_err(d, EINVAL,
			"VHDX log: found more than %d changes, or one at offset %llu: the image is "
			"damaged",
			CHANGES_MAX, (unsigned long long)at);
	if (!p) {
		size_t i = v->n_pages;

		if (v->n_pages >= PAGES_MAX)
			return disk_err(d, E2BIG,
				"VHDX log: found changes of more than %d pages: let Hyper-V replay "
				"it",
				PAGES_MAX);
		if (v->n_pages % 64 == 0) {
			p = realloc(v->pages, (v->n_pages + 64) * sizeof(*p));
			if (!p)
				return disk_err(d, ENOMEM, "no memory");
			v->pages = p;
		}
		uint8_t *copy = malloc(VHDX_PAGE);
		if (!copy)
			return disk_err(d, ENOMEM, "no memory");
		while (i > 0 && v->pages[i - 1].at > at)
			i--;
		memmove(&v->pages[i + 1], &v->pages[i], (v->n_pages - i) * sizeof(*v->pages));
		v->pages[i] = (struct vhdx_page){at, copy};
		v->n_pages++;
		p = &v->pages[i];
	}
	if (bytes)
		memcpy(p->bytes, bytes, VHDX_PAGE);
	else
		memset(p->bytes, 0, VHDX_PAGE);
	return 0;
}

static int bad_descriptor(struct disk *d, const struct entry *e, uint32_t i)
{
	return disk_err(d, EINVAL,
		"VHDX log: entry %llu, descriptor %u: its numbers contradict each other: the image "
		"is damaged",
		(unsigned long long)e->sequence, i);
}

/*
 * Applies a data descriptor. The descriptor holds the first and the last bytes of the page, because
 * the data page in the log has its own signature and sequence number in their place.
 */
static int apply_data(
	struct log *l, const struct entry *e, const uint8_t *desc, const uint8_t *data, uint32_t i)
{
	uint8_t page[VHDX_PAGE];

	if (memcmp(data, "data", 4) != 0 || le32(data + 4) != e->sequence >> 32 ||
		le32(data + VHDX_PAGE - 4) != (uint32_t)e->sequence || le64(desc + 16) % VHDX_PAGE)
		return bad_descriptor(l->d, e, i);
	memcpy(page, desc + 8, 8);
	memcpy(page + 8, data + 8, VHDX_PAGE - 12);
	memcpy(page + VHDX_PAGE - 4, desc + 4, 4);
	return set_page(l, le64(desc + 16), page);
}

static int apply_zeros(struct log *l, const struct entry *e, const uint8_t *desc, uint32_t i)
{
	uint64_t length = le64(desc + 8), at = le64(desc + 16);
	int r = 0;

	if (length % VHDX_PAGE || at % VHDX_PAGE || length > (uint64_t)PAGES_MAX * VHDX_PAGE)
		return bad_descriptor(l->d, e, i);
	for (uint64_t done = 0; done < length && r >= 0; done += VHDX_PAGE)
		r = set_page(l, at + done, NULL);
	return r;
}

static int apply_entry(struct log *l, const struct entry *e, const uint8_t *bytes)
{
	/* The data pages of a log entry begin at the first whole page behind its descriptors. */
	uint64_t data = ENTRY_HEADER + (uint64_t)e->descriptors * DESCRIPTOR;
	int r = 0;

	data = (data + VHDX_PAGE - 1) / VHDX_PAGE * VHDX_PAGE;
	for (uint32_t i = 0; i < e->descriptors && r >= 0; i++) {
		const uint8_t *desc = bytes + ENTRY_HEADER + (size_t)i * DESCRIPTOR;

		if (le64(desc + 24) != e->sequence)
			return bad_descriptor(l->d, e, i);
		if (memcmp(desc, "zero", 4) == 0) {
			r = apply_zeros(l, e, desc, i);
			continue;
		}
		if (memcmp(desc, "desc", 4) != 0 || data + VHDX_PAGE > e->length)
			return bad_descriptor(l->d, e, i);
		r = apply_data(l, e, desc, bytes + data, i);
		data += VHDX_PAGE;
	}
	return r;
}

static int apply_run(struct log *l, const struct entry *head, uint8_t *buf)
{
	uint64_t at = head->tail;
	const struct entry *e;
	int r;

	if (head->flushed_size > vhdx_of(l->d)->file_size)
		return disk_err(l->d, EINVAL,
			"VHDX log: it needs a file of %llu bytes, found %llu: the image is cut "
			"short",
			(unsigned long long)head->flushed_size,
			(unsigned long long)vhdx_of(l->d)->file_size);
	do {
		e = &l->entries[at / VHDX_PAGE];
		ring_get(l, (uint32_t)at, buf, e->length);
		r = apply_entry(l, e, buf);
		at = (at + e->length) % l->size;
	} while (r >= 0 && e->sequence != head->sequence);
	return r;
}

static int replay(struct log *l)
{
	/* The buffer has room for the whole log and for a copy of one log entry. */
	_cleanup_free_ uint8_t *bytes = malloc((size_t)l->size * 2);
	_cleanup_free_ struct entry *entries = calloc(l->size / VHDX_PAGE, sizeof(*entries));

	if (!bytes || !entries)
		return disk_err(l->d, ENOMEM, "no memory");
	l->bytes = bytes;
	l->entries = entries;
	int r = disk_read_meta(l->d, bytes, l->size, vhdx_of(l->d)->log_at, "VHDX log");
	if (r >= 0)
		r = find_entries(l, bytes + l->size);
	if (r < 0)
		return r;
	const struct entry *head = find_head(l);
	return head ? apply_run(l, head, bytes + l->size) : 0;
}

int vhdx_read_log(struct disk *d)
{
	static const uint8_t none[16];
	const struct vhdx *v = vhdx_of(d);
	struct log l = {.d = d, .size = (uint32_t)v->log_size};

	if (memcmp(v->log_guid, none, sizeof(none)) == 0)
		return 0;
	if (v->log_size == 0 || v->log_size > LOG_MAX || v->log_size % VHDX_MIB ||
		!disk_inside(v->log_at, v->log_size, v->file_size))
		return disk_err(d, EINVAL,
			"VHDX header: log: found %llu bytes at offset %llu, expected whole MiB, at "
			"most %u, within the file's %llu bytes",
			(unsigned long long)v->log_size, (unsigned long long)v->log_at, LOG_MAX,
			(unsigned long long)v->file_size);
	return replay(&l);
}

int vhdx_read_meta(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what)
{
	const struct vhdx *v = vhdx_of(d);
	uint8_t *out = buf;

	int r = disk_read_meta(d, buf, len, offset, what);
	for (uint64_t at = offset; v->n_pages && at < offset + len && r >= 0;) {
		uint64_t start = at / VHDX_PAGE * VHDX_PAGE, end = start + VHDX_PAGE;
		const struct vhdx_page *p = find_page(v, start);

		if (end > offset + len)
			end = offset + len;
		if (p)
			memcpy(out + (at - offset), p->bytes + (at - start), end - at);
		at = end;
	}
	return r;
}
