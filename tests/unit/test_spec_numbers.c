/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the value of each number of config.json if it is missing. The parsers of runc (Go) and crun
 * (libocispec) give every missing number the value 0, unless its type has a value for "absent" (a
 * pointer in Go, a flag in libocispec). Configurations rely on that, so caisson does the same even
 * if the specification calls the number required. The table must have every number that the
 * parser's own tables have, and the test compares the document without the number with the document
 * that has 0.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "spec/parse.h"

enum missing {
	ZERO, /* a missing number counts as 0 */
	/* a missing number counts as absent, which differs from 0 or equals a special value */
	ABSENT,
	REFUSED, /* a document without the number is refused, because 0 is no valid value */
};

#define RESOURCES "linux.resources."
#define BLOCK RESOURCES "blockIO."
#define ID_MAP(name) \
	{name "[].containerID", ZERO, NULL}, {name "[].hostID", ZERO, NULL}, \
	{ \
		name "[].size", REFUSED, "the kernel takes no empty range, so peers fail later" \
	}
#define THROTTLE(name) \
	{BLOCK name "[].major", ZERO, NULL}, {BLOCK name "[].minor", ZERO, NULL}, \
	{ \
		BLOCK name "[].rate", ZERO, "0 lifts the limit" \
	}
#define HOOK(name) \
	{ \
		"hooks." name "[].timeout", ABSENT, "no limit; config.md forbids 0" \
	}

static const struct number {
	const char *path;
	enum missing missing;
	const char *note;
} numbers[] = {
	ID_MAP("mounts[].uidMappings"),
	ID_MAP("mounts[].gidMappings"),
	HOOK("prestart"),
	HOOK("createRuntime"),
	HOOK("createContainer"),
	HOOK("startContainer"),
	HOOK("poststart"),
	HOOK("poststop"),
	{"process.consoleSize.height", ZERO, "not given: the caller's terminal decides"},
	{"process.consoleSize.width", ZERO, "not given: the caller's terminal decides"},
	{"process.user.uid", ZERO, NULL},
	{"process.user.gid", ZERO, NULL},
	{"process.user.umask", ABSENT, "0022; 0 is a umask"},
	{"process.user.additionalGids", ABSENT, "no groups; a group 0 would be one"},
	{"process.rlimits[].soft", ZERO, NULL},
	{"process.rlimits[].hard", ZERO, "then soft has to be 0 too"},
	{"process.oomScoreAdj", ABSENT, "the caller's stays"},
	{"process.scheduler.nice", ZERO, NULL},
	{"process.scheduler.priority", ZERO, NULL},
	{"process.scheduler.runtime", ZERO, NULL},
	{"process.scheduler.deadline", ZERO, NULL},
	{"process.scheduler.period", ZERO, NULL},
	{"process.ioPriority.priority", ZERO, "the class IDLE has none"},
	ID_MAP("linux.uidMappings"),
	ID_MAP("linux.gidMappings"),
	{"linux.timeOffsets.monotonic.secs", ZERO, NULL},
	{"linux.timeOffsets.monotonic.nanosecs", ZERO, NULL},
	{"linux.timeOffsets.boottime.secs", ZERO, NULL},
	{"linux.timeOffsets.boottime.nanosecs", ZERO, NULL},
	{"linux.devices[].major", ZERO, NULL},
	{"linux.devices[].minor", ZERO, "Go programs leave zeros out"},
	{"linux.devices[].fileMode", ABSENT, "0666; 0 is a mode"},
	{"linux.devices[].uid", ABSENT, "today the same as 0"},
	{"linux.devices[].gid", ABSENT, "today the same as 0"},
	{RESOURCES "devices[].major", ABSENT, "every number, as -1"},
	{RESOURCES "devices[].minor", ABSENT, "every number, as -1"},
	{RESOURCES "memory.limit", ABSENT, NULL},
	{RESOURCES "memory.reservation", ABSENT, NULL},
	{RESOURCES "memory.swap", ABSENT, NULL},
	{RESOURCES "memory.kernel", ABSENT, NULL},
	{RESOURCES "memory.kernelTCP", ABSENT, NULL},
	{RESOURCES "memory.swappiness", ABSENT, NULL},
	{RESOURCES "cpu.shares", ABSENT, NULL},
	{RESOURCES "cpu.quota", ABSENT, NULL},
	{RESOURCES "cpu.burst", ABSENT, NULL},
	{RESOURCES "cpu.period", ABSENT, NULL},
	{RESOURCES "cpu.realtimeRuntime", ABSENT, NULL},
	{RESOURCES "cpu.realtimePeriod", ABSENT, NULL},
	{RESOURCES "cpu.idle", ABSENT, NULL},
	{RESOURCES "pids.limit", ABSENT, "0 is a limit since 1.3"},
	{BLOCK "weight", ABSENT, NULL},
	{BLOCK "leafWeight", ABSENT, NULL},
	{BLOCK "weightDevice[].major", ZERO, NULL},
	{BLOCK "weightDevice[].minor", ZERO, NULL},
	{BLOCK "weightDevice[].weight", ABSENT, "one of the two weights has to be there"},
	{BLOCK "weightDevice[].leafWeight", ABSENT, NULL},
	THROTTLE("throttleReadBpsDevice"),
	THROTTLE("throttleWriteBpsDevice"),
	THROTTLE("throttleReadIOPSDevice"),
	THROTTLE("throttleWriteIOPSDevice"),
	{RESOURCES "hugepageLimits[].limit", ZERO, "no huge page of that size"},
	{RESOURCES "network.classID", ABSENT, NULL},
	{RESOURCES "network.priorities[].priority", ZERO, NULL},
	{RESOURCES "rdma{}.hcaHandles", ABSENT, NULL},
	{RESOURCES "rdma{}.hcaObjects", ABSENT, NULL},
	{"linux.seccomp.defaultErrnoRet", ABSENT, "EPERM; 0 is an answer"},
	{"linux.seccomp.syscalls[].errnoRet", ABSENT, "EPERM; 0 is an answer"},
	{"linux.seccomp.syscalls[].args[].index", ZERO, NULL},
	{"linux.seccomp.syscalls[].args[].value", ZERO, NULL},
	{"linux.seccomp.syscalls[].args[].valueTwo", ZERO, NULL},
	{"vm.hwConfig.vcpus", ABSENT, "as many as the CPU limit gives; 0 is refused"},
	{"vm.hwConfig.memory", ABSENT, "the default; 0 is refused"},
	{"vm.hwConfig.iomems[].firstGFN", ABSENT, "the same as firstMFN"},
	{"vm.hwConfig.iomems[].firstMFN", REFUSED, "no peer reads it"},
	{"vm.hwConfig.iomems[].nrMFNs", REFUSED, "no peer reads it"},
	{"vm.hwConfig.irqs", ABSENT, NULL},
};

