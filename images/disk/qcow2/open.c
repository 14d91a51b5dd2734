/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens and closes qcow2 images, collects the facts about an image, and defines the format's table
 * of functions.
 */
#include "images/disk/qcow2/bitmaps.h"

#define CACHE_DEFAULT (8u << 20)
#define REFS_CACHE (1u << 20)

static int load_table(struct qcow2 *q, const char *what, uint64_t at, uint32_t n, uint64_t **ret)
{
	uint64_t *v = malloc((size_t)n * 8 + 1);

	*ret = v;
	if (!v)
		return disk_err(q->d, ENOMEM, "no memory for the %s", what);
	int r = n ? disk_read_meta(q->d, v, (size_t)n * 8, at, what) : 0;
	for (uint32_t i = 0; i < n && r >= 0; i++)
		v[i] = be64(&v[i]);
	return r;
}

static void set_geometry(struct qcow2 *q)
{
	const struct qcow2_header *h = &q->h;
	bool extended = h->incompatible & QCOW2_EXTENDED_L2;

	q->cluster_size = 1ull << h->cluster_bits;
	q->entry_size = extended ? 16 : 8;
	q->l2_bits = h->cluster_bits - (extended ? 4 : 3);
	q->block_bits = h->cluster_bits + 3 - h->refcount_order;
	q->subclusters = extended ? QCOW2_SUBCLUSTERS : 1;
	q->subcluster_size = q->cluster_size / q->subclusters;
}

static int open_data_file(struct qcow2 *q)
{
	struct disk *d = q->d;
	_cleanup_free_ char *path = NULL;

	q->has_data_file = q->h.incompatible & QCOW2_DATA_FILE;
	q->data_fd = q->has_data_file ? -EBADF : d->fd;
	if (!q->has_data_file || d->alone)
		return 0;
	if (!q->h.data_file)
		return disk_err(d, EINVAL,
			"qcow2 header: data file: found no name, expected one, because the "
			"incompatible feature bit 2 is set");
	int fd = disk_open_named(d, "data file", q->h.data_file, d->write, &path);
	if (fd < 0)
		return fd;
	q->data_fd = fd;
	return disk_lock(fd, q->h.data_file, d->write, d->shared);
}

/*
 * Prepares the image for writing: refuses a damaged image, repairs an image that was not closed,
 * and clears feature bits that this code does not know.
 */
static int prepare_writing(struct qcow2 *q, const struct disk_options *o)
{
	uint64_t known = q->h.autoclear & QCOW2_AUTOCLEAR_KNOWN;
	uint64_t size;

	if (q->h.incompatible & QCOW2_CORRUPT && !o->ignore_dirty)
		return disk_err(q->d, EROFS,
			"the image is marked as damaged, and only read: `caisson disk check -r "
			"all` "
			"repairs it");
	int r = disk_file_size(q->d, &size);
	if (r < 0)
		return r;
	q->fresh_from = qcow2_round_up(q, size);
	/*
	 * On a block device no cluster counts as fresh, because the device has old bytes
	 * everywhere.
	 */
	if (lseek(q->d->fd, 0, SEEK_HOLE) < 0)
		q->fresh_from = UINT64_MAX;
	if (o->ignore_dirty)
		return 0;
	r = qcow2_guard_build(q);
	if (r >= 0 && q->h.incompatible & QCOW2_DIRTY) {
		struct disk_check fix = {.fix_leaks = true, .fix_all = true};

		r = qcow2_check(q->d, &fix);
		if (r >= 0 && fix.errors > fix.errors_fixed)
			r = disk_err(q->d, EIO,
				"the image was not closed, and could not be repaired: `caisson "
				"disk "
				"check` tells more");
	}
	q->lazy = q->h.version >= 3 && q->h.compatible & QCOW2_LAZY_REFCOUNTS;
	if (r < 0 || q->h.version < 3 || known == q->h.autoclear)
		return r;
	/*
	 * The unknown autoclear bits are cleared, as the format requires, because they tell other
	 * programs that data of unknown features is still valid, and writing to the disk makes that
	 * data invalid.
	 */
	uint8_t b[8];
	put_be64(b, known);
	q->h.autoclear = known;
	return qcow2_header_patch(q, QCOW2_AT_AUTOCLEAR, b, sizeof(b));
}

static int init_locks(struct qcow2 *q)
{
	if (pthread_mutex_init(&q->lock, NULL) || pthread_mutex_init(&q->unpack_lock, NULL) ||
		pthread_cond_init(&q->wake, NULL))
		return disk_err(q->d, ENOMEM, "no memory");
	q->lock_ready = true;
	return 0;
}

static int load(struct qcow2 *q, const struct disk_options *o)
{
	size_t cache = o->cache ? o->cache : CACHE_DEFAULT;

	int r = load_table(q, "L1 table", q->h.l1_offset, q->h.l1_size, &q->l1);
	q->table_n = q->h.table_clusters << (q->h.cluster_bits - 3);
	/*
	 * The refcount table is read only if the image is written or checked, because reading the
	 * disk needs no refcounts.
	 */
	if (r >= 0 && (q->d->write || q->d->alone))
		r = load_table(q, "refcount table", q->h.table_offset, q->table_n, &q->table);
	else
		q->table_n = 0;
	if (r >= 0)
		r = qcow2_cache_init(q, &q->l2, "L2 table", cache);
	if (r >= 0)
		r = qcow2_cache_init(q, &q->refs, "refcount block", REFS_CACHE);
	return r;
}

