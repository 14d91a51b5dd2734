/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests plans as bytes. Each golden configuration's plan is written and read, and must then print
 * as before and write the same bytes again. Then every byte of an image is changed in turn: reading
 * it must fail, or give a plan that can be printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fd.h"
#include "plan/image.h"

#define INIT_STEPS (1U << PLACE_INIT)
#define GUEST_STEPS (1U << PLACE_INIT | 1U << PLACE_GUEST)

static const struct spec *load(struct arena *a, const char *name)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct spec *s = NULL;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.json", GOLDEN_DIR, name);
	if (fd_read_file(AT_FDCWD, path, &text, SPEC_MAX_SIZE) < 0 ||
		spec_parse(a, strbuf_str(&text), text.len, name, &s) < 0)
		fail_msg("%s", err_msg());
	return s;
}

static struct plan build(struct arena *a, const char *name, enum plan_isolation isolation,
	bool rootless, unsigned places)
{
	const struct plan_env env = {.isolation = isolation,
		.bundle = "/bundle",
		.keyring = "_ses.x",
		.cgroup = true,
		/*
		 * In an ordinary user's container the container's first process mounts the layers
		 * of the image, so the plan needs the layers' paths.
		 */
		.layers = rootless ? "/store/layers" : NULL,
		.lower = rootless ? "top:base" : NULL,
		.rootless = rootless};
	struct plan all = {0}, chosen = {0};

	if (plan_build(a, load(a, name), &env, &all) < 0 ||
		plan_select(a, &all, places, 0, &chosen) < 0)
		fail_msg("%s: %s", name, err_msg());
	return chosen;
}

/*
 * Returns a copy of the bytes in memory that is aligned and writable, as memory from mmap(2) would
 * be.
 */
static void *copy_of(const struct strbuf *b)
{
	void *bytes = aligned_alloc(8, (b->len + 7) & ~(size_t)7);

	assert_non_null(bytes);
	memcpy(bytes, b->s, b->len);
	return bytes;
}

static void assert_survives(const struct plan *p)
{
	_cleanup_strbuf_ struct strbuf image = {0}, again = {0}, before = {0}, after = {0};
	void *read;

	if (pack_write(&plan_type, p, &image) < 0)
		fail_msg("%s", err_msg());
	_cleanup_free_ void *bytes = copy_of(&image);
	if (pack_read(&plan_type, bytes, image.len, &read) < 0)
		fail_msg("%s", err_msg());
	const struct plan *copy = read;
	assert_int_equal(plan_print(p, &before), 0);
	assert_int_equal(plan_print(copy, &after), 0);
	assert_string_equal(strbuf_str(&before), strbuf_str(&after));
	assert_int_equal(pack_write(&plan_type, copy, &again), 0);
	assert_int_equal(again.len, image.len);
	assert_memory_equal(again.s, image.s, image.len);
	assert_int_equal(copy->nslots, p->nslots);
	assert_int_equal(copy->exec, p->exec);
}

