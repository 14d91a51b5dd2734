/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/snapshot/format.h"

#include <endian.h>
#include <inttypes.h>
#include <stddef.h>
#include <unistd.h>

#include "base/crc32c.h"

#define ALIGNMENT 8

static const char magic[8] = "caisvmsn";

struct header {
	char magic[8];
	uint32_t format, abi;
	uint64_t length; /* length of the whole file in bytes */
	uint32_t sections;
	uint32_t crc; /* checksum of the members above */
};

struct section {
	uint32_t kind, index;
	uint32_t length; /* bytes of data, without the padding */
	uint32_t crc;    /* checksum of the members above, the data and the padding */
};

static const char *const names[SNAPSHOT_KINDS] = {
	[SNAPSHOT_SHAPE] = "shape",
	[SNAPSHOT_MEMORY] = "memory",
	[SNAPSHOT_OWNER] = "owner",
	[SNAPSHOT_VM] = "vm",
	[SNAPSHOT_VCPU] = "vcpu",
	[SNAPSHOT_DEVICE] = "device",
	[SNAPSHOT_QEMU] = "qemu",
};

static size_t padding(size_t len)
{
	return -len % ALIGNMENT;
}

static uint32_t header_crc(const struct header *h)
{
	return htole32(crc32c(0, h, offsetof(struct header, crc)));
}

/* Computes a section's checksum over its header and `data`, which includes the padding. */
static uint32_t section_crc(const struct section *s, const void *data, size_t len)
{
	return htole32(crc32c(crc32c(0, s, offsetof(struct section, crc)), data, len));
}

int snapshot_begin(struct snapshot_writer *w)
{
	const struct header h = {0};

	*w = (struct snapshot_writer){.abi = MACHINE_ABI, .format = SNAPSHOT_FORMAT_OLDEST};
	return strbuf_add(&w->bytes, &h, sizeof(h));
}

/*
 * Completes the section that was begun last: pads it, and sets the length and the checksum in its
 * header.
 */
static int close_section(struct snapshot_writer *w)
{
	static const char zeros[ALIGNMENT] = {0};
	struct section s;

	if (w->section == 0)
		return 0;
	const size_t start = w->section + sizeof(s);
	const size_t len = w->bytes.len - start;
	int r = strbuf_add(&w->bytes, zeros, padding(len));
	if (r < 0)
		return r;
	if (w->bytes.len > SNAPSHOT_MAX)
		return err_set(EFBIG, "the snapshot would have more than %u bytes", SNAPSHOT_MAX);
	memcpy(&s, w->bytes.s + w->section, sizeof(s));
	s.length = htole32((uint32_t)len);
	s.crc = section_crc(&s, w->bytes.s + start, w->bytes.len - start);
	memcpy(w->bytes.s + w->section, &s, sizeof(s));
	return 0;
}

int snapshot_section(struct snapshot_writer *w, enum snapshot_kind kind, uint32_t index)
{
	const struct section s = {.kind = htole32(kind), .index = htole32(index)};
	struct header h;
	int r = close_section(w);

	if (r < 0)
		return r;
	w->section = w->bytes.len;
	memcpy(&h, w->bytes.s, sizeof(h));
	h.sections++;
	memcpy(w->bytes.s, &h, sizeof(h));
	return strbuf_add(&w->bytes, &s, sizeof(s));
}

int snapshot_put(struct snapshot_writer *w, const void *data, size_t len)
{
	return strbuf_add(&w->bytes, data, len);
}

int snapshot_finish(struct snapshot_writer *w)
{
	struct header h;
	int r = close_section(w);

	if (r < 0)
		return r;
	w->section = 0;
	memcpy(&h, w->bytes.s, sizeof(h));
	memcpy(h.magic, magic, sizeof(magic));
	h.format = htole32(w->format);
	h.abi = htole32(w->abi);
	h.length = htole64(w->bytes.len);
	h.sections = htole32(h.sections);
	h.crc = header_crc(&h);
	memcpy(w->bytes.s, &h, sizeof(h));
	return 0;
}

void snapshot_release(struct snapshot_writer *w)
{
	strbuf_release(&w->bytes);
	w->section = 0;
}

static int check_header(const struct header *h, size_t len)
{
	if (memcmp(h->magic, magic, sizeof(magic)) != 0)
		return err_set(EBADMSG, "the file is no snapshot of a caisson machine");
	if (le32toh(h->format) < SNAPSHOT_FORMAT_OLDEST || le32toh(h->format) > SNAPSHOT_FORMAT)
		return err_set(ENOTSUP,
			"the snapshot has format %" PRIu32
			": this caisson reads formats %d to %d only; restore it with the caisson "
			"that made it",
			le32toh(h->format), SNAPSHOT_FORMAT_OLDEST, SNAPSHOT_FORMAT);
	if (h->crc != header_crc(h))
		return err_set(EBADMSG, "the snapshot is damaged: its header has a wrong checksum");
	if (le32toh(h->abi) < MACHINE_ABI_OLDEST || le32toh(h->abi) > MACHINE_ABI)
		return err_set(ENOTSUP,
			"the snapshot is of machine version %" PRIu32
			": this caisson has machine versions %d to %d only; restore it with the "
			"caisson that made it",
			le32toh(h->abi), MACHINE_ABI_OLDEST, MACHINE_ABI);
	if (le64toh(h->length) != len)
		return err_set(EBADMSG,
			"the snapshot is damaged: it has %zu bytes, and says that it has %" PRIu64,
			len, le64toh(h->length));
	return 0;
}

