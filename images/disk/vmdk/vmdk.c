/* SPDX-License-Identifier: Apache-2.0 */
/* Opens VMDK images, and finds the extent that contains a byte of the disk. */
#include <sys/stat.h>

#include "images/disk/vmdk/internal.h"

#define DESCRIPTOR_MAX (1u << 20)

static int read_text(struct disk *d, uint64_t at, uint64_t size, char **ret)
{
	if (size > DESCRIPTOR_MAX)
		return disk_err(d, EINVAL,
			"VMDK descriptor: found %llu bytes, expected at most %u: not a VMDK image",
			(unsigned long long)size, DESCRIPTOR_MAX);
	char *text = malloc(size + 1);
	if (!text)
		return disk_err(d, ENOMEM, "no memory");
	int r = disk_read_meta(d, text, size, at, "VMDK descriptor");
	if (r < 0) {
		free(text);
		return r;
	}
	text[size] = '\0';
	*ret = text;
	return 0;
}

static int check_flat(struct disk *d, const struct vmdk_extent *e)
{
	if (!disk_inside(e->offset, e->length, e->file_size))
		return disk_err(d, EINVAL,
			"extent \"%s\": found %llu bytes, but the descriptor says %llu from offset "
			"%llu on: the image is cut short",
			e->name, (unsigned long long)e->file_size, (unsigned long long)e->length,
			(unsigned long long)e->offset);
	return 0;
}

/* Opens the file of an extent that the descriptor lists. */
static int open_extent(struct disk *d, struct vmdk_extent *e)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (e->kind == VMDK_ZERO)
		return 0;
	e->fd = disk_open_named(d, "extent", e->name, false, &path);
	if (e->fd < 0)
		return e->fd;
	int r = disk_lock(e->fd, e->name, false, d->shared);
	if (r < 0)
		return r;
	if (fstat(e->fd, &st) < 0)
		return err_sys("%s: extent \"%s\": stat", d->name, e->name);
	if (!S_ISREG(st.st_mode))
		return disk_err(d, EINVAL, "extent \"%s\": expected a regular file", e->name);
	e->file_size = (uint64_t)st.st_size;
	return e->kind == VMDK_FLAT ? check_flat(d, e) : vmdk_sparse_open(d, e);
}

static int open_described(struct disk *d, struct vmdk *v, uint64_t file_size)
{
	_cleanup_free_ char *text = NULL;

	int r = read_text(d, 0, file_size, &text);
	if (r < 0)
		return r;
	if (strncasecmp(text, "# Disk DescriptorFile", 21) != 0)
		return disk_err(d, EINVAL,
			"found neither a sparse extent nor a descriptor: not a VMDK image");
	r = vmdk_parse_descriptor(d, v, text, false);
	if (r >= 0 && v->n == 0)
		r = disk_err(d, EINVAL, "VMDK descriptor: found no extent, expected one or more");
	for (size_t i = 0; i < v->n && r >= 0; i++) {
		d->size = v->extents[i].start + v->extents[i].length;
		if (!d->alone)
			r = open_extent(d, &v->extents[i]);
	}
	return r;
}

/* Opens an image that is a single sparse extent, with or without an embedded descriptor. */
static int open_single(struct disk *d, struct vmdk *v, uint64_t file_size)
{
	_cleanup_free_ char *text = NULL;

	v->extents = calloc(1, sizeof(*v->extents));
	if (!v->extents)
		return disk_err(d, ENOMEM, "no memory");
	v->n = 1;
	v->extents[0].fd = d->fd;
	v->extents[0].file_size = file_size;
	int r = vmdk_sparse_open(d, &v->extents[0]);
	if (r < 0)
		return r;
	d->size = v->extents[0].length;
	if (v->extents[0].descriptor_size == 0)
		return 0;
	r = read_text(d, v->extents[0].descriptor, v->extents[0].descriptor_size, &text);
	return r < 0 ? r : vmdk_parse_descriptor(d, v, text, true);
}

static int open_parent(struct disk *d, struct vmdk *v, const struct disk_options *o)
{
	if (v->parent_cid == VMDK_NO_PARENT)
		return 0;
	if (!v->parent)
		return disk_err(d, EINVAL,
			"VMDK descriptor: parentFileNameHint: missing, expected because parentCID "
			"is %08x",
			v->parent_cid);
	int r = disk_open_backing(d, o, v->parent, "vmdk");
	if (r < 0 || !d->backing)
		return r;
	const struct vmdk *parent = d->backing->state;
	if (parent->cid != v->parent_cid)
		return disk_err(d, EINVAL,
			"VMDK descriptor: parentCID: found %08x, but \"%s\" has %08x: the parent "
			"was changed after this image was made from it",
			v->parent_cid, v->parent, parent->cid);
	return 0;
}

