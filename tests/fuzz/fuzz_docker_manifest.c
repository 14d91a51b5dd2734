/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the import of what `docker save` writes: the input is manifest.json. The archive has a
 * configuration, two layers, a link to a layer, and links in a circle. Every image that is imported
 * must be a manifest that the store reads back, whose layers are blobs of the store.
 */
#include <stdlib.h>

#include "base/remove.h"
#include "images/oci/archive_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define BOX "/tmp/fuzz-docker-manifest-XXXXXX"

static struct fixture {
	struct store store;
	char box[sizeof(BOX)];
	struct member members[6];
} fixture = {.store = STORE_INIT, .box = BOX};

static void drop_box(void)
{
	const char *name = strrchr(fixture.box, '/') + 1;
	_cleanup_fd_ int dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	store_close(&fixture.store);
	if (dir < 0 || remove_tree(dir, name, NULL) < 0)
		abort();
}

static void add_file(struct member *m, const char *path, const char *data, size_t len)
{
	struct descriptor d = {.media_type = ""};

	if (store_add_blob(&fixture.store, data, len, &d) < 0)
		abort();
	*m = (struct member){.path = path, .digest = d.digest, .size = d.size};
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char config[] = "{\"architecture\":\"amd64\",\"os\":\"linux\"}";
	struct fixture *f = &fixture;

	if (!mkdtemp(f->box) || store_open(&f->store, f->box, STORE_NO_SYNC) < 0)
		abort();
	atexit(drop_box);
	add_file(&f->members[0], "c.json", config, strlen(config));
	add_file(&f->members[1], "a/layer.tar", "\x1f\x8b\x08", 3);
	add_file(&f->members[2], "b.tar", "", 0);
	f->members[3] = (struct member){.path = "l/layer.tar", .link = "a/layer.tar"};
	f->members[4] = (struct member){.path = "x", .link = "y"};
	f->members[5] = (struct member){.path = "y", .link = "x"};
	return 0;
}

/* Checks an image that was imported, and removes its tag, so that index.json stays small. */
static void check_image(struct arena *a, const struct imported *i)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct descriptor d = {.digest = i->digest};
	struct document doc;

	_cleanup_fd_ int fd = store_open_blob(&fixture.store, &d.digest, &d.size);
	if (fd < 0 || store_read_document(&fixture.store, &d, &text) < 0 ||
		document_parse(a, &text, "again", NULL, &doc) < 0 || doc.kind != DOCUMENT_MANIFEST)
		abort();
	for (size_t k = 0; k < doc.nlayers; k++)
		if (store_has_blob(&fixture.store, &doc.layers[k].digest, doc.layers[k].size) != 1)
			abort();
	/* The tag may be gone, because a name can be in manifest.json several times. */
	if (store_untag(&fixture.store, i->name) < 0)
		err_clear();
}

static void import(const uint8_t *data, size_t size, const char *ref, const char *name)
{
	_cleanup_arena_ struct arena a = {0};
	const struct import_options options = {.name = name};
	struct import_result result = {0};
	struct archive ar = {.s = &fixture.store,
		.a = &a,
		.v = fixture.members,
		.n = ARRAY_SIZE(fixture.members)};

	if (strbuf_add(&ar.manifest, data, size) < 0)
		abort();
	err_clear();
	int r = archive_import_docker(&ar, ref, &options, &result);
	if ((r < 0 && !*err_msg()) || (r >= 0 && result.n == 0))
		abort();
	for (size_t i = 0; i < result.n; i++)
		check_image(&a, &result.v[i]);
	strbuf_release(&ar.manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	import(data, size, NULL, NULL);
	import(data, size, "t", NULL);
	import(data, size, NULL, "given");
	return 0;
}
