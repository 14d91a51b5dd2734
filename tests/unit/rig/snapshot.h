/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of snapshots share: errors, checksums, and the state of one device. A test includes
 * this file after cmocka.h.
 */
#pragma once
#include <string.h>

#include "base/crc32c.h"
#include "unit/rig/virtio.h"
#include "vm/snapshot/memory.h"

#define OK(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, err_msg()); \
	} while (0)

static inline void expect_error(int r, int expected, const char *text)
{
	assert_int_equal(r, expected);
	if (!strstr(err_msg(), text))
		fail_msg("the message is: %s", err_msg());
}

/*
 * Corrects a checksum of the snapshot's file: the checksum of the file's header if `at` is 0, or
 * else of the section whose header is at `at`.
 */
static inline void reseal(struct snapshot_writer *w, size_t at, size_t len)
{
	char *p = w->bytes.s + at;
	uint32_t crc = at == 0 ? crc32c(0, p, 28) : crc32c(crc32c(0, p, 12), p + 16, len);

	memcpy(p + (at == 0 ? 28 : 12), &crc, sizeof(crc));
}

static inline void put32(struct snapshot_writer *w, size_t at, uint32_t v)
{
	memcpy(w->bytes.s + at, &v, sizeof(v));
}

static inline void save_device(struct rig *g, struct snapshot_writer *w)
{
	OK(snapshot_begin(w));
	OK(snapshot_section(w, SNAPSHOT_DEVICE, 0));
	OK(virtio_mmio_save(&g->mmio, w));
	OK(snapshot_finish(w));
}

static inline int load_device(struct rig *g, const struct snapshot_writer *w)
{
	struct snapshot s;
	struct snapshot_part p;

	OK(snapshot_open(&s, w->bytes.s, w->bytes.len));
	OK(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &p));
	return virtio_mmio_load(&g->mmio, &p);
}