static int qcow2_open(struct disk *d, const struct disk_options *o)
{
	struct qcow2 *q = calloc(1, sizeof(*q));

	d->state = q;
	if (!q)
		return disk_err(d, ENOMEM, "no memory");
	q->d = d;
	q->data_fd = d->fd;
	int r = init_locks(q);
	if (r >= 0)
		r = qcow2_header_read(d, &q->h);
	if (r < 0)
		return r;
	set_geometry(q);
	d->size = q->h.size;
	r = load(q, o);
	if (r >= 0)
		r = open_data_file(q);
	if (r >= 0)
		r = qcow2_crypt_open(q, o);
	if (r >= 0 && q->h.backing)
		r = disk_open_backing(d, o, q->h.backing, q->h.backing_format);
	return r >= 0 && d->write ? prepare_writing(q, o) : r;
}

/*
 * Completes a written image before it is closed: writes lazy refcounts and clears the dirty bit.
 * Errors are ignored, because closing has no caller that could handle them, and an earlier error
 * message must not be replaced.
 */
static void finish(struct qcow2 *q)
{
	_cleanup_free_ char *before = strdup(err_msg());
	int r = qcow2_flush_all(q);

	if (r >= 0)
		r = qcow2_bitmaps_store(q);
	if (r >= 0)
		r = qcow2_sync(q);
	if (r >= 0 && q->marked)
		r = qcow2_mark_dirty(q, false);
	if (r < 0)
		err_set(-r, "%s", before ? before : "no memory");
}

static void qcow2_close(struct disk *d)
{
	struct qcow2 *q = qcow2_of(d);

	if (!q)
		return;
	if (d->write && q->l2.data && q->refs.data && !q->broken)
		finish(q);
	if (q->data_fd != d->fd)
		fd_close(&q->data_fd);
	qcow2_bitmaps_release(q);
	qcow2_cache_release(&q->l2);
	qcow2_cache_release(&q->refs);
	qcow2_set_release(&q->tables);
	qcow2_header_release(&q->h);
	luks_free(q->luks);
	if (q->lock_ready) {
		pthread_mutex_destroy(&q->lock);
		pthread_mutex_destroy(&q->unpack_lock);
		pthread_cond_destroy(&q->wake);
	}
	free(q->l1);
	free(q->table);
	free(q->freed);
	free(q->unpacked);
	free(q);
}

static int qcow2_flush(struct disk *d)
{
	struct qcow2 *q = qcow2_of(d);

	pthread_mutex_lock(&q->lock);
	int r = qcow2_flush_tables(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int qcow2_info(struct disk *d, struct disk_info *i)
{
	const struct qcow2 *q = qcow2_of(d);
	const struct qcow2_header *h = &q->h;

	i->cluster_size = q->cluster_size;
	i->backing = h->backing;
	i->backing_format = h->backing_format;
	i->dirty = h->incompatible & QCOW2_DIRTY;
	i->corrupt = h->incompatible & QCOW2_CORRUPT;
	i->encrypted = h->crypt != 0;
	int r = disk_fact_text(i, "compat", h->version == 2 ? "0.10" : "1.1");
	if (r >= 0)
		r = disk_fact_text(
			i, "compression-type", h->compression == QCOW2_ZSTD ? "zstd" : "zlib");
	if (r >= 0 && h->version >= 3)
		r = disk_fact_bool(i, "lazy-refcounts", h->compatible & QCOW2_LAZY_REFCOUNTS);
	if (r >= 0)
		r = disk_fact_number(i, "refcount-bits", 1u << h->refcount_order);
	if (r >= 0 && h->crypt)
		r = qcow2_crypt_facts(qcow2_of(d), i);
	if (r >= 0 && h->version >= 3)
		r = disk_fact_bool(i, "corrupt", i->corrupt);
	if (r >= 0 && h->version >= 3)
		r = disk_fact_bool(i, "extended-l2", q->subclusters > 1);
	if (r >= 0 && h->data_file)
		r = disk_fact_text(i, "data-file", h->data_file);
	if (r >= 0 && q->has_data_file)
		r = disk_fact_bool(i, "data-file-raw", h->autoclear & QCOW2_RAW_DATA);
	return r < 0 ? r : qcow2_bitmap_facts(qcow2_of(d), i);
}

uint64_t qcow2_cluster_size(struct disk *d)
{
	return qcow2_of(d)->cluster_size;
}

uint64_t qcow2_subcluster_size(struct disk *d)
{
	return qcow2_of(d)->subcluster_size;
}

enum qcow2_compression qcow2_compression_of(struct disk *d)
{
	return qcow2_of(d)->h.compression;
}

int qcow2_open_below(struct disk *d, const struct disk_options *o, struct disk **ret)
{
	const struct qcow2_header *h = &qcow2_of(d)->h;

	if (!h->backing)
		return disk_err(d, EINVAL, "has no backing file");
	return disk_open_below(d, o, h->backing, h->backing_format, ret);
}

static int other_file(const struct disk *d, size_t i)
{
	const struct qcow2 *q = d->state;

	return i == 0 && q->has_data_file ? q->data_fd : -ENOENT;
}

const struct disk_format format_qcow2 = {
	.name = "qcow2",
	.can_write = true,
	.open = qcow2_open,
	.close = qcow2_close,
	.other_file = other_file,
	.map = qcow2_map,
	.unpack = qcow2_unpack,
	.decrypt = qcow2_decrypt,
	.read = qcow2_read,
	.write = qcow2_write,
	.zero = qcow2_zero,
	.discard = qcow2_discard,
	.flush = qcow2_flush,
	.resize = qcow2_resize,
	.info = qcow2_info,
	.check = qcow2_check,
};
