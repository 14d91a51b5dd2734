/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the header of LUKS version 1 and checks its fields, and writes a new one. */
#include "images/disk/luks.h"

#define VERSION 1
#define ACTIVE 0x00ac71f3u
#define INACTIVE 0x0000deadu

/* Offsets of the fields in a header of LUKS version 1. */
#define AT_VERSION 6
#define AT_CIPHER 8
#define AT_MODE 40
#define AT_HASH 72
#define AT_PAYLOAD 104
#define AT_KEY_BYTES 108
#define AT_DIGEST 112
#define AT_DIGEST_SALT 132
#define AT_DIGEST_ITERATIONS 164
#define AT_UUID 168
#define AT_SLOTS 208
#define TEXT 32 /* length of a text field */
#define SLOT 48 /* length of a key slot's entry */
/*
 * the first slot's data begins at this sector, and each slot's data takes a multiple of this number
 * of sectors
 */
#define ALIGN 8

static const uint8_t magic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};

const struct luks_mode_names luks_modes[LUKS_MODES] = {
	[LUKS_XTS_PLAIN64] = {"xts-plain64", "xts", "plain64", NULL},
	[LUKS_CBC_PLAIN64] = {"cbc-plain64", "cbc", "plain64", NULL},
	[LUKS_CBC_ESSIV] = {"cbc-essiv:sha256", "cbc", "essiv", "sha256"},
};

const char *const luks_hashes[LUKS_HASHES] = {
	[LUKS_SHA256] = "sha256",
	[LUKS_SHA1] = "sha1",
	[LUKS_SHA512] = "sha512",
};

static int bad_number(struct disk *d, const char *field, uint64_t found, const char *expected)
{
	return disk_err(d, EINVAL, "LUKS header: %s: found %llu, expected %s", field,
		(unsigned long long)found, expected);
}

static bool text_is(const uint8_t *field, const char *text)
{
	size_t len = strlen(text);

	return memcmp(field, text, len) == 0 && field[len] == '\0';
}

static int bad_text(struct disk *d, const char *field, const uint8_t *found, const char *expected)
{
	char text[TEXT + 1];

	str_clean(text, sizeof(text), (const char *)found, strnlen((const char *)found, TEXT));
	return disk_err(d, EOPNOTSUPP,
		"LUKS header: %s: found \"%s\", expected %s: convert the image with the program "
		"that made it",
		field, text, expected);
}

static int parse_names(struct disk *d, const uint8_t *b, struct luks_header *h)
{
	int mode = -1, hash = -1;

	if (!text_is(b + AT_CIPHER, "aes"))
		return bad_text(d, "cipher_name", b + AT_CIPHER, "aes");
	for (int i = 0; i < LUKS_MODES; i++)
		if (text_is(b + AT_MODE, luks_modes[i].luks))
			mode = i;
	for (int i = 0; i < LUKS_HASHES; i++)
		if (text_is(b + AT_HASH, luks_hashes[i]))
			hash = i;
	if (mode < 0)
		return bad_text(d, "cipher_mode", b + AT_MODE,
			"xts-plain64, cbc-plain64 or cbc-essiv:sha256");
	if (hash < 0)
		return bad_text(d, "hash_spec", b + AT_HASH, "sha1, sha256 or sha512");
	h->mode = (enum luks_mode)mode;
	h->hash = (enum luks_hash)hash;
	return 0;
}

static int parse_slot(struct disk *d, const uint8_t *b, unsigned i, struct luks_header *h)
{
	struct luks_slot *s = &h->slots[i];
	uint32_t state = be32(b);
	char field[48];

	s->active = state == ACTIVE;
	s->iterations = be32(b + 4);
	memcpy(s->salt, b + 8, LUKS_SALT);
	s->offset = be32(b + 40);
	s->stripes = be32(b + 44);
	snprintf(field, sizeof(field), "key slot %u", i);
	if (state != ACTIVE && state != INACTIVE)
		return bad_number(d, field, state, "11301363 (active) or 57005 (inactive)");
	if (!s->active)
		return 0;
	snprintf(field, sizeof(field), "key slot %u: stripes", i);
	if (s->stripes != LUKS_STRIPES)
		return bad_number(d, field, s->stripes, "4000");
	snprintf(field, sizeof(field), "key slot %u: iterations", i);
	if (s->iterations == 0 || s->iterations > LUKS_ITERATIONS_MAX)
		return bad_number(d, field, s->iterations, "1 to 67108864");
	snprintf(field, sizeof(field), "key slot %u: key_material_offset", i);
	uint64_t bytes = (uint64_t)h->key_bytes * LUKS_STRIPES;
	if ((uint64_t)s->offset * LUKS_SECTOR < LUKS_HEADER ||
		(uint64_t)s->offset * LUKS_SECTOR + bytes > (uint64_t)h->payload * LUKS_SECTOR)
		return bad_number(d, field, s->offset, "a sector between the header and the data");
	return 0;
}

