/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements what is the same for all formats: opening and closing a disk, checking ranges, and
 * reading the extents that the format's map() returns.
 */
#include <sys/stat.h>

#include "images/disk/formats.h"

#define DEPTH_MAX 200 /* how many images a chain of backing files can have */

/*
 * The greatest size of a disk: the greatest offset that off_t can hold, because the kernel takes
 * file offsets as off_t.
 */
#define SIZE_MAX_DISK ((uint64_t)INT64_MAX)

static int new_disk(struct disk **ret, int fd, const struct disk_options *o)
{
	struct disk *d = calloc(1, sizeof(*d));

	if (d) {
		*d = (struct disk){.fd = fd,
			.write = o->write,
			.unsafe = o->unsafe,
			.shared = o->shared,
			.alone = o->alone,
			.discard_zeroed = o->discard_zeroed,
			.depth = o->depth,
			.above = o->above,
			.dir = o->dir,
			.name = strdup(o->name),
			.path = o->path ? strdup(o->path) : NULL};
		if (d->name && (d->path || !o->path)) {
			*ret = d;
			return 0;
		}
		free(d->name);
		free(d);
	}
	close(fd);
	return err_set(ENOMEM, "%s: no memory", o->name);
}

/*
 * Refuses a chain of backing files that contains the same file twice, because such a chain has no
 * end.
 */
static int check_loop(struct disk *d)
{
	struct stat mine, other;

	if (d->depth > DEPTH_MAX)
		return disk_err(d, ELOOP, "more than %d backing files in a chain", DEPTH_MAX);
	if (fstat(d->fd, &mine) < 0)
		return err_sys("%s: stat", d->name);
	if (!S_ISREG(mine.st_mode) && !S_ISBLK(mine.st_mode))
		return disk_err(d, EINVAL,
			"found neither a regular file nor a block device: a disk has to be one");
	for (const struct disk *a = d->above; a; a = a->above)
		if (fstat(a->fd, &other) == 0 && mine.st_dev == other.st_dev &&
			mine.st_ino == other.st_ino)
			return disk_err(d, ELOOP,
				"is its own backing file, through %s: rebase one of the images",
				a->name);
	return 0;
}

static int open_format(struct disk *d, const struct disk_options *o)
{
	int r = check_loop(d);

	if (r >= 0 && d->write && !d->format->can_write)
		return disk_err(d, EOPNOTSUPP,
			"%s images are only read: convert it, or write to a qcow2 overlay",
			d->format->name);
	if (r >= 0)
		r = disk_lock(d->fd, d->name, d->write, d->shared);
	if (r < 0)
		return r;
	r = d->format->open(d, o);
	if (r >= 0 && d->size > SIZE_MAX_DISK)
		r = disk_err(d, EFBIG, "the disk's size: found %llu bytes, expected at most %llu",
			(unsigned long long)d->size, (unsigned long long)SIZE_MAX_DISK);
	return r;
}

int disk_open(struct disk **ret, int fd, const struct disk_options *o)
{
	const struct disk_format *format = o->format ? disk_format_find(o->format) : NULL;
	_cleanup_disk_ struct disk *d = NULL;

	*ret = NULL;
	int r = new_disk(&d, fd, o);
	if (r < 0)
		return r;
	if (!format)
		return disk_err(d, EINVAL, "format: found \"%s\", expected one that caisson knows",
			o->format ? o->format : "");
	d->format = format;
	/*
	 * d->backing is set before the format's open() is called, because open() may read the
	 * backing disk. If open() fails, the caller owns the backing disk again.
	 */
	d->backing = o->below;
	r = open_format(d, o);
	if (r < 0 && o->below)
		d->backing = NULL;
	if (r < 0)
		return r;
	/*
	 * The link from the backing file to this image is cleared, because only check_loop() needs
	 * it, and only while the chain is being opened.
	 */
	if (d->backing)
		d->backing->above = NULL;
	*ret = take_ptr(d);
	return 0;
}

void disk_close(struct disk *d)
{
	if (!d)
		return;
	if (d->format && d->format->close)
		d->format->close(d);
	disk_close(d->backing);
	fd_close(&d->fd);
	free(d->name);
	free(d->path);
	free(d);
}

void disk_closep(struct disk **d)
{
	disk_close(*d);
}

uint64_t disk_size(const struct disk *d)
{
	return d->size;
}

const char *disk_name(const struct disk *d)
{
	return d->name;
}

bool disk_writable(const struct disk *d)
{
	return d->write;
}

const char *disk_format_name(const struct disk *d)
{
	return d->format->name;
}

struct disk *disk_backing(const struct disk *d)
{
	return d->backing;
}

static int check_range(const struct disk *d, uint64_t offset, uint64_t length, bool write)
{
	if (offset > d->size || length > d->size - offset)
		return disk_err(d, EINVAL,
			"%llu bytes at offset %llu: the disk has %llu bytes, and ends before",
			(unsigned long long)length, (unsigned long long)offset,
			(unsigned long long)d->size);
	if (write && !d->write)
		return disk_err(d, EROFS, "is open read-only");
	return 0;
}

static int unpack(struct disk *d, const struct iov_part *p, uint64_t offset, size_t len)
{
	/*
	 * If one buffer has room for all the data, the data is unpacked into that buffer directly,
	 * which saves a copy.
	 */
	if (p->n > 0 && p->iov->iov_len - p->skip >= len)
		return d->format->unpack(d, offset, (uint8_t *)p->iov->iov_base + p->skip, len);
	_cleanup_free_ uint8_t *buf = malloc(len);
	if (!buf)
		return disk_err(d, ENOMEM, "no memory");
	int r = d->format->unpack(d, offset, buf, len);
	if (r >= 0)
		iov_part_put(p, buf, len);
	return r;
}

