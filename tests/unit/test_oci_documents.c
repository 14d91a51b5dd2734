/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the parsers of digests, manifests, indexes and image configurations, and the choice of a
 * platform.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "images/oci/oci.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA "sha256:" HEX
#define DESCRIPTOR(size) "{\"mediaType\":\"x/y\",\"digest\":\"" SHA "\",\"size\":" size "}"

static int parse(struct arena *a, const char *text, const char *type, struct document *ret)
{
	_cleanup_strbuf_ struct strbuf b = {0};

	assert_int_equal(strbuf_add(&b, text, strlen(text)), 0);
	err_clear();
	return document_parse(a, &b, "doc", type, ret);
}

static void refuse(const char *text, const char *type, const char *message)
{
	_cleanup_arena_ struct arena a = {0};
	struct document d;

	assert_int_equal(parse(&a, text, type, &d), -EINVAL);
	if (!strstr(err_msg(), message))
		fail_msg("message \"%s\": expected \"%s\"", err_msg(), message);
}

static void test_digest_forms(void **state)
{
	static const char *const bad[] = {"", "sha256", "sha256:", ":" HEX, "sha256:" HEX "0",
		"sha256:../../etc/passwd",
		"sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef"
		"0123456789abcdef",
		"md5:" HEX, "sha512:" HEX, "sha256:" HEX "\n", " sha256:" HEX, "SHA256:" HEX,
		"sha256-" HEX};
	struct digest d;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(digest_parse(bad[i], "field", &d), -EINVAL);
		assert_non_null(strstr(err_msg(), "field: "));
	}
	assert_int_equal(digest_parse(SHA, "field", &d), 0);
	assert_string_equal(digest_hex(&d), HEX);
	assert_int_equal(digest_parse("sha512:" HEX HEX, "field", &d), 0);
	assert_string_equal(digest_hex(&d), HEX HEX);
}