struct fixture {
	struct arena arena;
	struct json *root;
	const struct spec *without, *with_zero;
};

static struct json *find(struct json *node, const char *name, size_t len)
{
	for (struct json *n = node->first; n; n = n->next)
		if (!strncmp(n->key, name, len) && !n->key[len])
			return n;
	fail_msg("spec_full.json has no %s", name);
	return NULL;
}

/*
 * Finds the JSON node of a path such as "a.b[].c{}.d": [] is the first element, {} the first value.
 */
static struct json *locate(struct json *node, const char *path)
{
	while (*path) {
		if (*path == '[' || *path == '{') {
			node = node->first;
			path += 2;
			continue;
		}
		path += *path == '.';
		size_t len = strcspn(path, ".[{");
		node = find(node, path, len);
		path += len;
	}
	return node;
}

static int parse_now(struct fixture *f, const struct spec **ret)
{
	_cleanup_json_out_ struct json_out out;
	const char *text;
	size_t len;

	assert_int_equal(json_out_init(&out, false), 0);
	json_out_node(&out, NULL, f->root);
	assert_int_equal(json_out_text(&out, &text, &len), 0);
	err_clear();
	return spec_parse(&f->arena, text, len, "config.json", ret);
}

static void compare(const struct object_type *t, const char *a, const char *b, const char *path);

static void compare_list(
	const struct object_type *t, const char *a, const char *b, const char *path)
{
	const char *va, *vb;
	size_t na, nb;

	memcpy(&va, a, sizeof(va));
	memcpy(&vb, b, sizeof(vb));
	memcpy(&na, a + sizeof(va), sizeof(na));
	memcpy(&nb, b + sizeof(vb), sizeof(nb));
	assert_int_equal(na, nb);
	for (size_t i = 0; i < na; i++)
		compare(t, va + i * t->size, vb + i * t->size, path);
}

/* Compares two numbers for which the parser has a structure of its own, such as ioPriority. */
static void compare_custom(const struct field *f, const char *a, const char *b)
{
	if (streq(f->name, "ioPriority")) {
		const struct opt_i64 *x = (const void *)a, *y = (const void *)b;
		assert_true(x->set == y->set && x->v == y->v);
	} else if (streq(f->name, "weightDevice")) {
		const struct cg_device_values *x = (const void *)a, *y = (const void *)b;
		assert_int_equal(x->n, y->n);
		for (size_t i = 0; i < x->n; i++)
			assert_memory_equal(&x->v[i], &y->v[i], sizeof(x->v[i]));
	}
}

