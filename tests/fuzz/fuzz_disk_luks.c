/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of LUKS headers. The input begins with the length of the image: 2 bytes, in
 * units of 512 bytes. The rest of the input is the beginning of the image, which starts with the
 * LUKS header; zeros follow. If the reader accepts the header, all of its numbers must be within
 * bounds, and writing and reading it again must give the same header. Then the fuzzer tries a
 * passphrase with the header's key slots. Nothing may crash, hang or fail without a message.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "images/disk/luks.h"

#define FILE_SIZE (1u << 20)
/* iterations of the key derivation that each key slot gets, few so that a try is quick */
#define ITERATIONS 50

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk *open_file(const uint8_t *data, size_t size)
{
	const struct disk_options o = {.format = "raw", .name = "fuzz"};
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct disk *d;

	if (fd < 0 || ftruncate(fd, FILE_SIZE) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size ||
		disk_open(&d, fd, &o) < 0)
		abort();
	return d;
}

static void must_tell(int r)
{
	if (r < 0 && !*err_msg())
		abort();
	err_clear();
}

static void check_bounds(const struct luks_header *h, uint64_t length)
{
	uint64_t slot = (uint64_t)h->key_bytes * LUKS_STRIPES;

	if (h->mode >= LUKS_MODES || h->hash >= LUKS_HASHES || h->key_bytes > LUKS_KEY_MAX ||
		(uint64_t)h->payload * LUKS_SECTOR > length || h->digest_iterations == 0)
		abort();
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &h->slots[i];

		if (s->active && (s->iterations == 0 || s->iterations > LUKS_ITERATIONS_MAX ||
					 (uint64_t)s->offset * LUKS_SECTOR < LUKS_HEADER ||
					 (uint64_t)s->offset * LUKS_SECTOR + slot > length))
			abort();
	}
}

/*
 * Checks that the header which the reader has accepted is the same after it was written and read
 * again.
 */
static void check_again(const struct luks_header *h, uint64_t length)
{
	uint8_t b[LUKS_HEADER], again[LUKS_HEADER];
	struct luks_header h2;

	luks_header_format(h, b);
	struct disk *d = open_file(b, sizeof(b));
	if (luks_header_read(d, 0, length, &h2) < 0)
		abort();
	luks_header_format(&h2, again);
	if (memcmp(b, again, sizeof(b)) != 0)
		abort();
	disk_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct disk_key key = {(const uint8_t *)"key", 3};
	struct luks *l = NULL;
	struct luks_header h;

	if (size < 2 || size > FILE_SIZE)
		return 0;
	uint64_t length = (uint64_t)be16(data) * 512;
	struct disk *d = open_file(data + 2, size - 2);
	int r = luks_header_read(d, 0, length, &h);
	must_tell(r);
	if (r >= 0) {
		check_bounds(&h, length);
		check_again(&h, length);
		h.digest_iterations = ITERATIONS;
		for (unsigned i = 0; i < LUKS_SLOTS; i++)
			h.slots[i].iterations = ITERATIONS;
		must_tell(luks_unlock(d, 0, &h, &key, &l));
		luks_free(l);
	}
	disk_close(d);
	return 0;
}
