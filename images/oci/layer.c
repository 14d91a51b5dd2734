/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Two threads unpack a layer: one reads, digests and decompresses, and the
 * other one parses the tar and writes the tree. So a layer takes about as long as the slower of
 * these two parts.
 */
#include "images/oci/layer.h"

struct pipeline {
	struct file_stream file;
	struct decompressor plain;
	struct ahead *ahead;
	struct stream stream;
	struct tar tar;
};

static void release(struct pipeline *p)
{
	ahead_stop(&p->ahead);
	tar_release(&p->tar);
	decompressor_release(&p->plain);
	file_stream_release(&p->file);
}

static int start(struct pipeline *p, const struct layer *l, int fd)
{
	int r = file_stream_init(&p->file, &(struct file_source){.fd = fd,
						   .what = l->what,
						   .max = l->size,
						   .more = l->more,
						   .data = l->more_data});

	if (r >= 0)
		r = decompressor_init(&p->plain, &p->file.stream,
			l->diff_id ? l->diff_id->algorithm : DIGEST_SHA256);
	if (r >= 0)
		r = ahead_start(&p->plain.stream, &p->ahead);
	if (r < 0)
		return r;
	p->stream = ahead_stream(p->ahead);
	tar_init(&p->tar, &p->stream);
	return 0;
}

static void report(const struct pipeline *p, const struct layer *l)
{
	if (l->progress)
		l->progress(l->data, p->file.done);
}

static int write_file(
	struct pipeline *p, const struct layer *l, struct tree *tree, const struct tar_entry *e)
{
	const unsigned char *bytes;
	uint64_t offset;
	ssize_t n;
	int r = 0;

	while (r >= 0 && (n = tar_data(&p->tar, &bytes, &offset)) != 0) {
		r = n < 0 ? (int)n : tree_write(tree, bytes, (size_t)n, offset);
		report(p, l);
	}
	return r < 0 ? r : tree_close_file(tree, e);
}

static int apply_entries(struct pipeline *p, const struct layer *l, struct tree *tree)
{
	struct tar_entry e;
	int r;

	while ((r = tar_next(&p->tar, &e)) > 0) {
		r = tree_add(tree, &e);
		if (r > 0)
			r = write_file(p, l, tree, &e);
		if (r < 0)
			break;
		report(p, l);
	}
	return r < 0 ? r : tree_end(tree);
}

/*
 * Reads the rest of the stream behind the end of the tar, because the digests include this rest.
 * The rest must be zeros.
 */
static int drain(const struct stream *s)
{
	const unsigned char *bytes;
	ssize_t n;

	while ((n = stream_next(s, &bytes)) > 0)
		;
	return (int)n;
}

static int check_digest(
	const struct digest *expected, const struct digest *found, const char *which)
{
	if (!expected || digest_equal(expected, found))
		return 0;
	return err_set(EBADMSG, "%s is %s, expected %s", which, found->text, expected->text);
}

static int check(struct pipeline *p, const struct layer *l, struct layer_result *ret)
{
	ret->size = p->file.done;
	int r = hasher_final(&p->plain.hasher, &ret->diff_id);
	if (r >= 0 && l->size != UINT64_MAX && ret->size != l->size)
		r = err_set(EBADMSG, "it has %llu bytes, expected %llu",
			(unsigned long long)ret->size, (unsigned long long)l->size);
	if (r >= 0)
		r = check_digest(
			l->diff_id, &ret->diff_id, "its digest when decompressed (diff_id)");
	return r;
}

int layer_apply(const struct layer *l, int fd, int root, const struct tree_options *options,
	struct layer_result *ret)
{
	__attribute__((cleanup(release))) struct pipeline p = {0};
	_cleanup_tree_ struct tree tree = TREE_INIT;
	int r = start(&p, l, fd);

	*ret = (struct layer_result){0};
	if (r >= 0)
		r = tree_begin(&tree, root, options);
	if (r >= 0)
		r = apply_entries(&p, l, &tree);
	if (r >= 0)
		r = drain(&p.stream);
	if (r >= 0)
		r = check(&p, l, ret);
	ret->entries = tree.entries;
	return r < 0 ? err_ctx(r, "%s", l->what) : 0;
}
