/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image df`. */
#include "images/oci/usage.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/rootless.h"
#include "image/image.h"

static const char *const names[USAGE_KINDS] = {
	[USAGE_BLOBS] = "blobs",
	[USAGE_PARTIAL] = "partial",
	[USAGE_LAYERS] = "layers",
	[USAGE_DISKS] = "disks",
	[USAGE_CONTAINERS] = "containers",
	[USAGE_VOLUMES] = "volumes",
};

static int print_json(const struct usage *u)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	for (size_t i = 0; i < USAGE_KINDS; i++) {
		json_out_object(&o, names[i]);
		json_out_u64(&o, "count", u[i].count);
		json_out_u64(&o, "bytes", u[i].bytes);
		json_out_end_object(&o);
	}
	json_out_end_object(&o);
	return program_print_json(&o);
}

static int print_table(const struct usage *u)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	uint64_t all = 0;
	char size[24];
	int r = strbuf_addf(&out, "%-12s %8s %10s\n", "WHAT", "COUNT", "SIZE");

	for (size_t i = 0; i < USAGE_KINDS && r >= 0; i++) {
		all += u[i].bytes;
		image_size_text(u[i].bytes, size, sizeof(size));
		r = strbuf_addf(&out, "%-12s %8" PRIu64 " %10s\n", names[i], u[i].count, size);
	}
	image_size_text(all, size, sizeof(size));
	if (r >= 0)
		r = strbuf_addf(&out, "%-12s %8s %10s\n", "all", "", size);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

int image_cmd_df(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	bool json = false;
	const struct option_def defs[] = {
		{"json", 0, OPTION_FLAG, &json, NULL, "print it in JSON, in bytes"}, {0}};
	struct image_arguments args = {.max = 0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct usage usage[USAGE_KINDS];

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	if (r < 0)
		return r;
	image_become_root();
	r = store_usage(&s, usage);
	if (r < 0)
		return r;
	return json ? print_json(usage) : print_table(usage);
}
