/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes spec_parse(): the input is parsed as a config.json, as a process (of `exec --process`),
 * and as resources (of `update`).
 */
#include <stdlib.h>

#include "base/log.h"
#include "spec/parse.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * The log is switched off, because warnings about unknown capabilities would hide the fuzzer's own
 * lines.
 */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return log_open("/dev/null", "text", LOG_WARN);
}

/*
 * Checks that a list of strings has a NULL after its n strings, and that every byte of the strings
 * is readable.
 */
static void check(struct spec_strings s)
{
	size_t n = 0;

	for (; s.v[n]; n++)
		if (strlen(s.v[n]) > SPEC_MAX_SIZE)
			abort();
	if (n != s.n)
		abort();
}

static void part(const uint8_t *data, size_t size, const struct object_type *t)
{
	_cleanup_arena_ struct arena a = {0};
	struct parser p = {.arena = &a, .what = "fuzz"};
	void *object = arena_alloc(&a, t->size);
	struct json *root;

	if (object && json_parse(&a, (const char *)data, size, "fuzz", &root) >= 0 &&
		parse_object(&p, root, t, object) < 0 && !*err_msg())
		abort(); /* every error must have a message */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s;

	err_clear();
	int r = spec_parse(&a, (const char *)data, size, "fuzz", &s);
	if (r < 0 && !*err_msg())
		abort();
	if (r >= 0) {
		check(s->masked_paths);
		check(s->readonly_paths);
		for (size_t i = 0; i < s->nmounts; i++) {
			check(s->mounts[i].data);
			if (s->mounts[i].destination[0] != '/')
				abort();
		}
	}
	if (r >= 0 && s->process) {
		check(s->process->args);
		check(s->process->env);
	}
	err_clear();
	part(data, size, &spec_process_type);
	err_clear();
	part(data, size, &spec_resources_type);
	return 0;
}
