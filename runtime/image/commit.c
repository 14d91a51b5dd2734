/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image commit`. */
#include "images/oci/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/program.h"
#include "image/image.h"

static void warn(void *data, const char *text)
{
	log_warn("%s", text);
}

/*
 * Sets *ret to the time of creation of the new image: $SOURCE_DATE_EPOCH if that variable is set,
 * so that the same commit gives the same image at any time, or else the present time.
 */
static int choose_time(int64_t *ret)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	uint64_t seconds;

	*ret = (int64_t)time(NULL);
	if (!text)
		return 0;
	if (str_to_u64(text, &seconds) < 0 || seconds > INT32_MAX * UINT64_C(100))
		return err_set(
			EINVAL, "SOURCE_DATE_EPOCH=%.100s: expected seconds since 1970", text);
	*ret = (int64_t)seconds;
	return 0;
}

int image_cmd_commit(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct commit_options o = {.warn = g->quiet ? NULL : warn};
	struct option_list changes = {0};
	const char *compression = "gzip";
	const struct option_def defs[] = {
		{"change", 'c', OPTION_LIST, &changes, "CHANGE",
			"a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, "
			"USER, VOLUME, WORKDIR"},
		{"author", 'a', OPTION_STRING, &o.author, "TEXT", "who made the image"},
		{"message", 'm', OPTION_STRING, &o.message, "TEXT", "a comment in its history"},
		{"compression", 0, OPTION_STRING, &compression, "gzip|zstd|none",
			"of the new layer (default: gzip)"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 2};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct container_uses uses;
	struct descriptor made;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	o.changes = changes.v;
	o.nchanges = changes.n;
	o.name = args.n == 2 ? args.v[1] : arena_printf(&a, "localhost/%s:latest", args.v[0]);
	r = o.name ? layer_compression_parse(compression, &o.compression) : -ENOMEM;
	if (r >= 0)
		r = choose_time(&o.created);
	if (r >= 0)
		r = image_open_container(g, &a, args.v[0], &s, &uses);
	if (r >= 0)
		r = image_commit(&s, args.v[0], &uses, &o, &made);
	if (r < 0)
		return r;
	const char *line = arena_printf(&a, "%s\n", made.digest.text);
	return line ? program_print(line, strlen(line)) : -ENOMEM;
}