static void test_digest_of_known_texts(void **state)
{
	struct digest d;

	assert_int_equal(digest_of(DIGEST_SHA256, "", 0, &d), 0);
	assert_string_equal(d.text,
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b"
		"7852b855");
	assert_int_equal(digest_of(DIGEST_SHA512, "abc", 3, &d), 0);
	assert_string_equal(d.text,
		"sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a27"
		"4fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

static void test_manifest(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct document d;

	assert_int_equal(
		parse(&a,
			"{\"schemaVersion\":2,\"config\":" DESCRIPTOR(
				"7") ",\"layers\":[" DESCRIPTOR("0") "," DESCRIPTOR("92233720368547"
										    "75807") "],"
											     "\"ann"
											     "otati"
											     "ons\""
											     ":{"
											     "\"k\""
											     ":\"v"
											     "\"},"
											     "\"sub"
											     "ject"
											     "\""
											     ":" DESCRIPTOR(
												     "3") "}",
			MEDIA_DOCKER_MANIFEST, &d),
		0);
	assert_int_equal(d.kind, DOCUMENT_MANIFEST);
	assert_string_equal(d.media_type, MEDIA_DOCKER_MANIFEST);
	assert_int_equal(d.nlayers, 2);
	assert_true(d.layers[1].size == INT64_MAX);
	assert_string_equal(d.config.digest.text, SHA);
	assert_true(d.has_subject);
	assert_string_equal(json_get_str(d.annotations, "k"), "v");
}

static void test_bad_documents(void **state)
{
	refuse("", NULL, "doc is empty");
	refuse("[]", NULL, "expected an object");
	refuse("{\"schemaVersion\":2} trailing", NULL, "not valid JSON");
	refuse("{\"schemaVersion\":1}", NULL, "schema 1");
	refuse("{}", NULL, "schemaVersion is missing");
	refuse("{\"schemaVersion\":2}", NULL, "config is missing");
	refuse("{\"schemaVersion\":2,\"config\":" DESCRIPTOR("-1") "}", NULL, "doc: config: size");
	refuse("{\"schemaVersion\":2,\"config\":" DESCRIPTOR("9223372036854775808") "}", NULL,
		"size");
	refuse("{\"schemaVersion\":2,\"config\":" DESCRIPTOR("1.5") "}", NULL, "size");
	refuse("{\"schemaVersion\":2,\"config\":" DESCRIPTOR("\"1\"") "}", NULL, "size");
	refuse("{\"schemaVersion\":2,\"config\":{\"size\":1,\"digest\":\"sha256:../x\"}}", NULL,
		"doc: config: \"sha256:../x\"");
	refuse("{\"schemaVersion\":2,\"config\":" DESCRIPTOR("1") ",\"layers\":[{\"size\":1}]}",
		NULL, "doc: layers[0]: digest is missing");
	refuse("{\"schemaVersion\":2,\"config\":" DESCRIPTOR("1") ",\"manifests\":[]}", NULL,
		"members of a manifest and of an index");
	refuse("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX
	       "\",\"config\":" DESCRIPTOR("1") "}",
		NULL, "its members are not");
	refuse("{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\"}", MEDIA_OCI_INDEX,
		"came as");
	refuse("{\"schemaVersion\":2,\"mediaType\":\"text/plain\"}", NULL, "neither");
	refuse("{\"schemaVersion\":2,\"manifests\":[1]}", NULL, "doc: manifests[0] is a number");
	refuse("{\"schemaVersion\":2,\"schemaVersion\":2}", NULL, "given twice");
}

/* Returns a text that consists of head, n times piece, and tail. */
static char *repeat(const char *head, const char *piece, size_t n, const char *tail)
{
	size_t len = strlen(piece);
	char *s = malloc(strlen(head) + n * len + strlen(tail) + 1), *p = s;

	assert_non_null(s);
	p = stpcpy(p, head);
	for (size_t i = 0; i < n; i++)
		p = stpcpy(p, piece);
	strcpy(p, tail);
	return s;
}

static void test_bounds(void **state)
{
	_cleanup_free_ char *open = repeat("{\"schemaVersion\":2,\"x\":", "[", 10000, "");
	_cleanup_free_ char *deep =
		repeat("{\"schemaVersion\":2,\"manifests\":[],\"x\":", "[", 10000, "");
	_cleanup_free_ char *closed = repeat(deep, "]", 10000, "}");
	_cleanup_free_ char *commas = repeat("{\"schemaVersion\":2,\"x\":[1", ",1", 1000000, "]}");
	_cleanup_free_ char *large =
		repeat("{\"schemaVersion\":2,\"x\":\"", "12345678", 600000, "\"}");
	_cleanup_free_ char *layers = repeat(
		"{\"schemaVersion\":2,\"config\":" DESCRIPTOR("1") ",\"layers\":[" DESCRIPTOR("1"),
		"," DESCRIPTOR("1"), 500, "]}");
	_cleanup_free_ char *many = repeat("{\"schemaVersion\":2,\"manifests\":[" DESCRIPTOR("1"),
		"," DESCRIPTOR("1"), 9999, "]}");
	_cleanup_arena_ struct arena a = {0};
	struct document d;

	refuse(open, NULL, "not valid JSON");
	/*
	 * The parser must accept an unknown member that is nested as deeply as here, because it
	 * drops the member.
	 */
	assert_int_equal(parse(&a, closed, MEDIA_OCI_INDEX, &d), 0);
	assert_int_equal(d.nmanifests, 0);
	refuse(commas, NULL, "values: too many");
	refuse(large, NULL, "more than the limit");
	refuse(layers, NULL, "layers has 501 elements");
	assert_int_equal(parse(&a, many, MEDIA_OCI_INDEX, &d), 0);
	assert_int_equal(d.nmanifests, 10000);
}

static int parse_config(struct arena *a, const char *text, struct image_config *ret)
{
	_cleanup_strbuf_ struct strbuf b = {0};

	assert_int_equal(strbuf_add(&b, text, strlen(text)), 0);
	err_clear();
	return image_config_parse(a, &b, "config", ret);
}

static void test_config(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct image_config c;

	assert_int_equal(parse_config(&a,
				 "{\"architecture\":\"arm64\",\"os\":\"linux\",\"variant\":\"v8\","
				 "\"config\":{"
				 "\"User\":\"1000:1000\",\"Env\":[\"A=b\"],\"Entrypoint\":null,"
				 "\"Cmd\":[\"sh\",\"-c\"],"
				 "\"Volumes\":{\"/data\":{}},\"ExposedPorts\":{\"80/"
				 "tcp\":{}},\"Labels\":{\"l\":\"1\"}},"
				 "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" SHA "\"]},"
				 "\"history\":[{\"created_by\":\"x\",\"empty_layer\":true},{}]}",
				 &c),
		0);
	assert_string_equal(c.platform.variant, "v8");
	assert_string_equal(c.user, "1000:1000");
	assert_int_equal(c.ncmd, 2);
	assert_null(c.entrypoint);
	assert_string_equal(c.volumes[0], "/data");
	assert_string_equal(c.exposed_ports[0], "80/tcp");
	assert_int_equal(c.ndiff_ids, 1);
	assert_true(c.history[0].empty_layer);
	assert_false(c.history[1].empty_layer);
	assert_int_equal(parse_config(&a, "{\"config\":{\"Env\":[1]}}", &c), -EINVAL);
	assert_non_null(strstr(err_msg(), "Env[0] is a number"));
	assert_int_equal(parse_config(&a, "{\"config\":{\"Labels\":{\"a\":1}}}", &c), -EINVAL);
	assert_int_equal(
		parse_config(&a, "{\"rootfs\":{\"diff_ids\":[\"sha256:1\"]}}", &c), -EINVAL);
	assert_non_null(strstr(err_msg(), "rootfs.diff_ids[0]"));
}

#define FOR(arch, variant, size) \
	"{\"digest\":\"" SHA "\",\"size\":" size ",\"platform\":{\"os\":\"linux\"," \
	"\"architecture\":\"" arch "\"" variant "}}"

static void choose(const char *list, const char *platform, uint64_t expected)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct descriptor *chosen;
	struct platform wanted;
	struct document d;

	assert_int_equal(strbuf_addf(&text, "{\"schemaVersion\":2,\"manifests\":[%s]}", list), 0);
	assert_int_equal(parse(&a, strbuf_str(&text), NULL, &d), 0);
	assert_int_equal(platform_parse(&a, platform, &wanted), 0);
	int r = index_choose(&d, &wanted, &chosen);
	if (!expected) {
		assert_int_equal(r, -ENOENT);
		assert_non_null(strstr(err_msg(), "it is for: linux/"));
		return;
	}
	assert_int_equal(r, 0);
	assert_true(chosen->size == expected);
}

static void test_platforms(void **state)
{
	static const char list[] = FOR("amd64", "", "1") "," FOR("amd64", ",\"variant\":\"v3\"",
		"2") "," FOR("arm", ",\"variant\":\"v5\"", "5") "," FOR("arm",
		",\"variant\":\"v7\"", "7") "," FOR("arm64", ",\"variant\":\"v8\"",
		"8") "," FOR("arm", ",\"variant\":\"v6\"", "6") "," FOR("amd64", "", "9");
	_cleanup_arena_ struct arena a = {0};
	struct platform p;

	choose(list, "linux/amd64", 1);
	choose(list, "x86_64", 1);
	choose(list, "linux/amd64/v2", 1);
	choose(list, "linux/amd64/v4", 2);
	choose(list, "linux/arm/v7", 7);
	choose(list, "linux/arm/v6", 6);
	choose(list, "linux/arm/v8", 7);
	choose(list, "linux/arm/v4", 0);
	choose(list, "arm64", 8);
	choose(list, "linux/arm64/v8", 8);
	choose(list, "linux/s390x", 0);
	choose(list, "windows/amd64", 0);
	assert_int_equal(platform_parse(&a, "linux/arm/v7/x", &p), -EINVAL);
	assert_int_equal(platform_parse(&a, "/arm", &p), -EINVAL);
	assert_int_equal(platform_parse(&a, "linux/", &p), -EINVAL);
}

/* Checks that the parser reads back the same descriptor that descriptor_write() has written. */
static void test_descriptor_written(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_json_out_ struct json_out o = {0};
	struct document d, again;
	const char *text;
	size_t len;

	assert_int_equal(
		parse(&a,
			"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" MEDIA_OCI_MANIFEST
			"\",\"digest\":\"" SHA
			"\",\"size\":5,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\","
			"\"variant\":\"v7\"},\"annotations\":{\"" ANNOTATION_REF_NAME
			"\":\"a:1\",\"z\":\"\"}}]}",
			NULL, &d),
		0);
	assert_int_equal(json_out_init(&o, false), 0);
	json_out_object(&o, NULL);
	json_out_u64(&o, "schemaVersion", 2);
	json_out_array(&o, "manifests");
	descriptor_write(&o, NULL, &d.manifests[0]);
	json_out_end_array(&o);
	json_out_end_object(&o);
	assert_int_equal(json_out_text(&o, &text, &len), 0);
	assert_int_equal(parse(&a, text, NULL, &again), 0);
	assert_string_equal(again.manifests[0].ref_name, "a:1");
	assert_string_equal(again.manifests[0].platform.variant, "v7");
	assert_string_equal(again.manifests[0].media_type, MEDIA_OCI_MANIFEST);
	assert_string_equal(json_get_str(again.manifests[0].annotations, "z"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest_forms),
		cmocka_unit_test(test_digest_of_known_texts),
		cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_bad_documents),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_platforms),
		cmocka_unit_test(test_descriptor_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
