/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes new images. Writes the header, a refcount table that is long enough for the whole disk, the
 * refcount blocks that count the clusters of the new file, and an empty L1 table.
 */
#include <sys/stat.h>

#include "base/interrupt.h"
#include "images/disk/qcow2/internal.h"

struct layout {
	uint64_t table_at, table_clusters, blocks_at, blocks, luks_at, luks_clusters, l1_at,
		l1_clusters, end;
	/* the LUKS header and its first key slot; NULL: the image is not encrypted */
	uint8_t *luks;
	size_t luks_length;
};

static const struct {
	uint8_t type, bit;
	const char *name;
} features[] = {
	{0, 0, "dirty bit"},
	{0, 1, "corrupt bit"},
	{0, 2, "external data file"},
	{0, 3, "compression type"},
	{0, 4, "extended L2 entries"},
	{1, 0, "lazy refcounts"},
	{2, 0, "bitmaps"},
	{2, 1, "raw external data"},
};

static int check_version(const struct qcow2_create *c)
{
	const char *what = c->lazy_refcounts                            ? "lazy_refcounts"
			   : c->extended_l2                             ? "extended_l2"
			   : c->data_file                               ? "data_file"
			   : c->compression != QCOW2_ZLIB               ? "compression_type"
			   : c->refcount_bits && c->refcount_bits != 16 ? "refcount_bits"
									: NULL;

	if (c->version != 2 && c->version != 3)
		return err_set(
			EINVAL, "%s: version: found %u, expected 2 or 3", c->name, c->version);
	if (c->version == 2 && what)
		return err_set(EINVAL, "%s: %s: needs version 3 (compat=1.1)", c->name, what);
	if (c->extended_l2 && c->cluster_size && c->cluster_size < 16384)
		return err_set(EINVAL,
			"%s: extended_l2: found clusters of %llu bytes, expected at least 16384",
			c->name, (unsigned long long)c->cluster_size);
	if (c->data_file && c->data_file_raw && c->backing)
		return err_set(EINVAL,
			"%s: data_file_raw: a raw data file cannot have a backing file", c->name);
	if (c->data_file_raw && !c->data_file)
		return err_set(EINVAL, "%s: data_file_raw: needs data_file", c->name);
	if (c->encrypt && c->data_file_raw)
		return err_set(EINVAL,
			"%s: data_file_raw: an encrypted data file cannot be read as a raw disk",
			c->name);
	if (c->encrypt && c->preallocation != QCOW2_PREALLOC_OFF)
		return err_set(EINVAL,
			"%s: preallocation: an encrypted image's clusters are taken when they are "
			"written, because reserved zeros would be read as random bytes",
			c->name);
	return 0;
}

static int fill_header(const struct qcow2_create *c, struct qcow2_header *h)
{
	uint64_t cluster = c->cluster_size ? c->cluster_size : 65536;
	unsigned bits = c->refcount_bits ? c->refcount_bits : 16;
	int r = check_version(c);

	if (r < 0)
		return r;
	if (cluster < 512 || cluster > (2u << 20) || cluster & (cluster - 1))
		return err_set(EINVAL,
			"%s: cluster_size: found %llu, expected a power of two from 512 to 2M",
			c->name, (unsigned long long)cluster);
	if (bits > 64 || bits & (bits - 1))
		return err_set(EINVAL,
			"%s: refcount_bits: found %u, expected a power of two from 1 to 64",
			c->name, bits);
	if (c->size > INT64_MAX)
		return err_set(EFBIG, "%s: size: found %llu, expected at most 2^63 - 1", c->name,
			(unsigned long long)c->size);
	h->version = c->version;
	h->cluster_bits = (unsigned)__builtin_ctzll(cluster);
	h->refcount_order = (unsigned)__builtin_ctz(bits);
	h->size = (c->size + 511) / 512 * 512;
	h->compression = c->compression;
	h->header_length = c->version == 2 ? QCOW2_HEADER_V2 : 112;
	h->additional_length = c->version == 2 ? 0 : 7;
	h->compatible = c->lazy_refcounts ? QCOW2_LAZY_REFCOUNTS : 0;
	h->incompatible = (c->data_file ? QCOW2_DATA_FILE : 0) |
			  (c->extended_l2 ? QCOW2_EXTENDED_L2 : 0) |
			  (c->compression != QCOW2_ZLIB ? QCOW2_COMPRESSION : 0);
	h->crypt = c->encrypt ? QCOW2_CRYPT_LUKS : 0;
	h->crypto_length = c->encrypt ? luks_header_length(c->encrypt->key_bytes) : 0;
	h->autoclear = c->data_file_raw ? QCOW2_RAW_DATA : 0;
	return 0;
}

static int copy_name(const struct qcow2_create *c, const char *from, char **ret)
{
	if (!from)
		return 0;
	if (strlen(from) > QCOW2_NAME_MAX)
		return err_set(ENAMETOOLONG,
			"%s: \"%s\": a name in a qcow2 image has at most %d bytes", c->name, from,
			QCOW2_NAME_MAX);
	*ret = strdup(from);
	return *ret ? 0 : err_set(ENOMEM, "%s: no memory", c->name);
}

