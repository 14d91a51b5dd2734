/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `caisson image pull`, `caisson image push` and `caisson image referrers`. */
#include <stdio.h>
#include <string.h>

#include "image/pull_ahead.h"
#include "image/registry_options.h"
#include "image/transfer_progress.h"

static int print_result(const struct transfer_result *result, bool json)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf line = {0};
	int r;

	if (!json) {
		r = strbuf_addf(&line, "%s\n", result->name);
		return r < 0 ? r : program_print(strbuf_str(&line), line.len);
	}
	r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "name", result->name);
	json_out_str(&o, "digest", result->digest.text);
	json_out_end_object(&o);
	return program_print_json(&o);
}

/* Holds the options and the state of `caisson image pull` and `caisson image push`. */
struct transferring {
	const struct image_command *self;
	const struct image_globals *g;
	bool push;
	struct registry_arguments registry;
	const char *platform;
	bool json;
	int jobs;
	struct transfer_options options;
	struct transfer_progress progress;
	struct platform buf;
	bool no_unpack;
	const struct store *store;
	struct pull_ahead ahead;
};

/* The rows of the option tables of pull and push for the options that both have. */
#define TRANSFER_OPTIONS(t) \
	{"jobs", 'j', OPTION_COUNT, &(t)->jobs, "N", "blobs at the same time (default: 3)"}, \
		{"json", 0, OPTION_FLAG, &(t)->json, NULL, \
			"print name and digest in JSON, and progress as JSON on standard error"}, \
		REGISTRY_OPTIONS(&(t)->registry)

static int prepare(struct transferring *t, struct arena *a, const char *where)
{
	if (t->jobs > (int)TRANSFER_JOBS_MAX)
		return err_set(EINVAL, "--jobs %d: expected 1 to %u", t->jobs, TRANSFER_JOBS_MAX);
	int r = registry_options_take(&t->registry, a, &t->options.registry);
	if (r >= 0)
		r = image_platform(a, t->platform, &t->buf, &t->options.platform);
	t->options.jobs = (unsigned)t->jobs;
	transfer_progress_init(&t->progress, t->json, t->g->quiet, where);
	t->options.listener = transfer_progress_listener(&t->progress);
	t->options.registry.pausing = t->options.listener.notice;
	t->options.registry.data = &t->progress;
	return r;
}

static void on_manifest(void *data, const struct descriptor *d)
{
	struct transferring *t = data;
	struct image_globals g = *t->g;

	/* With --json, standard error has nothing but JSON, so the other process prints nothing. */
	g.quiet = g.quiet || t->json;
	pull_ahead_start(&t->ahead, &g, t->store, &d->digest);
}

/*
 * Pulls an image. Meanwhile `caisson-image ahead` unpacks the image's layers. Nothing is unpacked
 * if the user asked for a certain platform or for all platforms, because the image is then probably
 * not for this machine.
 */
static int pull(struct transferring *t, const struct store *s, struct arena *a, const char *name,
	struct transfer_result *ret)
{
	t->store = s;
	if (!t->no_unpack && !t->platform && !t->options.all) {
		t->options.manifest = on_manifest;
		t->options.manifest_data = t;
	}
	int r = image_pull(s, a, name, &t->options, ret);
	transfer_progress_end(&t->progress);
	pull_ahead_end(&t->ahead, r >= 0);
	return r;
}

/* Parses the arguments, and then pulls or pushes. */
static int transfer(struct transferring *t, const struct option_def *defs, int argc, char **argv)
{
	struct image_arguments args = {.min = 1, .max = t->push ? 2 : 1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct transfer_result result;

	int r = image_parse(t->self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = prepare(t, &a, t->push ? "the registry" : "the store");
	if (r >= 0)
		r = image_open_store(t->g, &s);
	if (r >= 0 && t->push)
		r = image_push(
			&s, &a, args.v[0], args.n == 2 ? args.v[1] : NULL, &t->options, &result);
	else if (r >= 0)
		r = pull(t, &s, &a, args.v[0], &result);
	transfer_progress_end(&t->progress);
	return r < 0 ? r : print_result(&result, t->json);
}

int image_cmd_pull(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct transferring t = {.self = self, .g = g, .ahead = PULL_AHEAD_INIT};
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &t.platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"all-platforms", 0, OPTION_FLAG, &t.options.all, NULL, "every platform"},
		{"no-unpack", 0, OPTION_FLAG, &t.no_unpack, NULL,
			"only fetch; the layers are unpacked when a container needs them"},
		TRANSFER_OPTIONS(&t),
		{0},
	};

	return transfer(&t, defs, argc, argv);
}

int image_cmd_push(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct transferring t = {.self = self, .g = g, .push = true};
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &t.platform, "OS/ARCH[/VARIANT]",
			"only this one of an image for several"},
		TRANSFER_OPTIONS(&t),
		{0},
	};

	return transfer(&t, defs, argc, argv);
}

static int print_referrers(
	const struct digest *subject, const struct document *list, const char *type, bool json)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = json ? json_out_init(&o, true) : 0;

	if (r < 0)
		return r;
	if (json) {
		json_out_object(&o, NULL);
		json_out_str(&o, "subject", subject->text);
		json_out_array(&o, "referrers");
	}
	for (size_t i = 0; i < list->nmanifests && r >= 0; i++) {
		const struct descriptor *d = &list->manifests[i];
		const char *artifact = d->artifact_type ? d->artifact_type : "";
		if (type && !streq(type, artifact))
			continue;
		if (json)
			descriptor_write(&o, NULL, d);
		else
			r = strbuf_addf(&text, "%s %s\n", d->digest.text, artifact);
	}
	if (r < 0 || !json)
		return r < 0 ? r : program_print(strbuf_str(&text), text.len);
	json_out_end_array(&o);
	json_out_end_object(&o);
	return program_print_json(&o);
}

int image_cmd_referrers(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct transferring t = {.self = self, .g = g};
	const char *type = NULL;
	const struct option_def defs[] = {
		{"artifact-type", 0, OPTION_STRING, &type, "TYPE", "only those of this type"},
		{"json", 0, OPTION_FLAG, &t.json, NULL, "print descriptors in JSON"},
		REGISTRY_OPTIONS(&t.registry),
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};
	struct document list;
	struct digest subject;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = prepare(&t, &a, "the registry");
	if (r >= 0)
		r = image_referrers(&a, args.v[0], &t.options, &subject, &list);
	return r < 0 ? r : print_referrers(&subject, &list, type, t.json);
}
