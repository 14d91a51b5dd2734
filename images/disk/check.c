/* SPDX-License-Identifier: Apache-2.0 */
#include "images/disk/check.h"

#include <stdarg.h>

#define WINDOW_BYTES (8u << 20)
#define PIECE (64u << 10) /* how many bytes of the table are read at a time */

static void report(struct table_check *k, const char *text)
{
	if (k->c->report)
		k->c->report(k->c->data, text);
}

void table_check_fault(struct table_check *k, const char *fmt, ...)
{
	char text[ERR_MAX];
	va_list ap;

	if (k->later)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->c->errors++;
	report(k, text);
}

void table_check_fault_set(struct table_check *k)
{
	table_check_fault(k, "%s", err_msg());
	err_clear();
}

static void set_next(struct table_check *k, uint64_t unit)
{
	if (unit < k->first + k->n)
		unit = k->first + k->n;
	if (unit < k->next)
		k->next = unit;
}

/* Sets the bits of the units from `from` to before `to`. Returns whether one of them was set. */
static bool set_bits(uint8_t *bits, uint64_t from, uint64_t to)
{
	bool was = false;

	while (from < to) {
		bool whole = from % 8 == 0 && to - from >= 8;
		uint8_t mask = whole ? 0xff : (uint8_t)(1 << from % 8);

		was = was || bits[from / 8] & mask;
		bits[from / 8] |= mask;
		from += whole ? 8 : 1;
	}
	return was;
}

static bool mark(struct table_check *k, uint64_t at, uint64_t length)
{
	if (at >= k->file_size || length == 0)
		return false;
	if (length > k->file_size - at)
		length = k->file_size - at;
	uint64_t from = (at + k->shift) / k->unit;
	uint64_t to = (at + length - 1 + k->shift) / k->unit + 1;
	if (to > k->first + k->n) {
		set_next(k, from);
		to = k->first + k->n;
	}
	if (from < k->first)
		from = k->first;
	return from < to && set_bits(k->bits, from - k->first, to - k->first);
}

void table_check_keep(struct table_check *k, uint64_t at, uint64_t length)
{
	mark(k, at, length);
}

void table_check_take(
	struct table_check *k, const char *what, uint64_t i, uint64_t at, uint64_t length)
{
	char text[ERR_MAX];

	if (!mark(k, at, length))
		return;
	k->c->errors++;
	snprintf(text, sizeof(text),
		"%s: %s: entry %llu: %llu bytes at offset %llu are used by something else too",
		k->d->name, what, (unsigned long long)i, (unsigned long long)length,
		(unsigned long long)at);
	report(k, text);
}

void table_check_count(struct table_check *k, uint64_t at, uint64_t length)
{
	if (k->later)
		return;
	k->c->used++;
	k->c->fragmented += k->follows && at != k->follows;
	k->follows = at + length;
	if (k->follows > k->c->end)
		k->c->end = k->follows;
	if (at < k->lowest)
		k->lowest = at;
}

bool table_check_skips(struct table_check *k, uint64_t at, uint64_t max)
{
	uint64_t from = (at + k->shift) / k->unit, to = (at + max + k->shift) / k->unit + 1;

	if (!k->later)
		return false;
	if (from >= k->first + k->n)
		set_next(k, from);
	return from >= k->first + k->n || to <= k->first;
}

/* The units from k->gap to before `unit` are not used. Counts the whole blocks that they have. */
static void end_gap(struct table_check *k, uint64_t unit)
{
	uint64_t begin = k->gap * k->unit, end = unit * k->unit;
	char text[ERR_MAX];

	if (unit <= k->gap)
		return;
	begin = begin > k->shift ? begin - k->shift : 0;
	end -= k->shift;
	if (end > k->file_size)
		end = k->file_size;
	uint64_t blocks = end > begin ? (end - begin) / k->block : 0;
	if (!blocks)
		return;
	k->c->leaks += blocks;
	snprintf(text, sizeof(text),
		"%s: %s: no entry uses the file from offset %llu to %llu, room for %llu blocks",
		k->d->name, k->name, (unsigned long long)begin, (unsigned long long)end,
		(unsigned long long)blocks);
	report(k, text);
}

static void find_gaps(struct table_check *k)
{
	uint64_t end = k->first + k->n, lowest = k->lowest / k->unit;

	if (k->skip_begin && lowest > k->gap)
		k->gap = lowest;
	for (uint64_t u = k->first > k->gap ? k->first : k->gap; u < end;) {
		uint64_t i = u - k->first;
		bool whole = i % 8 == 0 && end - u >= 8 &&
			     (k->bits[i / 8] == 0 || k->bits[i / 8] == 0xff);

		if (k->bits[i / 8] & 1 << i % 8) {
			end_gap(k, u);
			k->gap = u + (whole ? 8 : 1);
		}
		u += whole ? 8 : 1;
	}
}

static int visit_entries(struct table_check *k, uint8_t *buf)
{
	uint64_t step = PIECE / k->entry_size;
	int r = 0;

	for (uint64_t i = 0; i < k->entries && r >= 0; i += step) {
		uint64_t n = k->entries - i < step ? k->entries - i : step;
		uint64_t at = k->table + i * k->entry_size;

		r = k->read ? k->read(k->d, buf, n * k->entry_size, at, k->name)
			    : disk_read_meta_of(k->d, k->fd, buf, n * k->entry_size, at, k->name);
		for (uint64_t j = 0; j < n && r >= 0; j++)
			r = k->entry(k, i + j, buf + j * k->entry_size);
	}
	return r;
}

static int check_window(struct table_check *k, uint8_t *buf)
{
	int r = k->fixed ? k->fixed(k) : 0;

	k->round = 0;
	do {
		if (r >= 0)
			r = visit_entries(k, buf);
	} while (++k->round < k->rounds);
	if (r >= 0)
		find_gaps(k);
	return r;
}

int table_check_run(struct table_check *k)
{
	uint64_t units = (k->file_size + k->shift + k->unit - 1) / k->unit;
	_cleanup_free_ uint8_t *buf = malloc(PIECE);
	int r;

	k->n = units < WINDOW_BYTES * 8ull ? units : WINDOW_BYTES * 8ull;
	k->lowest = UINT64_MAX;
	k->gap = (k->blocks_at + k->shift + k->unit - 1) / k->unit;
	_cleanup_free_ uint8_t *bits = calloc(1, k->n / 8 + 1);
	if (!buf || !bits)
		return disk_err(k->d, ENOMEM, "no memory");
	k->bits = bits;
	do {
		k->next = UINT64_MAX;
		r = check_window(k, buf);
		k->later = true;
		k->first = k->next;
		if (k->first < units && k->n > units - k->first)
			k->n = units - k->first;
		memset(bits, 0, k->n / 8 + 1);
	} while (r >= 0 && k->next != UINT64_MAX);
	if (r >= 0)
		end_gap(k, units);
	return r;
}
