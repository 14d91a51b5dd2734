/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the unpacking of layers: the input is a layer. First it goes through the decompressor and
 * the tar reader alone, where each entry must keep the limits of tar.h. Then it is unpacked, as a
 * plain tar archive, into a tree beside another directory, which must stay unchanged whatever the
 * layer says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "images/oci/layer.h"
#include "images/oci/tree_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

#define HEADER 512

/*
 * Mutates the input and then corrects the checksums of tar headers, because the reader would stop
 * at a header with a wrong checksum.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	for (size_t at = 0; at + HEADER <= size && seed % 8; at += HEADER) {
		uint8_t *h = data + at;
		unsigned sum = 0;
		if (memcmp(h + 257, "ustar", 5) != 0)
			continue;
		memset(h + 148, ' ', 8);
		for (size_t i = 0; i < HEADER; i++)
			sum += h[i];
		snprintf((char *)h + 148, 8, "%06o", sum);
	}
	return size;
}

/*
 * A source of input for the unpacker: it returns the fuzzer's input in pieces of odd lengths, so
 * that tar headers are split.
 */
struct pieces {
	struct stream stream;
	const uint8_t *p;
	size_t left, step;
};

static ssize_t next_piece(void *data, const unsigned char **ret)
{
	struct pieces *s = data;
	size_t n = s->left < s->step ? s->left : s->step;

	*ret = s->p;
	s->p += n;
	s->left -= n;
	s->step = s->step * 7 % 1021 + 3;
	return (ssize_t)n;
}

static void check_entry(const struct tar_entry *e)
{
	size_t name = strlen(e->name), link = strlen(e->link);

	if (name >= TAR_NAME_MAX || link >= TAR_NAME_MAX || e->nxattrs > TAR_XATTRS_MAX ||
		(e->type != TAR_FILE && e->size) || e->mode & ~07777u || e->mtime.tv_nsec < 0 ||
		e->mtime.tv_nsec > 999999999)
		abort();
	/* Every byte of the extended attributes must be readable, which the sanitizers check. */
	for (size_t i = 0; i < e->nxattrs; i++) {
		_cleanup_free_ void *copy = malloc(e->xattrs[i].len + 1);
		if (copy)
			memcpy(copy, e->xattrs[i].value, e->xattrs[i].len);
	}
}

static void read_alone(const uint8_t *data, size_t size)
{
	struct pieces in = {.p = data, .left = size, .step = 512};
	struct decompressor d = {0};
	_cleanup_tar_ struct tar t = {0};
	const unsigned char *bytes;
	struct tar_entry e;
	uint64_t offset, total = 0;
	ssize_t n;
	int r;

	in.stream = (struct stream){next_piece, &in};
	if (decompressor_init(&d, &in.stream, DIGEST_SHA256) < 0)
		return;
	tar_init(&t, &d.stream);
	while ((r = tar_next(&t, &e)) > 0) {
		uint64_t end = 0;
		check_entry(&e);
		while ((n = tar_data(&t, &bytes, &offset)) > 0) {
			/*
			 * The pieces of a file's content must come in order, and lie within the
			 * file's size.
			 */
			if (offset < end || offset > e.size || (uint64_t)n > e.size - offset)
				abort();
			end = offset + (uint64_t)n;
			total += (uint64_t)n;
		}
		if (n < 0 || total > 64 << 20)
			break;
	}
	if (r < 0 && !*err_msg())
		abort();
	decompressor_release(&d);
}

#define BOX_SIZE 64

/*
 * Makes the directory BOX/root, into which the layer is unpacked, and BOX/outside, which the layer
 * must not reach.
 */
static int make_box(char box[BOX_SIZE])
{
	char path[128];

	snprintf(box, BOX_SIZE, "/dev/shm/fuzz-layer-XXXXXX");
	if (!mkdtemp(box))
		abort();
	snprintf(path, sizeof(path), "%s/outside", box);
	if (mkdir(path, 0700) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/root", box);
	if (mkdir(path, 0755) < 0)
		abort();
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		abort();
	return fd;
}

static void drop_box(const char *box, int root)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/outside", box);
	if (stat(path, &st) < 0 || (st.st_mode & 07777) != 0700 || st.st_nlink != 2 ||
		st.st_uid != getuid())
		abort();
	/* rmdir() fails if the layer has put something into the directory BOX/outside. */
	if (rmdir(path) < 0)
		abort();
	if (tree_clear(root, NULL) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/root", box);
	if (rmdir(path) < 0 || rmdir(box) < 0)
		abort();
}

static void apply(const uint8_t *data, size_t size)
{
	const struct layer layer = {.what = "fuzz", .size = UINT64_MAX};
	const struct tree_options options = {.squash = true, .max_bytes = 1 << 20};
	struct layer_result result;
	char box[BOX_SIZE];
	_cleanup_fd_ int root = make_box(box);
	_cleanup_fd_ int fd = memfd_create("layer", MFD_CLOEXEC);

	if (fd < 0 || fd_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	err_clear();
	if (layer_apply(&layer, fd, root, &options, &result) < 0 && !*err_msg())
		abort();
	drop_box(box, root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_alone(data, size);
	if (size <= 64 << 10)
		apply(data, size);
	return 0;
}
