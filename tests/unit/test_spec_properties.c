/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests every property of the specification. spec_full.json has all of them with good values. The
 * test replaces each property by a value of the wrong type, a value out of range, an empty string
 * or null, or removes it, and checks the error. spec_properties.txt, which is made from the
 * specification's schema, is the list of all properties.
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
#include "unit/spec_properties.h"

/*
 * Properties of the schema that belong to other platforms. The parser ignores them like unknown
 * properties.
 */
static const char *const elsewhere[] = {
	"freebsd", "solaris", "windows", "zos", "process.commandLine", "process.user.username"};

/*
 * Values of every type, for tests of wrong types. A test leaves out the values that have the
 * property's own type.
 */
static const struct {
	const char *types; /* letters of the types that accept the value */
	const char *json;
} samples[] = {
	{"b", "true"}, {"i", "7"}, {"", "1.5"}, {"", "1e3"}, {"s", "\"7\""}, {"SNA", "[]"},
	{"N", "[7]"}, {"S", "[\"x\"]"}, {"A", "[{}]"}, {"", "[null]"}, {"", "[[]]"}, {"OMP", "{}"},
	{"O", "{\"k\": 7}"}, /* the parser ignores the unknown member "k" of an object */
};

struct fixture {
	struct arena arena;
	struct json *root;
	const struct property *property;
	struct json *node; /* node of the property in spec_full.json */
	char path[256];    /* path of the property, as errors name it */
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
static void locate(struct fixture *f, const char *path)
{
	size_t used = 0;

	f->node = f->root;
	while (*path) {
		if (str_starts(path, "[]")) {
			f->node = f->node->first;
			used += (size_t)snprintf(f->path + used, sizeof(f->path) - used, "[0]");
			path += 2;
		} else if (str_starts(path, "{}")) {
			f->node = f->node->first;
			used += (size_t)snprintf(
				f->path + used, sizeof(f->path) - used, "[\"%s\"]", f->node->key);
			path += 2;
		} else {
			path += *path == '.';
			size_t len = strcspn(path, ".[{");
			f->node = find(f->node, path, len);
			used += (size_t)snprintf(f->path + used, sizeof(f->path) - used, "%s%.*s",
				used ? "." : "", (int)len, path);
			path += len;
		}
		assert_non_null(f->node);
	}
}

/* Parses spec_full.json as the test has changed it so far. */
static int parse_now(const struct fixture *f)
{
	_cleanup_json_out_ struct json_out out;
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s;
	const char *text;
	size_t len;

	assert_int_equal(json_out_init(&out, false), 0);
	json_out_node(&out, NULL, f->root);
	assert_int_equal(json_out_text(&out, &text, &len), 0);
	err_clear();
	return spec_parse(&a, text, len, "config.json", &s);
}

/*
 * Parses spec_full.json with the value `json` in the property's place, and then puts the old value
 * back.
 */
static int parse_with(const struct fixture *f, const char *json)
{
	_cleanup_arena_ struct arena a = {0};
	struct json saved = *f->node, *value;

	assert_int_equal(json_parse(&a, json, strlen(json), "test", &value), 0);
	*f->node = *value;
	f->node->key = saved.key;
	f->node->next = saved.next;
	int r = parse_now(f);
	*f->node = saved;
	return r;
}

static void expect_error(const struct fixture *f, int r, const char *json)
{
	const char *at = strstr(err_msg(), f->path);

	if (r != -EINVAL)
		fail_msg("%s = %s: expected -EINVAL, got %d %s", f->path, json, r, err_msg());
	/*
	 * An error must name the property. Only the error of a check that compares two properties
	 * may name the other property, or the parent of both, instead.
	 */
	if (!at && !str_starts(err_msg(), "config.json: "))
		fail_msg("%s = %s: no path in: %s", f->path, json, err_msg());
	if (!strstr(err_msg(), "expected") && !strstr(err_msg(), "not allowed"))
		fail_msg("%s = %s: not told what was expected: %s", f->path, json, err_msg());
}

static void check_types(const struct fixture *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const char *json = samples[i].json;
		if (strchr(samples[i].types, f->property->type))
			continue;
		expect_error(f, parse_with(f, json), json);
		/*
		 * The error about a value of the wrong type must name this property or an element
		 * of this property.
		 */
		if (!strstr(err_msg(), f->path) || !strstr(err_msg(), ", found "))
			fail_msg("%s = %s: unclear: %s", f->path, json, err_msg());
	}
}

