/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the readers of a list of CNI plug-ins and of a plug-in's answer. The configuration that
 * caisson writes for a plug-in of an accepted list must be JSON again, and must have each route
 * only once.
 */
#include <stdlib.h>

#include "fuzz/input.h"
#include "network/plugins.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_routes(const struct json *conf)
{
	const struct json *routes = json_get(json_get(conf, "ipam"), "routes");

	if (!routes || routes->type != JSON_ARRAY)
		return;
	for (const struct json *a = routes->first; a; a = a->next)
		for (const struct json *b = a->next; b; b = b->next)
			if (json_get_str(a, "dst") && json_get_str(b, "dst") &&
				streq(json_get_str(a, "dst"), json_get_str(b, "dst")))
				abort();
}

static void check_list(struct arena *a, const struct json *list)
{
	if (plugins_check_list(list, "fuzz") < 0)
		return;
	for (const struct json *p = json_get(list, "plugins")->first; p; p = p->next) {
		const struct plugins_call call = {list, p, list, list};
		_cleanup_json_out_ struct json_out o = {0};
		const char *text;
		struct json *conf;
		size_t len;

		if (json_out_init(&o, false) < 0 || plugins_write_conf(&o, &call) < 0 ||
			json_out_text(&o, &text, &len) < 0)
			/*
			 * the call fails, for example, if the input has a number that JSON cannot
			 * represent
			 */
			continue;
		if (json_parse(a, text, len, "again", &conf) < 0)
			continue;
		if (strchr(json_get_str(conf, "type"), '/') || json_get(conf, "capabilities"))
			abort();
		check_routes(conf);
	}
}

static void check_answer(const struct json *answer)
{
	struct plugins_result result = {0};

	if (plugins_read_result(answer, &result) < 0)
		return;
	for (size_t i = 0; i < result.a.address_count; i++)
		if (!result.a.addresses[i].family)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *j;

	if (json_parse(&a, (const char *)data, size, "fuzz", &j) < 0)
		return 0;
	check_list(&a, j);
	check_answer(j);
	return 0;
}
