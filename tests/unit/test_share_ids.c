/* SPDX-License-Identifier: Apache-2.0 */
/* Tests which ids of the host the file server gets for a container's uidMappings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/str.h"
#include "engine/share_ids.h"

static void check(const struct spec_id_map *v, size_t n, const char *want)
{
	const struct spec_id_maps maps = {.v = v, .n = n};
	_cleanup_strbuf_ struct strbuf text = {0};

	assert_int_equal(share_own_ids(&maps, &text), 0);
	assert_string_equal(strbuf_str(&text), want);
}

#define CHECK_MAP(want, ...) \
	check((const struct spec_id_map[]){__VA_ARGS__}, \
		sizeof((const struct spec_id_map[]){__VA_ARGS__}) / sizeof(struct spec_id_map), \
		want)

static void each_id_is_itself(void **state)
{
	CHECK_MAP("100000 100000 65536\n", {0, 100000, 65536});
	CHECK_MAP("0 0 1\n100000 100000 10\n", {0, 100000, 10}, {10, 0, 1});
	CHECK_MAP("1000 1000 15\n", {0, 1005, 10}, {10, 1000, 10});
	/*
	 * The map of `podman --userns=keep-id`. Its neighbouring ranges must stay apart, because a
	 * range may not span two ranges of podman's own user namespace.
	 */
	CHECK_MAP("0 0 1\n1 1 1000\n1001 1001 64536\n", {0, 1, 1000}, {1000, 0, 1},
		{1001, 1001, 64536});
	CHECK_MAP("0 0 4294967295\n", {0, 0, 4294967295});
	CHECK_MAP("4294967290 4294967290 5\n", {0, 4294967290, 5});
}

/* Checks a long map: the kernel accepts 340 ranges, but only if the text is shorter than a page. */
static void a_long_map_fits(void **state)
{
	struct spec_id_map v[340];
	const struct spec_id_maps maps = {.v = v, .n = ARRAY_SIZE(v)};
	_cleanup_strbuf_ struct strbuf text = {0};
	unsigned long long at = 0, same, size, covered = 0;
	int len;

	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		v[i] = (struct spec_id_map){
			.container_id = i, .host_id = 4000000000 + i * (i + 1), .size = 1};
	assert_int_equal(share_own_ids(&maps, &text), 0);
	assert_true(text.len <= SHARE_MAP_MAX);
	const char *p = strbuf_str(&text);
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++) {
		while (v[i].host_id >= at + covered) {
			assert_int_equal(
				sscanf(p, "%llu %llu %llu\n%n", &at, &same, &size, &len), 3);
			assert_true(at == same);
			covered = size;
			p += len;
		}
		assert_true(v[i].host_id >= at);
	}
	/*
	 * If there are too many ranges, caisson joins those with the smallest gaps between them, so
	 * the largest gaps must still be there.
	 */
	assert_true(at == v[ARRAY_SIZE(v) - 1].host_id && covered == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_id_is_itself),
		cmocka_unit_test(a_long_map_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