/* Refuses key slots that share sectors, because then at most one of them can be whole. */
static int check_overlap(struct disk *d, const struct luks_header *h)
{
	uint64_t sectors = ((uint64_t)h->key_bytes * LUKS_STRIPES + LUKS_SECTOR - 1) / LUKS_SECTOR;

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		for (unsigned k = 0; k < i; k++) {
			uint64_t a = h->slots[i].offset, b = h->slots[k].offset;

			if (h->slots[i].active && h->slots[k].active && a < b + sectors &&
				b < a + sectors)
				return disk_err(d, EINVAL,
					"LUKS header: key slots %u and %u: found both at sector "
					"%llu, expected them apart",
					k, i, (unsigned long long)a);
		}
	return 0;
}

static int parse_numbers(struct disk *d, const uint8_t *b, uint64_t length, struct luks_header *h)
{
	uint32_t small = h->mode == LUKS_XTS_PLAIN64 ? 32 : 16;

	h->payload = be32(b + AT_PAYLOAD);
	h->key_bytes = be32(b + AT_KEY_BYTES);
	h->digest_iterations = be32(b + AT_DIGEST_ITERATIONS);
	memcpy(h->digest, b + AT_DIGEST, LUKS_DIGEST);
	memcpy(h->digest_salt, b + AT_DIGEST_SALT, LUKS_SALT);
	memcpy(h->uuid, b + AT_UUID, sizeof(h->uuid));
	h->uuid[sizeof(h->uuid) - 1] = '\0';
	str_clean(h->uuid, sizeof(h->uuid), h->uuid, strlen(h->uuid));
	if (h->key_bytes != small && h->key_bytes != small * 2)
		return bad_number(d, "key_bytes", h->key_bytes,
			small == 32 ? "32 (AES-128) or 64 (AES-256) with xts"
				    : "16 (AES-128) or 32 (AES-256) with cbc");
	if (h->digest_iterations == 0 || h->digest_iterations > LUKS_ITERATIONS_MAX)
		return bad_number(d, "mk_digest_iterations", h->digest_iterations, "1 to 67108864");
	if ((uint64_t)h->payload * LUKS_SECTOR > length)
		return bad_number(d, "payload_offset", h->payload,
			"at most the length of the header in sectors");
	return 0;
}

int luks_header_read(struct disk *d, uint64_t at, uint64_t length, struct luks_header *ret)
{
	uint8_t b[LUKS_HEADER];

	*ret = (struct luks_header){0};
	if (length < LUKS_HEADER)
		return bad_number(d, "length", length, "at least 592 bytes");
	int r = disk_read_meta(d, b, sizeof(b), at, "LUKS header");
	if (r < 0)
		return r;
	if (memcmp(b, magic, sizeof(magic)) != 0)
		return disk_err(d, EINVAL,
			"LUKS header: magic: found 0x%08x%04x at offset %llu of the file, expected "
			"0x4c554b53babe",
			be32(b), be16(b + 4), (unsigned long long)at);
	if (be16(b + AT_VERSION) != VERSION)
		return bad_number(d, "version", be16(b + AT_VERSION), "1");
	r = parse_names(d, b, ret);
	if (r >= 0)
		r = parse_numbers(d, b, length, ret);
	for (unsigned i = 0; i < LUKS_SLOTS && r >= 0; i++)
		r = parse_slot(d, b + AT_SLOTS + i * SLOT, i, ret);
	return r < 0 ? r : check_overlap(d, ret);
}

void luks_header_format(const struct luks_header *h, uint8_t *b)
{
	memset(b, 0, LUKS_HEADER);
	memcpy(b, magic, sizeof(magic));
	put_be16(b + AT_VERSION, VERSION);
	memcpy(b + AT_CIPHER, "aes", strlen("aes"));
	memcpy(b + AT_MODE, luks_modes[h->mode].luks, strlen(luks_modes[h->mode].luks));
	memcpy(b + AT_HASH, luks_hashes[h->hash], strlen(luks_hashes[h->hash]));
	put_be32(b + AT_PAYLOAD, h->payload);
	put_be32(b + AT_KEY_BYTES, h->key_bytes);
	memcpy(b + AT_DIGEST, h->digest, LUKS_DIGEST);
	memcpy(b + AT_DIGEST_SALT, h->digest_salt, LUKS_SALT);
	put_be32(b + AT_DIGEST_ITERATIONS, h->digest_iterations);
	memcpy(b + AT_UUID, h->uuid, strlen(h->uuid));
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &h->slots[i];
		uint8_t *p = b + AT_SLOTS + i * SLOT;

		put_be32(p, s->active ? ACTIVE : INACTIVE);
		put_be32(p + 4, s->iterations);
		memcpy(p + 8, s->salt, LUKS_SALT);
		put_be32(p + 40, s->offset);
		put_be32(p + 44, s->stripes);
	}
}

uint32_t luks_slot_sectors(uint32_t key_bytes)
{
	uint32_t sectors = (key_bytes * LUKS_STRIPES + LUKS_SECTOR - 1) / LUKS_SECTOR;

	return (sectors + ALIGN - 1) / ALIGN * ALIGN;
}

uint64_t luks_header_length(uint32_t key_bytes)
{
	return (ALIGN + (uint64_t)LUKS_SLOTS * luks_slot_sectors(key_bytes)) * LUKS_SECTOR;
}