static void compare(const struct object_type *t, const char *a, const char *b, const char *path)
{
	for (const struct field *f = t->fields; f->name; f++) {
		const char *x = a + f->offset, *y = b + f->offset;
		if (f->flags & FIELD_CHECK_ONLY)
			continue;
		if (f->kind == FIELD_INT && memcmp(x, y, f->size) != 0)
			fail_msg("%s missing: %s is not what it is with 0", path, f->name);
		if (f->kind == FIELD_OPT_INT) {
			const struct opt_u64 *ox = (const void *)x, *oy = (const void *)y;
			assert_true(ox->set == oy->set && ox->v == oy->v);
		}
		if (f->kind == FIELD_OBJECT)
			compare(f->type, x, y, path);
		if (f->kind == FIELD_OBJECT_PTR) {
			x = *(const char *const *)(const void *)x;
			y = *(const char *const *)(const void *)y;
			assert_true(!x == !y);
			if (x)
				compare(f->type, x, y, path);
		}
		if (f->kind == FIELD_ARRAY || f->kind == FIELD_MAP)
			compare_list(f->type, x, y, path);
		if (f->kind == FIELD_CUSTOM)
			compare_custom(f, x, y);
	}
}

static void check_number(struct fixture *f, const struct number *n)
{
	struct json *node = locate(f->root, n->path), zero = {.type = JSON_NUMBER, .text = "0"};
	struct json saved = *node;
	char why[ERR_MAX];

	node->key = "com.example.unknown";
	int r = parse_now(f, &f->without);
	snprintf(why, sizeof(why), "%s", err_msg());
	*node = saved;
	if (n->missing == REFUSED) {
		if (r != -EINVAL || !strstr(why, "found nothing"))
			fail_msg("%s missing: expected an error, got %d %s", n->path, r, why);
		return;
	}
	if (n->missing == ABSENT) {
		/*
		 * A document without the number may still be refused, but only by a check that
		 * compares the number with another one.
		 */
		if (r < 0 && !strstr(why, "expected"))
			fail_msg("%s missing: %s", n->path, why);
		return;
	}
	zero.key = node->key;
	zero.next = node->next;
	*node = zero;
	int with = parse_now(f, &f->with_zero);
	*node = saved;
	if (r != with || (r < 0 && !streq(why, err_msg())))
		fail_msg("%s missing: %d %s; with 0: %d %s", n->path, r, why, with, err_msg());
	if (r >= 0)
		compare(&spec_config_type, (const char *)f->without, (const char *)f->with_zero,
			n->path);
}

static void test_missing(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (fd_read_file(AT_FDCWD, UNIT_DIR "/spec_full.json", &text, SPEC_MAX_SIZE) < 0)
		fail_msg("%s", err_msg());
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct fixture f = {0};
		assert_int_equal(
			json_parse(&f.arena, strbuf_str(&text), text.len, "full", &f.root), 0);
		check_number(&f, &numbers[i]);
		arena_release(&f.arena);
	}
}

static void expect_row(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (streq(numbers[i].path, path))
			return;
	fail_msg("%s is a number, and the table says nothing of it", path);
}

static size_t walk(const struct object_type *t, const char *prefix)
{
	size_t n = 0;

	for (const struct field *f = t->fields; f->name; f++) {
		char path[256];
		bool array = f->kind == FIELD_ARRAY || streq(f->name, "weightDevice") ||
			     streq(f->name, "priorities") || streq(f->name, "namespaces");
		snprintf(path, sizeof(path), "%s%s%s%s", prefix, *prefix ? "." : "", f->name,
			array                  ? "[]"
			: f->kind == FIELD_MAP ? "{}"
					       : "");
		if (streq(path, "vm.hwconfig")) /* vm.hwconfig is another spelling of vm.hwConfig */
			continue;
		if (f->kind == FIELD_INT || f->kind == FIELD_OPT_INT || f->kind == FIELD_INTS) {
			expect_row(path);
			n++;
		} else if (f->type) {
			n += walk(f->type, path);
		}
	}
	return n;
}

/*
 * Checks that every number in the parser's tables has a row in the table of this test, and that
 * every row stands for such a number.
 */
static void test_table_is_whole(void **state)
{
	assert_int_equal(walk(&spec_config_type, ""), ARRAY_SIZE(numbers));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_table_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
