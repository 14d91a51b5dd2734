/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the parsers of modules.dep and modules.builtin. The first line "%%" of the input separates
 * the text of modules.dep from the text of modules.builtin. The fuzzer then resolves every module
 * that was found. Inputs are a few KB long (-max_len), so that a run is quick.
 */
#include <stdlib.h>

#include "images/guest/modules.h"

#define MAX_RESOLVED 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Checks the list of modules to load: it must have dependencies before the modules that need them,
 * every module only once, and no module that is built into the kernel.
 */
static void check(const struct module_list *list, const struct module *wanted)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct module *m = list->v[i];

		if (m->builtin || m->path[0] == '/' || strstr(m->path, "/../"))
			abort();
		for (size_t j = 0; j < i; j++)
			if (list->v[j] == m)
				abort();
	}
	if (!wanted->builtin && (list->n == 0 || list->v[list->n - 1] != wanted))
		abort();
}

/*
 * Resolves the modules of the text, which is a modules.dep or a modules.builtin: each line begins
 * with the path of a module.
 */
static void resolve_all(const struct modules *m, const struct strbuf *text)
{
	const char *line = strbuf_str(text), *end = line + text->len;

	for (int n = 0; line < end && n < MAX_RESOLVED; n++) {
		_cleanup_arena_ struct arena a = {0};
		size_t len = strcspn(line, "\n");
		_cleanup_free_ char *name = strndup(line, strcspn(line, ":\n"));
		const struct module *found;
		struct module_list list;

		if (!name)
			return;
		const char *wanted = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
		if (strstr(wanted, ".ko"))
			*strstr(wanted, ".ko") = '\0';
		found = modules_find(m, wanted);
		err_clear();
		if (modules_resolve(&a, m, &wanted, 1, &list) < 0) {
			if (!*err_msg())
				abort(); /* every error must have a message */
		} else {
			if (!found)
				abort();
			check(&list, found);
		}
		line += len + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char separator[] = "\n%%\n";
	_cleanup_strbuf_ struct strbuf dep = {0}, builtin = {0};
	_cleanup_arena_ struct arena a = {0};
	const uint8_t *cut = memmem(data, size, separator, 4);
	const struct modules *m;
	size_t len = cut ? (size_t)(cut - data) : size;

	if (strbuf_add(&dep, data, len) < 0 ||
		(cut && strbuf_add(&builtin, cut + 4, size - len - 4) < 0))
		return 0;
	err_clear();
	if (modules_parse(&a, &dep, &builtin, "fuzz", &m) < 0) {
		if (!*err_msg())
			abort();
		return 0;
	}
	resolve_all(m, &dep);
	resolve_all(m, &builtin);
	return 0;
}