static int vmdk_open(struct disk *d, const struct disk_options *o)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	uint64_t file_size;
	char magic[4];

	d->state = v;
	if (!v)
		return disk_err(d, ENOMEM, "no memory");
	v->parent_cid = VMDK_NO_PARENT;
	int r = disk_file_size(d, &file_size);
	if (r >= 0)
		r = disk_read_meta(d, magic, sizeof(magic), 0, "VMDK header");
	if (r < 0)
		return r;
	if (memcmp(magic, "COWD", 4) == 0)
		return disk_err(d, EOPNOTSUPP,
			"a sparse extent of ESX (COWD), which is not supported: convert it with "
			"VMware's tools to monolithicSparse or streamOptimized");
	if (memcmp(magic, "KDMV", 4) == 0)
		r = open_single(d, v, file_size);
	else
		r = open_described(d, v, file_size);
	return r < 0 ? r : open_parent(d, v, o);
}

static void vmdk_close(struct disk *d)
{
	struct vmdk *v = d->state;

	if (!v)
		return;
	for (size_t i = 0; i < v->n; i++) {
		if (v->extents[i].name)
			fd_close(&v->extents[i].fd);
		free(v->extents[i].name);
	}
	free(v->extents);
	free(v->parent);
	free(v);
}

/* Returns the extent that contains the byte at `offset`, which must be within the disk. */
static const struct vmdk_extent *find(const struct vmdk *v, uint64_t offset)
{
	size_t low = 0, high = v->n - 1;

	while (low < high) {
		size_t middle = (low + high + 1) / 2;

		if (v->extents[middle].start <= offset)
			low = middle;
		else
			high = middle - 1;
	}
	return &v->extents[low];
}

static int vmdk_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	const struct vmdk_extent *e = find(d->state, offset);
	uint64_t within = offset - e->start;

	if (e->length - within < length)
		ret->length = e->length - within;
	if (e->kind == VMDK_SPARSE && e->fd >= 0)
		return vmdk_sparse_map(d, e, within, ret);
	ret->kind = e->kind == VMDK_ZERO ? DISK_ZERO : DISK_DATA;
	if (e->kind == VMDK_FLAT) {
		ret->fd = e->fd;
		ret->host = e->offset + within;
	}
	return e->kind == VMDK_SPARSE || (e->kind == VMDK_FLAT && e->fd < 0)
		       ? disk_err(d, EPERM, "the extents are not open")
		       : 0;
}

static int vmdk_unpack(struct disk *d, uint64_t offset, void *buf, size_t len)
{
	const struct vmdk_extent *e = find(d->state, offset);

	return vmdk_sparse_unpack(d, e, offset - e->start, buf, len);
}

/* Adds the file of an extent, its kind in the descriptor's words, and what its header says. */
static int extent_facts(struct disk *d, const struct vmdk_extent *e, struct disk_info *info)
{
	static const char *const kinds[] = {
		[VMDK_FLAT] = "FLAT", [VMDK_SPARSE] = "SPARSE", [VMDK_ZERO] = "ZERO"};
	const char *slash = strrchr(d->name, '/'), *name = e->name ? e->name : d->name;
	int folder = e->name && *e->name != '/' && slash ? (int)(slash + 1 - d->name) : 0;
	const char *path = arena_printf(&info->arena, "%.*s%s", folder, d->name, name);

	int r = path ? disk_fact_begin(info, NULL, DISK_FACT_OBJECT) : -ENOMEM;
	if (r >= 0 && e->kind == VMDK_SPARSE && e->fd >= 0 && e->compressed)
		r = disk_fact_bool(info, "compressed", true);
	if (r >= 0)
		r = disk_fact_number(info, "virtual-size", e->length);
	if (r >= 0 && e->kind != VMDK_ZERO)
		r = disk_fact_text(info, "filename", path);
	if (r >= 0 && e->kind == VMDK_SPARSE && e->fd >= 0)
		r = disk_fact_number(info, "cluster-size", e->grain);
	if (r >= 0)
		r = disk_fact_text(info, "format", e->fd == d->fd ? "" : kinds[e->kind]);
	return r < 0 ? r : disk_fact_end(info);
}

static int vmdk_info(struct disk *d, struct disk_info *info)
{
	const struct vmdk *v = d->state;

	if (v->extents[0].kind == VMDK_SPARSE)
		info->cluster_size = v->extents[0].grain;
	if (v->parent_cid != VMDK_NO_PARENT) {
		info->backing = v->parent;
		info->backing_format = "vmdk";
	}
	int r = disk_fact_number(info, "cid", v->cid);
	if (r >= 0)
		r = disk_fact_number(info, "parent-cid", v->parent_cid);
	if (r >= 0)
		r = disk_fact_text(info, "create-type", v->create_type);
	if (r >= 0)
		r = disk_fact_begin(info, "extents", DISK_FACT_ARRAY);
	for (size_t i = 0; i < v->n && r >= 0; i++)
		r = extent_facts(d, &v->extents[i], info);
	return r < 0 ? r : disk_fact_end(info);
}

static int other_file(const struct disk *d, size_t i)
{
	const struct vmdk *v = d->state;

	return i < v->n ? v->extents[i].fd : -ENOENT;
}

const struct disk_format format_vmdk = {
	.name = "vmdk",
	.open = vmdk_open,
	.close = vmdk_close,
	.other_file = other_file,
	.map = vmdk_map,
	.unpack = vmdk_unpack,
	.info = vmdk_info,
	.check = vmdk_check,
};
