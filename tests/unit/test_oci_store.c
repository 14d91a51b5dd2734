/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the image store: blobs, tags and garbage collection, with other writers at the same time
 * and after writers that were killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "images/oci/image.h"

struct box {
	char path[64];
	struct store s;
};

static int make_box(void **state)
{
	struct box *b = calloc(1, sizeof(*b));

	snprintf(b->path, sizeof(b->path), "/tmp/oci-store-XXXXXX");
	assert_non_null(mkdtemp(b->path));
	assert_int_equal(store_open(&b->s, b->path, STORE_SYNC), 0);
	*state = b;
	return 0;
}

static int drop_box(void **state)
{
	struct box *b = *state;
	char command[128];

	store_close(&b->s);
	snprintf(command, sizeof(command), "rm -rf %s", b->path);
	assert_int_equal(system(command), 0);
	free(b);
	return 0;
}

static void digest_text_of(const char *text, struct digest *d)
{
	assert_int_equal(digest_of(DIGEST_SHA256, text, strlen(text), d), 0);
}

static bool is_there(struct box *b, const char *relative)
{
	struct stat st;

	return fstatat(b->s.dir, relative, &st, 0) == 0;
}

static void test_blob(void **state)
{
	struct box *b = *state;
	_cleanup_blob_ struct blob_writer w = BLOB_WRITER_INIT;
	_cleanup_strbuf_ struct strbuf text = {0};
	struct digest d, found;
	uint64_t size;

	digest_text_of("hello", &d);
	assert_int_equal(store_has_blob(&b->s, &d, 5), 0);
	assert_int_equal(store_open_blob(&b->s, &d, NULL), -ENOENT);
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 0);
	assert_true(w.written == 0);
	assert_int_equal(blob_write(&w, "hel", 3), 0);
	assert_int_equal(store_has_blob(&b->s, &d, 5), 0);
	assert_int_equal(blob_write(&w, "lo!", 3), -EFBIG);
	assert_int_equal(blob_write(&w, "lo", 2), 0);
	assert_int_equal(blob_finish(&w, &found, &size), 0);
	assert_true(digest_equal(&d, &found) && size == 5);
	assert_int_equal(store_has_blob(&b->s, &d, 5), 1);
	assert_int_equal(store_has_blob(&b->s, &d, 4), 0);
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 1);
	const struct descriptor desc = {.media_type = "", .digest = d, .size = 5};
	assert_int_equal(store_read_document(&b->s, &desc, &text), 0);
	assert_string_equal(strbuf_str(&text), "hello");
}

static void test_wrong_blobs(void **state)
{
	struct box *b = *state;
	struct blob_writer w;
	struct digest d;
	char partial[200];

	digest_text_of("hello", &d);
	snprintf(partial, sizeof(partial), "partial/sha256-%s", digest_hex(&d));
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 0);
	assert_int_equal(blob_write(&w, "hullo", 5), 0);
	assert_int_equal(blob_finish(&w, NULL, NULL), -EBADMSG);
	assert_false(is_there(b, partial));
	assert_int_equal(store_has_blob(&b->s, &d, 5), 0);
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 0);
	assert_int_equal(blob_write(&w, "hell", 4), 0);
	assert_int_equal(blob_finish(&w, NULL, NULL), -EBADMSG);
	assert_non_null(strstr(err_msg(), "ends after 4 bytes"));
	assert_true(is_there(b, partial));
}

/*
 * Checks that the bytes which a killed writer has written to a blob stay, and that the next writer
 * of this blob continues behind them.
 */
static void test_resume(void **state)
{
	struct box *b = *state;
	struct blob_writer w, other;
	struct digest d;

	digest_text_of("hello", &d);
	pid_t child = fork();
	if (child == 0) {
		if (blob_begin(&b->s, &d, 5, &w) < 0 || blob_write(&w, "hel", 3) < 0)
			_exit(1);
		_exit(0); /* the writer ends without closing anything, as after kill -9 */
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 0);
	assert_true(w.written == 3);
	assert_int_equal(blob_begin(&b->s, &d, 5, &other), -EBUSY);
	assert_int_equal(blob_write(&w, "lo", 2), 0);
	assert_int_equal(blob_finish(&w, NULL, NULL), 0);
	/*
	 * Checks blob_restart(), which a download needs if the server sends a blob from its
	 * beginning although the writer could continue.
	 */
	digest_text_of("world", &d);
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 0);
	assert_int_equal(blob_write(&w, "wo", 2), 0);
	blob_close(&w);
	assert_int_equal(blob_begin(&b->s, &d, 5, &w), 0);
	assert_true(w.written == 2);
	assert_int_equal(blob_restart(&w), 0);
	assert_int_equal(blob_write(&w, "world", 5), 0);
	assert_int_equal(blob_finish(&w, NULL, NULL), 0);
}

static void add_text(struct box *b, const char *text, struct descriptor *d)
{
	assert_int_equal(store_add_blob(&b->s, text, strlen(text), d), 0);
}

