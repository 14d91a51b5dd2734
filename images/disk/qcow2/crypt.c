/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encrypts and decrypts the data of an image whose crypt_method is LUKS. Only data clusters are
 * encrypted, not tables and not compressed clusters. A sector's number, which its initialization
 * vector follows from, is that of its place in the file, not that on the disk.
 *
 * Data goes through a buffer of its own and is never encrypted or decrypted in the caller's
 * buffers, because these may be the memory of a guest, which could change them meanwhile.
 */
#include "images/disk/qcow2/internal.h"

#define BOUNCE (64u << 10)

static int no_key(struct disk *d)
{
	if (qcow2_of(d)->h.crypt == QCOW2_CRYPT_AES)
		return disk_err(d, EOPNOTSUPP, "the image is encrypted (crypt_method: AES)");
	return disk_err(d, EACCES,
		"the image is encrypted (LUKS): name a file with its passphrase: with --key, with "
		"--image-key to look inside, for vm.image with the annotation "
		"io.caisson.vm.image.key");
}

int qcow2_crypt_open(struct qcow2 *q, const struct disk_options *o)
{
	struct luks_header h;

	if (q->h.crypt != QCOW2_CRYPT_LUKS || (q->d->alone && !o->key))
		return 0;
	int r = luks_header_read(q->d, q->h.crypto_offset, q->h.crypto_length, &h);
	if (r < 0)
		return r;
	return o->key ? luks_unlock(q->d, q->h.crypto_offset, &h, o->key, &q->luks) : no_key(q->d);
}

int qcow2_need_key(struct disk *d)
{
	const struct qcow2 *q = qcow2_of(d);

	return q->h.crypt && !q->luks ? no_key(d) : 0;
}

int qcow2_decrypt(struct disk *d, const struct disk_extent *e, const struct iov_part *p)
{
	struct qcow2 *q = qcow2_of(d);
	struct iov_part part = *p;
	uint64_t at = e->host, end = e->host + e->length;
	_cleanup_free_ uint8_t *buf = NULL;
	int r = 0;

	if (!q->luks)
		return no_key(d);
	buf = malloc(BOUNCE);
	if (!buf)
		return disk_err(d, ENOMEM, "no memory");
	while (at < end && r >= 0) {
		uint64_t first = at & ~(uint64_t)(LUKS_SECTOR - 1);
		size_t skip = (size_t)(at - first);
		size_t here = end - at < BOUNCE - skip ? (size_t)(end - at) : BOUNCE - skip;
		size_t whole = (skip + here + LUKS_SECTOR - 1) & ~(size_t)(LUKS_SECTOR - 1);

		r = io_read(e->fd, buf, whole, first);
		if (r < 0)
			return disk_err(d, -r, "read at offset %llu of the file: %s",
				(unsigned long long)first, err_text(-r));
		r = luks_crypt(q->luks, first / LUKS_SECTOR, buf, whole, false);
		iov_part_put(&part, buf + skip, here);
		iov_part_skip(&part, here);
		at += here;
	}
	return r < 0 ? err_ctx(r, "%s", d->name) : 0;
}

int qcow2_encrypt(struct qcow2 *q, uint64_t host, uint8_t *buf, size_t len)
{
	if (!q->luks)
		return no_key(q->d);
	int r = luks_crypt(q->luks, host / LUKS_SECTOR, buf, len, true);
	return r < 0 ? err_ctx(r, "%s", q->d->name) : 0;
}

static int add_slot(struct disk_info *i, const struct luks_slot *s)
{
	int r = disk_fact_begin(i, NULL, DISK_FACT_OBJECT);

	if (r >= 0)
		r = disk_fact_bool(i, "active", s->active);
	if (r >= 0 && s->active)
		r = disk_fact_number(i, "iters", s->iterations);
	if (r >= 0)
		r = disk_fact_number(i, "key-offset", (uint64_t)s->offset * LUKS_SECTOR);
	if (r >= 0 && s->active)
		r = disk_fact_number(i, "stripes", s->stripes);
	return r < 0 ? r : disk_fact_end(i);
}

static int add_algorithms(struct disk_info *i, const struct luks_header *h)
{
	const struct luks_mode_names *m = &luks_modes[h->mode];
	/*
	 * An XTS key is twice as long as the AES key, because one half encrypts the data and the
	 * other half the sectors' numbers.
	 */
	unsigned bits = h->key_bytes * (h->mode == LUKS_XTS_PLAIN64 ? 4 : 8);

	int r = disk_fact_text(i, "ivgen-alg", m->iv);
	if (r >= 0)
		r = disk_fact_text(i, "hash-alg", luks_hashes[h->hash]);
	if (r >= 0)
		r = disk_fact_text(i, "cipher-alg", bits == 256 ? "aes-256" : "aes-128");
	if (r >= 0)
		r = disk_fact_text(i, "uuid", h->uuid);
	if (r >= 0 && m->iv_hash)
		r = disk_fact_text(i, "ivgen-hash-alg", m->iv_hash);
	if (r >= 0)
		r = disk_fact_text(i, "format", "luks");
	return r < 0 ? r : disk_fact_text(i, "cipher-mode", m->mode);
}

static int add_luks(struct qcow2 *q, struct disk_info *i)
{
	struct luks_header h;

	int r = luks_header_read(q->d, q->h.crypto_offset, q->h.crypto_length, &h);
	if (r >= 0)
		r = add_algorithms(i, &h);
	if (r >= 0)
		r = disk_fact_begin(i, "slots", DISK_FACT_ARRAY);
	for (unsigned n = 0; n < LUKS_SLOTS && r >= 0; n++)
		r = add_slot(i, &h.slots[n]);
	if (r >= 0)
		r = disk_fact_end(i);
	if (r >= 0)
		r = disk_fact_number(i, "payload-offset", (uint64_t)h.payload * LUKS_SECTOR);
	return r < 0 ? r : disk_fact_number(i, "master-key-iters", h.digest_iterations);
}

int qcow2_crypt_facts(struct qcow2 *q, struct disk_info *i)
{
	int r = disk_fact_begin(i, "encrypt", DISK_FACT_OBJECT);

	if (r >= 0 && q->h.crypt == QCOW2_CRYPT_AES)
		r = disk_fact_text(i, "format", "aes");
	else if (r >= 0)
		r = add_luks(q, i);
	return r < 0 ? r : disk_fact_end(i);
}