/* Where a section lies in the bytes of the snapshot. */
struct place {
	uint32_t kind, index;
	const uint8_t *data;
	size_t len, padded;
};

/* Reads the section header at *at, and moves *at behind the section. */
static int next_section(const struct snapshot *s, size_t *at, struct place *ret, uint32_t *ret_crc)
{
	struct section head;

	if (sizeof(head) > s->len - *at)
		return err_set(EBADMSG, "the snapshot is damaged: it ends in a section's header");
	memcpy(&head, s->bytes + *at, sizeof(head));
	const size_t room = s->len - *at - sizeof(head);
	*ret = (struct place){.kind = le32toh(head.kind),
		.index = le32toh(head.index),
		.data = s->bytes + *at + sizeof(head),
		.len = le32toh(head.length)};
	ret->padded = ret->len + padding(ret->len);
	if (ret->padded > room)
		return err_set(EBADMSG,
			"the snapshot is damaged: a section of %zu bytes, with %zu left in the "
			"file",
			ret->len, room);
	*at += sizeof(head) + ret->padded;
	if (ret_crc)
		*ret_crc = section_crc(&head, ret->data, ret->padded) ^ head.crc;
	return 0;
}

static int check_sections(const struct snapshot *s, uint32_t count)
{
	size_t at = sizeof(struct header);
	uint64_t last = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct place p = {0};
		uint32_t wrong = 0;
		int r = next_section(s, &at, &p, &wrong);

		if (r < 0)
			return r;
		if (wrong)
			return err_set(EBADMSG,
				"the snapshot is damaged: section %" PRIu32 " has a wrong checksum",
				i);
		const uint64_t order = (uint64_t)p.kind << 32 | p.index;
		if (p.kind == 0 || p.kind >= SNAPSHOT_KINDS || order <= last)
			return err_set(EBADMSG,
				"the snapshot is damaged: section %" PRIu32 " is of kind %" PRIu32
				", index %" PRIu32 ": expected a known kind in rising order",
				i, p.kind, p.index);
		last = order;
	}
	if (at != s->len)
		return err_set(EBADMSG,
			"the snapshot is damaged: it has %zu bytes behind its last section",
			s->len - at);
	return 0;
}

int snapshot_open(struct snapshot *ret, const void *bytes, size_t len)
{
	struct header h;

	if (len < sizeof(h) || len > SNAPSHOT_MAX)
		return err_set(EBADMSG,
			"the snapshot has %zu bytes: expected %zu to %u; the file is truncated or "
			"is no snapshot",
			len, sizeof(h), SNAPSHOT_MAX);
	memcpy(&h, bytes, sizeof(h));
	int r = check_header(&h, len);
	if (r < 0)
		return r;
	*ret = (struct snapshot){.bytes = bytes, .len = len, .abi = le32toh(h.abi)};
	return check_sections(ret, le32toh(h.sections));
}

int snapshot_find(const struct snapshot *s, enum snapshot_kind kind, uint32_t index,
	struct snapshot_part *ret)
{
	size_t at = sizeof(struct header);

	while (at < s->len) {
		struct place p = {0};
		int r = next_section(s, &at, &p, NULL);

		if (r < 0)
			return r;
		if (p.kind != kind || p.index != index)
			continue;
		*ret = (struct snapshot_part){.at = p.data, .left = p.len, .name = names[kind]};
		return 0;
	}
	return err_set(EBADMSG, "the snapshot has no section \"%s\" %" PRIu32, names[kind], index);
}

bool snapshot_claims_qemu(int fd)
{
	struct header h;

	return pread(fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h) &&
	       memcmp(h.magic, magic, sizeof(magic)) == 0 &&
	       le32toh(h.format) == SNAPSHOT_FORMAT_QEMU;
}

bool snapshot_is_of_qemu(const struct snapshot *s)
{
	size_t at = sizeof(struct header);
	struct place p = {0};

	while (at < s->len && next_section(s, &at, &p, NULL) >= 0)
		if (p.kind == SNAPSHOT_QEMU)
			return true;
	err_clear();
	return false;
}

int snapshot_get(struct snapshot_part *p, void *ret_data, size_t len)
{
	if (len > p->left)
		return err_set(EBADMSG,
			"the snapshot's section \"%s\" ends too early: %zu bytes are left, "
			"expected %zu",
			p->name, p->left, len);
	memcpy(ret_data, p->at, len);
	p->at += len;
	p->left -= len;
	return 0;
}

int snapshot_end(const struct snapshot_part *p)
{
	return p->left == 0
		       ? 0
		       : err_set(EBADMSG, "the snapshot's section \"%s\" has %zu bytes too many",
				 p->name, p->left);
}