static int read_extent(struct disk *d, const struct disk_extent *e, const struct iov_part *p)
{
	size_t len = (size_t)e->length;

	switch (e->kind) {
	case DISK_HOLE:
		return disk_read_below(d, p, len, e->start);
	case DISK_ZERO:
		iov_part_clear(p, len);
		return 0;
	case DISK_PACKED:
		return unpack(d, p, e->start, len);
	case DISK_ENCRYPTED:
		return d->format->decrypt(d, e, p);
	case DISK_DATA:
		break;
	}
	int r = iov_part_read(p, len, e->fd, e->host);
	if (r < 0)
		return disk_err(d, -r, "read at offset %llu of the file: %s",
			(unsigned long long)e->host, err_text(-r));
	return 0;
}

static int map_one(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	*ret = (struct disk_extent){
		.start = offset, .length = length, .host = DISK_NO_HOST, .fd = -EBADF};
	int r = d->format->map(d, offset, length, ret);
	if (r >= 0 && (ret->length == 0 || ret->length > length || ret->start != offset))
		return disk_err(d, EIO, "the %s code mapped offset %llu wrongly", d->format->name,
			(unsigned long long)offset);
	return r;
}

int disk_read_mapped(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	struct iov_part p = {iov, n, 0};
	uint64_t left = iov_length(iov, n);
	struct disk_extent e;

	while (left > 0) {
		int r = map_one(d, offset, left, &e);
		if (r >= 0)
			r = read_extent(d, &e, &p);
		if (r < 0)
			return r;
		iov_part_skip(&p, (size_t)e.length);
		offset += e.length;
		left -= e.length;
	}
	return 0;
}

int disk_readv(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	int r = check_range(d, offset, iov_length(iov, n), false);

	if (r < 0)
		return r;
	return d->format->read ? d->format->read(d, iov, n, offset)
			       : disk_read_mapped(d, iov, n, offset);
}

int disk_read(struct disk *d, void *buf, size_t len, uint64_t offset)
{
	struct iovec v = {buf, len};

	return disk_readv(d, &v, 1, offset);
}

int disk_writev(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	uint64_t len = iov_length(iov, n);
	int r = check_range(d, offset, len, true);

	return r < 0 || len == 0 ? r : d->format->write(d, iov, n, offset);
}

int disk_write(struct disk *d, const void *buf, size_t len, uint64_t offset)
{
	/*
	 * The cast removes const, because the pointer in struct iovec is not const. That does no
	 * harm, because a write only reads the buffer.
	 */
	struct iovec v = {(void *)(uintptr_t)buf, len};

	return disk_writev(d, &v, 1, offset);
}

int disk_zero(struct disk *d, uint64_t offset, uint64_t length)
{
	int r = check_range(d, offset, length, true);

	return r < 0 || length == 0 ? r : d->format->zero(d, offset, length);
}

int disk_discard(struct disk *d, uint64_t offset, uint64_t length)
{
	int r = check_range(d, offset, length, true);

	if (r < 0 || length == 0 || !d->format->discard)
		return r;
	return d->format->discard(d, offset, length);
}

int disk_sync(struct disk *d, int fd, const char *what)
{
	if (d->unsafe)
		return 0;
	if (atomic_load(&d->sync_failed))
		return disk_err(d, EIO,
			"an earlier sync has failed, so the file may lack what was written before");
	if (fdatasync(fd) == 0)
		return 0;
	atomic_store(&d->sync_failed, true);
	return disk_err(d, EIO, "sync%s%s: %s", *what ? " " : "", what, strerror(errno));
}

int disk_flush(struct disk *d)
{
	return d->write && d->format->flush ? d->format->flush(d) : 0;
}

int disk_resize(struct disk *d, uint64_t size)
{
	if (!d->write)
		return disk_err(d, EROFS, "is open read-only");
	if (!d->format->resize)
		return disk_err(d, EOPNOTSUPP, "%s images keep their size", d->format->name);
	if (size > SIZE_MAX_DISK)
		return disk_err(d, EFBIG, "the new size: found %llu, expected at most %llu",
			(unsigned long long)size, (unsigned long long)SIZE_MAX_DISK);
	int r = d->format->resize(d, size);
	if (r >= 0)
		d->size = size;
	return r;
}

int disk_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	int r = check_range(d, offset, length, false);

	if (r >= 0 && length == 0)
		return disk_err(
			d, EINVAL, "no bytes to map at offset %llu", (unsigned long long)offset);
	return r < 0 ? r : map_one(d, offset, length, ret);
}

int disk_map_chain(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret,
	unsigned *ret_depth)
{
	int r = disk_map(d, offset, length, ret);

	*ret_depth = 0;
	while (r >= 0 && ret->kind == DISK_HOLE && d->backing) {
		d = d->backing;
		/*
		 * A backing file may be shorter than the image above it. Behind the end of the
		 * backing file no image has data, so the range is reported as a hole, which reads
		 * as zeros.
		 */
		if (offset >= d->size)
			return 0;
		length = ret->length;
		if (length > d->size - offset)
			length = d->size - offset;
		++*ret_depth;
		r = map_one(d, offset, length, ret);
	}
	return r;
}

int disk_run_check(struct disk *d, struct disk_check *c)
{
	if (!d->format->check)
		return disk_err(d, EOPNOTSUPP, "%s images have nothing that can be checked",
			d->format->name);
	if ((c->fix_leaks || c->fix_all) && !d->format->can_write)
		return disk_err(d, EOPNOTSUPP,
			"%s images are only read, so caisson repairs none: check it without a "
			"repair, and convert it to qcow2, or repair it with the program that made "
			"it",
			d->format->name);
	return d->format->check(d, c);
}