static void test_tags(void **state)
{
	struct box *b = *state;
	_cleanup_arena_ struct arena a = {0};
	struct descriptor one = {.media_type = "a/b"}, two = {.media_type = "a/b"}, found;
	struct document tags;
	const char *name;

	add_text(b, "one", &one);
	add_text(b, "two", &two);
	assert_int_equal(store_tag(&b->s, "x:1", &one), 0);
	assert_int_equal(store_tag(&b->s, "y:1", &one), 0);
	assert_int_equal(store_tag(&b->s, "x:1", &two), 0);
	assert_int_equal(store_tag(&b->s, "", &two), -EINVAL);
	assert_int_equal(store_tag(&b->s, "a b", &two), -EINVAL);
	assert_int_equal(store_tags(&b->s, &a, &tags), 0);
	assert_int_equal(tags.nmanifests, 2);
	assert_int_equal(image_find(&b->s, &a, "x:1", &name, &found), 0);
	assert_true(digest_equal(&found.digest, &two.digest));
	assert_int_equal(store_untag(&b->s, "x:1"), 0);
	assert_int_equal(store_untag(&b->s, "x:1"), -ENOENT);
	assert_int_equal(image_find(&b->s, &a, "x:1", &name, &found), -ENOENT);
	assert_int_equal(image_find(&b->s, &a, "y:1", &name, &found), 0);
}

static void add_image(struct box *b, const char *name, struct descriptor *layer)
{
	struct descriptor config = {0}, manifest = {.media_type = MEDIA_OCI_MANIFEST};
	_cleanup_strbuf_ struct strbuf text = {0};

	add_text(b, name, layer);
	add_text(b, "{}", &config);
	assert_int_equal(strbuf_addf(&text,
				 "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":2},"
				 "\"layers\":[{\"digest\":\"%s\",\"size\":%zu}]}",
				 config.digest.text, layer->digest.text, strlen(name)),
		0);
	assert_int_equal(store_add_blob(&b->s, strbuf_str(&text), text.len, &manifest), 0);
	assert_int_equal(store_tag(&b->s, name, &manifest), 0);
}

static void test_gc(void **state)
{
	struct box *b = *state;
	struct descriptor stray = {0}, one, two;
	struct store_freed freed;
	struct store other;

	add_image(b, "one", &one);
	add_image(b, "two", &two);
	add_text(b, "stray", &stray);
	assert_int_equal(store_untag(&b->s, "two"), 0);
	/*
	 * Blobs that no tag refers to must stay while another process has the store open, because
	 * this process may be about to tag them.
	 */
	assert_int_equal(store_open(&other, b->path, STORE_SYNC), 0);
	assert_int_equal(store_gc(&b->s, &freed), -EBUSY);
	assert_int_equal(store_has_blob(&b->s, &stray.digest, stray.size), 1);
	store_close(&other);
	assert_int_equal(store_gc(&b->s, &freed), 0);
	assert_true(freed.blobs == 3);
	assert_int_equal(store_has_blob(&b->s, &stray.digest, stray.size), 0);
	assert_int_equal(store_has_blob(&b->s, &two.digest, two.size), 0);
	assert_int_equal(store_has_blob(&b->s, &one.digest, one.size), 1);
}

/*
 * Checks that garbage collection removes nothing if a manifest is damaged, because it cannot know
 * to which blobs the manifest refers.
 */
static void test_gc_stops_at_damage(void **state)
{
	struct box *b = *state;
	struct descriptor one, stray = {0}, tag;
	_cleanup_arena_ struct arena a = {0};
	struct store_freed freed;
	const char *name;
	char command[300];

	add_image(b, "one", &one);
	add_text(b, "stray", &stray);
	assert_int_equal(image_find(&b->s, &a, "one", &name, &tag), 0);
	snprintf(command, sizeof(command), "truncate -s 3 %s/images/blobs/sha256/%s", b->path,
		digest_hex(&tag.digest));
	assert_int_equal(system(command), 0);
	assert_true(store_gc(&b->s, &freed) < 0);
	assert_non_null(strstr(err_msg(), "nothing was removed"));
	assert_int_equal(store_has_blob(&b->s, &one.digest, one.size), 1);
	assert_int_equal(store_has_blob(&b->s, &stray.digest, stray.size), 1);
}

/* Checks that no tag is lost if twenty processes set one tag each at the same time. */
static void test_concurrent_tags(void **state)
{
	struct box *b = *state;
	_cleanup_arena_ struct arena a = {0};
	struct descriptor d = {.media_type = "a/b"};
	struct document tags;
	char name[16];

	add_text(b, "one", &d);
	for (int i = 0; i < 20; i++) {
		if (fork() != 0)
			continue;
		struct store s;
		snprintf(name, sizeof(name), "t:%d", i);
		_exit(store_open(&s, b->path, STORE_NO_SYNC) < 0 || store_tag(&s, name, &d) < 0);
	}
	for (int i = 0; i < 20; i++) {
		int status;
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(store_tags(&b->s, &a, &tags), 0);
	assert_int_equal(tags.nmanifests, 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_box, drop_box)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blob),
		TEST(test_wrong_blobs),
		TEST(test_resume),
		TEST(test_tags),
		TEST(test_gc),
		TEST(test_gc_stops_at_damage),
		TEST(test_concurrent_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
