/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image import, export, load, save`. */
#include <stdio.h>
#include <unistd.h>

#include "image/image.h"
#include "images/oci/export.h"

/* The options that say how tell_blob() shows, on standard error, which blobs are being copied. */
struct copying {
	bool quiet, json;
};

static void tell_blob(void *data, const struct descriptor *d, bool present)
{
	const struct copying *c = data;
	char size[24];

	image_size_text(d->size, size, sizeof(size));
	if (c->json)
		fprintf(stderr,
			"{\"event\":\"blob\",\"digest\":\"%s\",\"size\":%llu,\"present\":%s}\n",
			d->digest.text, (unsigned long long)d->size, present ? "true" : "false");
	else if (!c->quiet)
		fprintf(stderr, "%.19s: %s%s\n", d->digest.text, size,
			present ? ", in the store already" : "");
}

/* Prints the names of the imported images: as lines that begin with `before`, or as JSON. */
static int print_imported(const struct import_result *result, const char *before, bool json)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = json ? json_out_init(&o, false) : 0;

	if (r < 0)
		return r;
	if (json)
		json_out_array(&o, NULL);
	for (size_t i = 0; i < result->n && r >= 0; i++) {
		if (!json) {
			r = strbuf_addf(&text, "%s%s\n", before, result->v[i].name);
			continue;
		}
		json_out_object(&o, NULL);
		json_out_str(&o, "name", result->v[i].name);
		json_out_str(&o, "digest", result->v[i].digest.text);
		json_out_end_object(&o);
	}
	if (r < 0 || !json)
		return r < 0 ? r : program_print(strbuf_str(&text), text.len);
	json_out_end_array(&o);
	return program_print_json(&o);
}

int image_cmd_import(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct copying c = {.quiet = g->quiet};
	const char *platform = NULL;
	struct import_options io = {.events = {tell_blob, &c}};
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"all", 0, OPTION_FLAG, &io.all, NULL, "every platform that the source has"},
		{"json", 0, OPTION_FLAG, &c.json, NULL, "print names and digests in JSON"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 2};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct import_result result;
	struct platform buf;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	io.name = args.n == 2 ? args.v[1] : NULL;
	r = image_platform(&a, platform, &buf, &io.platform);
	if (r >= 0)
		r = image_open_store(g, &s);
	if (r >= 0)
		r = image_import(&s, &a, args.v[0], &io, &result);
	return r < 0 ? r : print_imported(&result, "", c.json);
}

int image_cmd_export(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct image_arguments args = {.min = 2, .max = 2};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	return r < 0 ? r : image_export(&s, &a, args.v[0], args.v[1]);
}

static int parse_save_form(const char *text, enum save_form *ret)
{
	static const struct {
		const char *name;
		enum save_form form;
	} forms[] = {{"docker-archive", SAVE_DOCKER_ARCHIVE}, {"oci-archive", SAVE_OCI_ARCHIVE}};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		if (streq(text, forms[i].name)) {
			*ret = forms[i].form;
			return 0;
		}
	return err_set(EINVAL, "--format %.100s: expected docker-archive or oci-archive", text);
}

int image_cmd_save(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct image_saving saving = {.path = "-"};
	const char *format = "docker-archive";
	const struct option_def defs[] = {
		{"output", 'o', OPTION_STRING, &saving.path, "FILE",
			"write this file (default: standard output)"},
		{"format", 0, OPTION_STRING, &format, "docker-archive|oci-archive",
			"of the archive (default: docker-archive)"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = -1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	saving.names = (const char *const *)args.v;
	saving.nnames = (size_t)args.n;
	r = parse_save_form(format, &saving.form);
	if (r >= 0 && streq(saving.path, "-") && isatty(STDOUT_FILENO))
		r = err_set(EINVAL,
			"standard output is a terminal: name a file with -o, or redirect it");
	if (r >= 0)
		r = image_open_store(g, &s);
	return r < 0 ? r : image_save(&s, &a, &saving);
}

int image_cmd_load(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct copying c = {.quiet = g->quiet};
	const char *platform = NULL, *path = "-";
	struct import_options io = {.events = {tell_blob, &c}};
	const struct option_def defs[] = {
		{"input", 'i', OPTION_STRING, &path, "FILE",
			"read this file (default: standard input)"},
		{"platform", 0, OPTION_STRING, &platform, "OS/ARCH[/VARIANT]",
			"only this one of an image for several (default: all)"},
		{"json", 0, OPTION_FLAG, &c.json, NULL, "print names and digests in JSON"},
		{0},
	};
	struct image_arguments args = {.max = 0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct import_result result;
	struct platform buf;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	io.all = !platform;
	r = image_platform(&a, platform, &buf, &io.platform);
	if (r >= 0 && streq(path, "-") && isatty(STDIN_FILENO))
		r = err_set(EINVAL,
			"standard input is a terminal: name a file with -i, or redirect it");
	if (r >= 0)
		r = image_open_store(g, &s);
	if (r >= 0)
		r = image_load(&s, &a, path, &io, &result);
	return r < 0 ? r : print_imported(&result, g->quiet ? "" : "Loaded image: ", c.json);
}