static void check_absent(const struct fixture *f, const char *how, int r)
{
	bool required = f->property->flags & REQ;

	if (required) {
		expect_error(f, r, how);
		if (!strstr(err_msg(), f->path) || !strstr(err_msg(), "found nothing"))
			fail_msg("%s %s: unclear: %s", f->path, how, err_msg());
	} else if (r < 0 && !(f->property->flags & CROSS)) {
		fail_msg("%s %s: %s", f->path, how, err_msg());
	}
}

static void check_empty_string(const struct fixture *f)
{
	int r = parse_with(f, "\"\"");

	if ((f->property->flags & REQ) && !(f->property->flags & EMPTY))
		expect_error(f, r, "\"\"");
	else if (r < 0 && !(f->property->flags & CROSS))
		fail_msg("%s = \"\": %s", f->path, err_msg());
}

static void test_property(void **state)
{
	struct fixture *f = *state;

	locate(f, f->property->path);
	if (parse_now(f) < 0)
		fail_msg("spec_full.json: %s", err_msg());
	check_types(f);
	check_absent(f, "null", parse_with(f, "null"));
	const char *key = f->node->key;
	f->node->key = "com.example.unknown";
	check_absent(f, "missing", parse_now(f));
	f->node->key = key;
	if (f->property->type == 's')
		check_empty_string(f);
	for (size_t i = 0; i < MAX_BAD && f->property->bad[i]; i++)
		expect_error(f, parse_with(f, f->property->bad[i]), f->property->bad[i]);
}

static void read_file(const char *name, struct strbuf *text)
{
	char path[4096];

	snprintf(path, sizeof(path), UNIT_DIR "/%s", name);
	if (fd_read_file(AT_FDCWD, path, text, 1 << 20) < 0)
		fail_msg("%s", err_msg());
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	_cleanup_strbuf_ struct strbuf text = {0};

	assert_non_null(f);
	read_file("spec_full.json", &text);
	f->property = *state;
	assert_int_equal(json_parse(&f->arena, text.s, text.len, "spec_full.json", &f->root), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	arena_release(&f->arena);
	free(f);
	return 0;
}

static bool known_to(const struct object_type *t, const char *path)
{
	size_t len = strcspn(path, ".[{");

	for (const struct field *f = t->fields; f->name; f++) {
		if (strncmp(f->name, path, len) || f->name[len])
			continue;
		path += len;
		path += strspn(path, "[]{}.");
		return !*path || (f->type && known_to(f->type, path));
	}
	return false;
}

static bool is_elsewhere(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++) {
		size_t len = strlen(elsewhere[i]);
		if (str_starts(path, elsewhere[i]) && (!path[len] || strchr(".[", path[len])))
			return true;
	}
	return false;
}

/* Checks that each property of the schema is in a parser's table and in this test's table. */
static void test_schema(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	size_t ours = 0, lines = 0;
	char *rest = NULL;

	read_file("spec_properties.txt", &text);
	for (char *p = strtok_r(text.s, "\n", &rest); p; p = strtok_r(NULL, "\n", &rest)) {
		bool tested = false;
		lines++;
		if (is_elsewhere(p))
			continue;
		if (!known_to(&spec_config_type, p))
			fail_msg("no table in runtime/spec knows %s", p);
		for (size_t i = 0; i < spec_property_count; i++)
			tested |= streq(spec_properties[i].path, p);
		if (!tested)
			fail_msg("no row of this test has %s", p);
		ours++;
	}
	assert_true(lines > 300);
	/* Every row of this test's table is a property of the schema. */
	assert_int_equal(ours, spec_property_count);
}

int main(void)
{
	struct CMUnitTest *tests = calloc(spec_property_count + 1, sizeof(*tests));

	if (!tests)
		return 1;
	tests[0] = (struct CMUnitTest)cmocka_unit_test(test_schema);
	for (size_t i = 0; i < spec_property_count; i++)
		tests[i + 1] = (struct CMUnitTest){.name = spec_properties[i].path,
			.test_func = test_property,
			.setup_func = set_up,
			.teardown_func = tear_down,
			.initial_state = (void *)&spec_properties[i]};
	int failed = _cmocka_run_group_tests("tests", tests, spec_property_count + 1, NULL, NULL);
	free(tests);
	return failed;
}