static int fill_names(const struct qcow2_create *c, struct qcow2_header *h)
{
	uint8_t entry[48];

	int r = copy_name(c, c->backing, &h->backing);
	if (r >= 0)
		r = copy_name(c, c->backing_format, &h->backing_format);
	if (r >= 0)
		r = copy_name(c, c->data_file, &h->data_file);
	/*
	 * Only images with larger clusters get the table of feature names, because a cluster of 512
	 * bytes has no room for the table.
	 */
	for (size_t i = 0;
		i < ARRAY_SIZE(features) && r >= 0 && c->version >= 3 && h->cluster_bits > 11;
		i++) {
		memset(entry, 0, sizeof(entry));
		entry[0] = features[i].type;
		entry[1] = features[i].bit;
		memcpy(entry + 2, features[i].name, strlen(features[i].name));
		r = strbuf_add(&h->features, entry, sizeof(entry));
	}
	if (r >= 0 && h->additional_length) {
		h->additional = calloc(1, h->additional_length);
		if (!h->additional)
			return err_set(ENOMEM, "%s: no memory", c->name);
	}
	return r;
}

static int plan_layout(const struct qcow2_create *c, struct qcow2_header *h, struct layout *l)
{
	uint64_t cluster = 1ull << h->cluster_bits, counts = cluster * 8 >> h->refcount_order;
	unsigned l2_bits = h->cluster_bits - (c->extended_l2 ? 4 : 3);
	uint64_t per_l1 = cluster << l2_bits, before;
	uint64_t l1 = (h->size + per_l1 - 1) / per_l1;

	if (l1 > QCOW2_L1_MAX / 8)
		return err_set(EFBIG,
			"%s: size: found %llu bytes, expected at most %llu with this cluster size",
			c->name, (unsigned long long)h->size,
			(unsigned long long)(QCOW2_L1_MAX / 8 * per_l1));
	h->l1_size = (uint32_t)l1;
	l->luks_clusters = (h->crypto_length + cluster - 1) / cluster;
	l->l1_clusters = (l1 * 8 + cluster - 1) / cluster;
	if (l->l1_clusters == 0)
		l->l1_clusters = 1;
	/*
	 * The refcount table has one cluster, or more if the disk is so large that the refcounts of
	 * the finished image may need more.
	 */
	uint64_t all = h->size / cluster + h->size / per_l1 + l->l1_clusters + l->luks_clusters + 3;
	uint64_t entries = (all + all / counts) / counts + 1;
	l->table_clusters = (entries * 8 + cluster - 1) / cluster;
	if (l->table_clusters > 4)
		l->table_clusters = 4;
	do {
		before = l->blocks;
		l->table_at = 1;
		l->blocks_at = l->table_at + l->table_clusters;
		l->luks_at = l->blocks_at + l->blocks;
		l->l1_at = l->luks_at + l->luks_clusters;
		l->end = l->l1_at + l->l1_clusters;
		l->blocks = (l->end + counts - 1) / counts;
		if (l->blocks > l->table_clusters * cluster / 8)
			l->table_clusters = (l->blocks * 8 + cluster - 1) / cluster;
	} while (l->blocks != before);
	h->table_offset = l->table_at << h->cluster_bits;
	h->table_clusters = (uint32_t)l->table_clusters;
	h->crypto_offset = l->luks_clusters ? l->luks_at << h->cluster_bits : 0;
	h->l1_offset = l->l1_at << h->cluster_bits;
	return 0;
}

static int put(int fd, const struct qcow2_create *c, const void *data, size_t len, uint64_t at)
{
	int r = io_write(fd, data, len, at);

	return r < 0 ? err_set(-r, "%s: write at offset %llu: %s", c->name, (unsigned long long)at,
			       err_text(-r))
		     : 0;
}

/*
 * Fills buf with one cluster of the new image: part i of the refcount table, or refcount block i.
 */
static void fill_table(
	const struct qcow2_header *h, const struct layout *l, uint64_t i, uint8_t *buf)
{
	uint64_t per = (1ull << h->cluster_bits) / 8;

	for (uint64_t n = 0; n < per; n++) {
		uint64_t block = i * per + n;
		put_be64(buf + n * 8,
			block < l->blocks ? (l->blocks_at + block) << h->cluster_bits : 0);
	}
}

static void fill_block(
	const struct qcow2_header *h, const struct layout *l, uint64_t i, uint8_t *buf)
{
	uint64_t per = (8ull << h->cluster_bits) >> h->refcount_order;

	for (uint64_t n = 0; n < per; n++)
		qcow2_ref_write_entry(h->refcount_order, buf, n, i * per + n < l->end);
}

