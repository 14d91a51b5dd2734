/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the parsers of OCI documents: the input is parsed as a manifest, an index and an image's
 * configuration. An accepted document must keep the limits that oci.h promises. If it is written
 * again, the parser must accept it with the same content.
 */
#include <stdlib.h>

#include "images/oci/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_digest(const struct digest *d)
{
	struct digest again;

	/*
	 * A digest may become the name of a file, so it must have no slash and no dot, and only
	 * hexadecimal digits behind the colon.
	 */
	if (digest_parse(d->text, "again", &again) < 0 || strpbrk(d->text, "/."))
		abort();
}

static void check_descriptor(const struct descriptor *d)
{
	check_digest(&d->digest);
	if (d->size > INT64_MAX || !d->media_type)
		abort();
}

/* Writes an index of the descriptors that were parsed, and parses this index again. */
static void check_written(const struct descriptor *v, size_t n)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf b = {0};
	struct document again;
	const char *text;
	size_t len;

	if (json_out_init(&o, false) < 0)
		return;
	json_out_object(&o, NULL);
	json_out_u64(&o, "schemaVersion", 2);
	json_out_array(&o, "manifests");
	for (size_t i = 0; i < n; i++)
		descriptor_write(&o, NULL, &v[i]);
	json_out_end_array(&o);
	json_out_end_object(&o);
	if (json_out_text(&o, &text, &len) < 0 || strbuf_add(&b, text, len) < 0)
		abort();
	if (document_parse(&a, &b, "again", MEDIA_OCI_INDEX, &again) < 0 || again.nmanifests != n)
		abort();
	for (size_t i = 0; i < n; i++)
		if (!digest_equal(&again.manifests[i].digest, &v[i].digest) ||
			again.manifests[i].size != v[i].size)
			abort();
}

static void fuzz_document(const struct strbuf *text, const char *type)
{
	_cleanup_arena_ struct arena a = {0};
	const struct descriptor *chosen;
	struct document d;

	err_clear();
	if (document_parse(&a, text, "fuzz", type, &d) < 0) {
		if (!*err_msg())
			abort(); /* every failure must have a message */
		return;
	}
	if (d.kind == DOCUMENT_MANIFEST)
		check_descriptor(&d.config);
	if (d.nlayers > OCI_LAYERS_MAX || d.nmanifests > OCI_INDEX_MAX)
		abort();
	for (size_t i = 0; i < d.nlayers; i++)
		check_descriptor(&d.layers[i]);
	for (size_t i = 0; i < d.nmanifests; i++)
		check_descriptor(&d.manifests[i]);
	check_written(d.manifests, d.nmanifests);
	const struct platform wanted = {.os = "linux", .architecture = "arm", .variant = "v7"};
	if (index_choose(&d, &wanted, &chosen) == 0 && !chosen)
		abort();
}

static void fuzz_config(const struct strbuf *text)
{
	_cleanup_arena_ struct arena a = {0};
	struct image_config c;

	err_clear();
	if (image_config_parse(&a, text, "fuzz", &c) < 0) {
		if (!*err_msg())
			abort();
		return;
	}
	for (size_t i = 0; i < c.ndiff_ids; i++)
		check_digest(&c.diff_ids[i]);
	if (c.nenv > OCI_STRINGS_MAX || (c.env && c.env[c.nenv]))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (strbuf_add(&text, data, size) < 0)
		return 0;
	fuzz_document(&text, NULL);
	fuzz_document(&text, MEDIA_OCI_INDEX);
	fuzz_document(&text, MEDIA_DOCKER_MANIFEST);
	fuzz_config(&text);
	return 0;
}
