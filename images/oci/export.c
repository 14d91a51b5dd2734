/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "images/oci/import.h"

#define COPY_SIZE (256u << 10)
#define TAR_BLOCK_SIZE 512u
#define MAX_NESTED_INDEXES 4

/* The target of an export: a directory or a tar archive. */
struct target {
	int fd; /* descriptor of the directory or of the tar file */
	bool tar;
	const struct store *s;
};

static int write_out(int fd, const void *data, size_t len)
{
	int r = fd_write_all(fd, data, len);

	return r < 0 ? err_set(-r, "write the image: %s", err_text(-r)) : 0;
}

static int write_header(struct target *t, const char *name, uint64_t size, char type)
{
	unsigned char h[TAR_BLOCK_SIZE] = {0};
	unsigned sum = 0;

	snprintf((char *)h, 100, "%s", name);
	memcpy(h + 100,
		"0000644\0"
		"0000000\0"
		"0000000\0",
		24);
	if (size >> 33) {
		/*
		 * A size with more than eleven octal digits is written in base 256, an extension of
		 * GNU that all readers support.
		 */
		h[124] = 0x80;
		for (int i = 0; i < 8; i++)
			h[135 - i] = (unsigned char)(size >> (8 * i));
	} else {
		snprintf((char *)h + 124, 12, "%011llo", (unsigned long long)size);
	}
	memcpy(h + 136, "00000000000\0        ", 20);
	h[156] = (unsigned char)type;
	memcpy(h + 257,
		"ustar\0"
		"00",
		8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	return write_out(t->fd, h, sizeof(h));
}

static int write_padding(struct target *t, uint64_t size)
{
	static const char zeros[TAR_BLOCK_SIZE];

	return write_out(t->fd, zeros, (TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE);
}

/*
 * Writes the header of a tar member. If the name is longer than the 100 bytes of a header, as a
 * name with a sha512 digest is, a PAX record with the name comes before the header.
 */
static int begin_member(struct target *t, const char *name, uint64_t size)
{
	char record[400];
	int r = 0;

	if (strlen(name) > 100) {
		/*
		 * The length of the record has three digits, because the name has more than 100 and
		 * less than 300 bytes.
		 */
		size_t len = strlen(name) + sizeof("000 path=\n") - 1;
		snprintf(record, sizeof(record), "%zu path=%s\n", len, name);
		r = write_header(t, "pax", strlen(record), 'x');
		if (r >= 0)
			r = write_out(t->fd, record, strlen(record));
		if (r >= 0)
			r = write_padding(t, strlen(record));
	}
	return r < 0 ? r : write_header(t, name, size, '0');
}

/*
 * Makes a new file in a directory under a temporary name. The file gets its real name when it is
 * complete.
 */
static int create_new(int dir, const char *name, char *temporary, size_t size)
{
	snprintf(temporary, size, "%s.caisson-new", name);
	int fd =
		openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? err_sys("create %s", temporary) : fd;
}

static int name_new(int dir, const char *temporary, const char *name, int r)
{
	if (r >= 0 && renameat(dir, temporary, dir, name) < 0)
		r = err_sys("name %s", name);
	if (r < 0)
		unlinkat(dir, temporary, 0);
	return r;
}

static int write_file(int dir, const char *name, const void *data, size_t len)
{
	char temporary[300];
	_cleanup_fd_ int fd = create_new(dir, name, temporary, sizeof(temporary));

	return fd < 0 ? fd : name_new(dir, temporary, name, write_out(fd, data, len));
}

static int put_bytes(struct target *t, const char *name, const void *data, size_t len)
{
	if (!t->tar)
		return write_file(t->fd, name, data, len);
	int r = begin_member(t, name, len);
	if (r >= 0)
		r = write_out(t->fd, data, len);
	return r < 0 ? r : write_padding(t, len);
}

/*
 * Copies a blob and checks its digest at the same time, so that a damaged store does not produce
 * damaged images.
 */
static int copy_blob(int from, int to, const struct descriptor *d)
{
	_cleanup_hasher_ struct hasher h = {0};
	_cleanup_free_ char *buf = malloc(COPY_SIZE);
	struct digest found;
	uint64_t done = 0;

	if (!buf)
		return err_set(ENOMEM, "out of memory");
	int r = hasher_init(&h, d->digest.algorithm);
	while (r >= 0) {
		ssize_t n = read(from, buf, COPY_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read the blob %s", d->digest.text);
		if (n == 0)
			break;
		done += (uint64_t)n;
		r = hasher_update(&h, buf, (size_t)n);
		if (r >= 0)
			r = write_out(to, buf, (size_t)n);
	}
	if (r >= 0)
		r = hasher_final(&h, &found);
	if (r >= 0 && (done != d->size || !digest_equal(&found, &d->digest)))
		r = err_set(EBADMSG, "the blob %s of the store is damaged", d->digest.text);
	return r;
}

static int write_blob(int dir, const char *name, int from, const struct descriptor *d)
{
	char temporary[300];
	_cleanup_fd_ int fd = create_new(dir, name, temporary, sizeof(temporary));

	return fd < 0 ? fd : name_new(dir, temporary, name, copy_blob(from, fd, d));
}

static int put_blob(struct target *t, const char *name, const struct descriptor *d)
{
	struct stat st;
	uint64_t size;

	if (!t->tar && fstatat(t->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		(uint64_t)st.st_size == d->size)
		return 0;
	_cleanup_fd_ int from = store_open_blob(t->s, &d->digest, &size);
	if (from < 0)
		return from;
	if (size != d->size)
		return err_set(EBADMSG, "the blob %s of the store is damaged", d->digest.text);
	if (!t->tar)
		return write_blob(t->fd, name, from, d);
	int r = begin_member(t, name, d->size);
	if (r >= 0)
		r = copy_blob(from, t->fd, d);
	return r < 0 ? r : write_padding(t, d->size);
}

static int put_layout_blob(struct target *t, const struct descriptor *d)
{
	char name[DIGEST_TEXT_SIZE + 16];

	snprintf(name, sizeof(name), "blobs/%s/%s", digest_algorithm_name(d->digest.algorithm),
		digest_hex(&d->digest));
	return put_blob(t, name, d);
}

/*
 * Exports the image or index that d describes, with all blobs that it refers to. If d describes an
 * index, only those of its manifests are exported that are in the store.
 */
static int put_tree(struct target *t, const struct descriptor *d, int depth)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;

	if (depth > MAX_NESTED_INDEXES)
		return err_set(EINVAL, "indexes nested deeper than %d", MAX_NESTED_INDEXES);
	int r = store_read_document(t->s, d, &text);
	if (r >= 0)
		r = document_parse(&a, &text, d->digest.text, d->media_type, &doc);
	if (r >= 0)
		r = put_layout_blob(t, d);
	if (r >= 0 && doc.kind == DOCUMENT_MANIFEST)
		r = put_layout_blob(t, &doc.config);
	for (size_t i = 0; r >= 0 && i < doc.nlayers; i++) {
		/*
		 * Skips a layer that the image uses a second time, because otherwise the tar would
		 * contain it twice.
		 */
		bool again = false;
		for (size_t j = 0; j < i; j++)
			again |= digest_equal(&doc.layers[i].digest, &doc.layers[j].digest);
		r = again ? 0 : put_layout_blob(t, &doc.layers[i]);
	}
	for (size_t i = 0; r >= 0 && i < doc.nmanifests; i++) {
		r = store_has_blob(t->s, &doc.manifests[i].digest, doc.manifests[i].size);
		if (r > 0)
			r = put_tree(t, &doc.manifests[i], depth + 1);
	}
	return r;
}

/*
 * Writes index.json with the new image and the entries of the layout's former index.json (`before`;
 * NULL: none), except for one with the new image's name.
 */
static int put_index(struct target *t, const struct document *before, const struct descriptor *d)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	index_write(&o, before, d->ref_name, d);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : put_bytes(t, "index.json", text, len);
}

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

/* Makes the directory if it does not exist. For an OCI layout also makes its subdirectories. */
static int make_dir(const char *path, bool layout)
{
	static const char *const below[] = {"blobs", "blobs/sha256", "blobs/sha512"};

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys("create %s", path);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys("open %s", path);
	for (size_t i = 0; layout && i < ARRAY_SIZE(below); i++)
		if (mkdirat(fd, below[i], 0755) < 0 && errno != EEXIST)
			return err_sys("create %s/%s", path, below[i]);
	return take_fd(&fd);
}

static int export_oci(
	const struct store *s, struct arena *a, const struct image *img, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document before;
	_cleanup_fd_ int dir = make_dir(path, true);
	struct target t = {.fd = dir, .s = s};
	struct stat st;

	if (dir < 0)
		return dir;
	bool had = fstatat(dir, "index.json", &st, 0) == 0;
	int r = had ? fd_read_regular(dir, "index.json", &text, OCI_DOCUMENT_MAX) : 0;
	if (had && r >= 0)
		r = document_parse(a, &text, "its index.json", MEDIA_OCI_INDEX, &before);
	if (r >= 0)
		r = put_tree(&t, &img->tag, 0);
	if (r >= 0)
		r = put_bytes(&t, "oci-layout", layout_text, strlen(layout_text));
	return r < 0 ? r : put_index(&t, had ? &before : NULL, &img->tag);
}

static int export_dir(
	const struct store *s, struct arena *a, const struct image *img, const char *path)
{
	static const char version[] = "Directory Transport Version: 1.1\n";
	_cleanup_fd_ int dir = make_dir(path, false);
	struct target t = {.fd = dir, .s = s};

	if (dir < 0)
		return dir;
	int r = put_bytes(&t, "version", version, strlen(version));
	if (r >= 0)
		r = put_blob(&t, digest_hex(&img->document.config.digest), &img->document.config);
	for (size_t i = 0; r >= 0 && i < img->document.nlayers; i++)
		r = put_blob(
			&t, digest_hex(&img->document.layers[i].digest), &img->document.layers[i]);
	return r < 0 ? r : put_blob(&t, "manifest.json", &img->manifest);
}

static int open_tar(const struct store *s, const char *path, struct target *t)
{
	*t = (struct target){.tar = true, .s = s};
	t->fd = streq(path, "-") ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
				 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return t->fd < 0 ? err_sys("create %s", path) : 0;
}

/*
 * Writes the two blocks of zeros that end a tar, and closes it. After an error it removes the
 * incomplete file.
 */
static int close_tar(struct target *t, const char *path, int r)
{
	static const char end[2 * TAR_BLOCK_SIZE];

	if (r >= 0)
		r = write_out(t->fd, end, sizeof(end));
	if (close(t->fd) < 0 && r >= 0)
		r = err_sys("write %s", path);
	if (r < 0 && !streq(path, "-"))
		unlink(path);
	return r;
}

static int export_oci_archive(
	const struct store *s, struct arena *a, const struct image *img, const char *path)
{
	struct target t;
	int r = open_tar(s, path, &t);

	if (r < 0)
		return r;
	r = put_bytes(&t, "oci-layout", layout_text, strlen(layout_text));
	if (r >= 0)
		r = put_index(&t, NULL, &img->tag);
	if (r >= 0)
		r = put_tree(&t, &img->tag, 0);
	return close_tar(&t, path, r);
}

static const char *layer_name(struct arena *a, const struct descriptor *d)
{
	const char *type = d->media_type;
	size_t len = strlen(type);
	bool gzip = len > 4 && streq(type + len - 4, "gzip");

	return arena_printf(a, "%s.tar%s", digest_hex(&d->digest), gzip ? ".gz" : "");
}

static int put_docker_manifest(struct target *t, struct arena *a, const struct image *img)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text, *tag = img->tag.ref_name;
	const char *slash = tag ? strrchr(tag, '/') : NULL;
	size_t len;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	json_out_object(&o, NULL);
	json_out_str(
		&o, "Config", arena_printf(a, "%s.json", digest_hex(&img->document.config.digest)));
	json_out_array(&o, "RepoTags");
	if (tag)
		json_out_str(&o, NULL,
			strchr(slash ? slash : tag, ':') ? tag : arena_printf(a, "%s:latest", tag));
	json_out_end_array(&o);
	json_out_array(&o, "Layers");
	for (size_t i = 0; i < img->document.nlayers; i++)
		json_out_str(&o, NULL, layer_name(a, &img->document.layers[i]));
	json_out_end_array(&o);
	json_out_end_object(&o);
	json_out_end_array(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : put_bytes(t, "manifest.json", text, len);
}

static int export_docker_archive(
	const struct store *s, struct arena *a, const struct image *img, const char *path)
{
	const struct document *doc = &img->document;
	struct target t;
	int r = open_tar(s, path, &t);

	if (r < 0)
		return r;
	r = put_docker_manifest(&t, a, img);
	if (r >= 0)
		r = put_blob(&t, arena_printf(a, "%s.json", digest_hex(&doc->config.digest)),
			&doc->config);
	for (size_t i = 0; r >= 0 && i < doc->nlayers; i++) {
		bool again = false;
		for (size_t j = 0; j < i; j++)
			again |= digest_equal(&doc->layers[i].digest, &doc->layers[j].digest);
		r = again ? 0 : put_blob(&t, layer_name(a, &doc->layers[i]), &doc->layers[i]);
	}
	return close_tar(&t, path, r);
}

static const struct {
	const char *transport;
	/*
	 * The format can hold the image of one platform only, so the configuration is read to find
	 * that image.
	 */
	bool needs_image;
	bool has_name;
	int (*export)(
		const struct store *s, struct arena *a, const struct image *img, const char *path);
} transports[] = {
	{"oci:", false, true, export_oci},
	{"dir:", true, false, export_dir},
	{"oci-archive:", false, true, export_oci_archive},
	{"docker-archive:", true, true, export_docker_archive},
};

int image_export(const struct store *s, struct arena *a, const char *name, const char *target)
{
	const char *path, *reference = NULL;
	struct image img = {0};

	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		if (!str_starts(target, transports[i].transport))
			continue;
		path = target + strlen(transports[i].transport);
		int r = transports[i].has_name ? split_path(a, path, &path, &reference) : 0;
		if (r >= 0)
			r = image_find(s, a, name, &img.name, &img.tag);
		if (r >= 0 && transports[i].needs_image)
			r = image_read(s, a, NULL, &img);
		if (r < 0)
			return r;
		img.tag.ref_name = reference ? reference : img.name;
		r = transports[i].export(s, a, &img, path);
		return r < 0 ? err_ctx(r, "%.200s", target) : 0;
	}
	return err_set(EINVAL,
		"\"%.100s\": expected oci:DIR[:TAG], oci-archive:FILE[:TAG], "
		"docker-archive:FILE[:REF] or dir:DIR",
		target);
}