static int write_image(
	int fd, const struct qcow2_create *c, const struct qcow2_header *h, const struct layout *l)
{
	uint64_t cluster = 1ull << h->cluster_bits;
	_cleanup_free_ uint8_t *buf = calloc(1, cluster);
	struct disk d = {.name = (char *)(uintptr_t)c->name};
	_cleanup_strbuf_ struct strbuf head = {0};
	int r = buf ? 0 : err_set(ENOMEM, "%s: no memory", c->name);

	for (uint64_t i = 0; i < l->l1_clusters && r >= 0; i++)
		r = put(fd, c, buf, cluster, (l->l1_at + i) << h->cluster_bits);
	for (uint64_t i = 0; i < l->table_clusters && r >= 0; i++) {
		fill_table(h, l, i, buf);
		r = put(fd, c, buf, cluster, (l->table_at + i) << h->cluster_bits);
	}
	for (uint64_t i = 0; i < l->blocks && r >= 0; i++) {
		memset(buf, 0, cluster);
		fill_block(h, l, i, buf);
		r = put(fd, c, buf, cluster, (l->blocks_at + i) << h->cluster_bits);
	}
	if (r >= 0 && l->luks)
		r = put(fd, c, l->luks, l->luks_length, h->crypto_offset);
	if (r >= 0)
		r = qcow2_header_format(&d, h, &head);
	if (r < 0)
		return r;
	memset(buf, 0, cluster);
	memcpy(buf, head.s, head.len);
	return put(fd, c, buf, cluster, 0);
}

int qcow2_create(int fd, const struct qcow2_create *c)
{
	struct qcow2_header h = {0};
	struct layout l = {0};
	struct stat st;

	int r = fill_header(c, &h);
	if (r >= 0)
		r = fill_names(c, &h);
	if (r >= 0)
		r = plan_layout(c, &h, &l);
	/*
	 * The key is made before the file is touched, because an unsuitable passphrase must not
	 * cost the file's former content.
	 */
	if (r >= 0 && c->encrypt)
		r = luks_format(c->name, c->encrypt, &l.luks, &l.luks_length);
	if (r >= 0 && fstat(fd, &st) < 0)
		r = err_sys("%s: stat", c->name);
	if (r >= 0 && S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0)
		r = err_sys("%s: empty it", c->name);
	if (r >= 0)
		r = write_image(fd, c, &h, &l);
	free(l.luks);
	qcow2_header_release(&h);
	return r;
}

/* Allocates clusters for all entries of one slice of an L2 table, and sets the entries. */
static int preallocate_slice(struct qcow2 *q, uint64_t offset, uint64_t *ret_end)
{
	uint64_t left, host, n, at = offset;
	bool fresh;
	uint8_t *entry;

	int r = qcow2_entry_for_write(q, offset, &entry, &left);
	while (r >= 0 && left > 0 && at < q->d->size) {
		uint64_t want = (q->d->size - at + q->cluster_size - 1) >> q->h.cluster_bits;

		if (want > left)
			want = left;
		host = at;
		n = want;
		if (!q->has_data_file)
			r = qcow2_alloc(q, want, &host, &n, &fresh);
		for (uint64_t i = 0; r >= 0 && i < n; i++, entry += q->entry_size) {
			put_be64(entry, (host + i * q->cluster_size) | QCOW2_COPIED);
			if (q->subclusters > 1)
				put_be64(entry + 8, 0xffffffffull);
		}
		qcow2_cache_dirty(&q->l2, entry - q->entry_size);
		left -= r < 0 ? 0 : n;
		at += n * q->cluster_size;
	}
	*ret_end = at;
	return r;
}

static int reserve(struct qcow2 *q, enum qcow2_preallocation how, int interrupt)
{
	static const uint8_t zeros[64 * 1024];
	uint64_t from = 0, to = q->has_data_file ? qcow2_round_up(q, q->d->size) : q->fresh_from;
	off_t end = lseek(q->data_fd, 0, SEEK_END);

	if (!q->has_data_file && end > 0)
		from = (uint64_t)end;
	if (how == QCOW2_PREALLOC_METADATA)
		return (uint64_t)end < to && ftruncate(q->data_fd, (off_t)to) < 0
			       ? err_sys("%s: set the file's size", q->d->name)
			       : 0;
	if (how == QCOW2_PREALLOC_FALLOC)
		return disk_reserve(q->data_fd, q->d->name, to, interrupt);
	for (; from < to; from += sizeof(zeros)) {
		int r = interrupt_read(interrupt);

		if (r < 0)
			return r;
		r = io_write(q->data_fd, zeros,
			to - from < sizeof(zeros) ? (size_t)(to - from) : sizeof(zeros), from);
		if (r < 0)
			return disk_err(q->d, -r, "write zeros: %s", err_text(-r));
	}
	return 0;
}

int qcow2_preallocate(struct disk *d, enum qcow2_preallocation how, int interrupt)
{
	struct qcow2 *q = qcow2_of(d);
	uint64_t at = 0;
	int r = 0;

	if (how == QCOW2_PREALLOC_OFF)
		return 0;
	pthread_mutex_lock(&q->lock);
	while (r >= 0 && at < d->size) {
		r = interrupt_read(interrupt);
		if (r >= 0)
			r = preallocate_slice(q, at, &at);
	}
	if (r >= 0)
		r = reserve(q, how, interrupt);
	if (r >= 0)
		r = qcow2_flush_all(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}