static void test_plans_survive(void **state)
{
	static const struct {
		const char *config;
		enum plan_isolation isolation;
		bool rootless;
		unsigned places;
	} cases[] = {
		{"default", PLAN_NS, false, INIT_STEPS},
		{"full", PLAN_NS, false, INIT_STEPS},
		{"joined", PLAN_NS, false, INIT_STEPS},
		{"rootless", PLAN_NS, true, INIT_STEPS},
		{"empty", PLAN_NS, false, INIT_STEPS},
		{"default", PLAN_VM, false, GUEST_STEPS},
		{"vm", PLAN_VM, false, GUEST_STEPS},
		{"vm-privileged", PLAN_VM, false, GUEST_STEPS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = {0};
		struct plan p = build(&a, cases[i].config, cases[i].isolation, cases[i].rootless,
			cases[i].places);
		assert_survives(&p);
	}
}

/*
 * Checks that an object to which several steps point is written once. Ten steps point to the
 * process object, but the image has it twice, because the step CONSOLE has a copy of its own, with
 * the size of the caller's terminal.
 */
static void test_shared_objects_are_written_once(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf image = {0};
	struct plan p = build(&a, "default", PLAN_NS, false, INIT_STEPS);
	size_t found = 0;
	void *read;

	assert_int_equal(pack_write(&plan_type, &p, &image), 0);
	for (size_t i = 0; i + 6 < image.len; i++)
		found += memcmp(image.s + i, "TERM=x", 6) == 0;
	assert_int_equal(found, 2);
	_cleanup_free_ void *bytes = copy_of(&image);
	assert_int_equal(pack_read(&plan_type, bytes, image.len, &read), 0);
	const struct plan *copy = read;
	for (size_t i = 0; i < copy->n; i++)
		if (copy->steps[i].kind == STEP_EXEC)
			assert_ptr_equal(copy->steps[i].process, copy->process);
}

static void test_the_filters_rules_stay(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf image = {0};
	struct plan p = build(&a, "full", PLAN_NS, false, INIT_STEPS);
	bool seen = false;
	void *read;

	assert_int_equal(pack_write(&plan_type, &p, &image), 0);
	_cleanup_free_ void *bytes = copy_of(&image);
	assert_int_equal(pack_read(&plan_type, bytes, image.len, &read), 0);
	const struct plan *copy = read;
	for (size_t i = 0; i < copy->n; i++)
		if (copy->steps[i].kind == STEP_SECCOMP) {
			assert_null(copy->steps[i].seccomp.seccomp->rules);
			assert_int_equal(copy->steps[i].seccomp.seccomp->nrules, 0);
			seen = true;
		}
	assert_true(seen);
}

static void test_host_steps_are_refused(void **state)
{
	static const struct step host = {.kind = STEP_INTEL_RDT, .slot = -1};
	const struct plan p = {.steps = &host, .n = 1};
	_cleanup_strbuf_ struct strbuf image = {0};
	void *read;

	assert_int_equal(pack_write(&plan_type, &p, &image), 0);
	_cleanup_free_ void *bytes = copy_of(&image);
	assert_int_equal(pack_read(&plan_type, bytes, image.len, &read), -EPROTO);
}

static void test_another_build_is_refused(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf image = {0};
	struct plan p = build(&a, "default", PLAN_NS, false, INIT_STEPS);
	void *read;

	assert_int_equal(pack_write(&plan_type, &p, &image), 0);
	image.s[8] ^= 1;
	_cleanup_free_ void *bytes = copy_of(&image);
	assert_int_equal(pack_read(&plan_type, bytes, image.len, &read), -EPROTO);
	assert_non_null(strstr(err_msg(), "another build"));
}

/*
 * Changes one byte of a plan's image at a time to other values. If the reader accepts the changed
 * image, it must be safe to use.
 */
static void test_changed_bytes(void **state)
{
	static const unsigned char values[] = {0x01, 0x80, 0xff};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf image = {0};
	struct plan p = build(&a, "default", PLAN_NS, false, INIT_STEPS);
	size_t refused = 0;
	void *read;

	assert_int_equal(pack_write(&plan_type, &p, &image), 0);
	for (size_t i = 0; i < image.len; i++) {
		_cleanup_free_ char *bytes = copy_of(&image);
		_cleanup_strbuf_ struct strbuf text = {0};
		bytes[i] ^= (char)values[i % ARRAY_SIZE(values)];
		if (pack_read(&plan_type, bytes, image.len, &read) < 0)
			refused++;
		else
			assert_int_equal(plan_print(read, &text), 0);
	}
	assert_true(refused > image.len / 8);
}

static void test_every_length(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf image = {0};
	struct plan p = build(&a, "empty", PLAN_NS, false, INIT_STEPS);
	void *read;

	assert_int_equal(pack_write(&plan_type, &p, &image), 0);
	for (size_t len = 0; len < image.len; len++) {
		_cleanup_free_ char *bytes = copy_of(&image);
		uint64_t told = len;
		if (len >= 24)
			memcpy(bytes + 16, &told, sizeof(told));
		assert_int_equal(pack_read(&plan_type, bytes, len, &read), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plans_survive),
		cmocka_unit_test(test_shared_objects_are_written_once),
		cmocka_unit_test(test_the_filters_rules_stay),
		cmocka_unit_test(test_host_steps_are_refused),
		cmocka_unit_test(test_another_build_is_refused),
		cmocka_unit_test(test_changed_bytes),
		cmocka_unit_test(test_every_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
