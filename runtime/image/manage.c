/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `caisson image ls, inspect, history, tag, rm, prune`. */
#include <stdio.h>

#include "base/log.h"
#include "image/image.h"
#include "images/oci/chain.h"
#include "images/oci/image_disk.h"

/* The data that `caisson image ls` prints about one tag. */
struct listed {
	const char *name, *platform;
	char id[20];
	uint64_t size;
	const char *created;
};

/*
 * Describes a tag. A tag whose image cannot be read is listed too, so that users can find and
 * remove it.
 */
static int describe(
	const struct store *s, struct arena *a, const struct descriptor *d, struct listed *ret)
{
	struct image img = {.tag = *d, .name = d->ref_name};

	*ret = (struct listed){
		.name = d->ref_name ? d->ref_name : "<none>", .platform = "?", .created = ""};
	snprintf(ret->id, sizeof(ret->id), "%.12s", digest_hex(&d->digest));
	if (image_read(s, a, NULL, &img) < 0) {
		ret->platform = media_type_is_index(d->media_type) ? "several" : "damaged";
		err_clear();
		return 0;
	}
	const struct platform *p = &img.config.platform;
	ret->platform = arena_printf(a, "%s/%s%s%s", p->os && *p->os ? p->os : "?",
		p->architecture && *p->architecture ? p->architecture : "?", p->variant ? "/" : "",
		p->variant ? p->variant : "");
	ret->size = img.manifest.size + img.document.config.size;
	for (size_t i = 0; i < img.document.nlayers; i++)
		ret->size += img.document.layers[i].size;
	ret->created = img.config.created ? img.config.created : "";
	return ret->platform ? 0 : -ENOMEM;
}

static int list_json(const struct store *s, struct arena *a, const struct document *tags)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (size_t i = 0; i < tags->nmanifests && r >= 0; i++) {
		struct listed l;
		r = describe(s, a, &tags->manifests[i], &l);
		if (r < 0)
			break;
		json_out_object(&o, NULL);
		json_out_str(&o, "name", l.name);
		json_out_str(&o, "digest", tags->manifests[i].digest.text);
		json_out_str(&o, "platform", l.platform);
		json_out_u64(&o, "size", l.size);
		json_out_str(&o, "created", l.created);
		json_out_end_object(&o);
	}
	json_out_end_array(&o);
	return r < 0 ? r : program_print_json(&o);
}

int image_cmd_ls(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	bool json = false;
	const struct option_def defs[] = {
		{"json", 0, OPTION_FLAG, &json, NULL, "print it in JSON, with whole digests"}, {0}};
	struct image_arguments args = {.max = 0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	_cleanup_strbuf_ struct strbuf out = {0};
	struct document tags;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	if (r >= 0)
		r = store_tags(&s, &a, &tags);
	if (r < 0 || json)
		return r < 0 ? r : list_json(&s, &a, &tags);
	if (!g->quiet)
		r = strbuf_addf(&out, "%-48s %-13s %-16s %9s %s\n", "NAME", "DIGEST", "PLATFORM",
			"SIZE", "CREATED");
	for (size_t i = 0; i < tags.nmanifests && r >= 0; i++) {
		struct listed l;
		char size[24];
		r = describe(&s, &a, &tags.manifests[i], &l);
		if (r < 0)
			break;
		image_size_text(l.size, size, sizeof(size));
		r = g->quiet ? strbuf_addf(&out, "%s\n", l.name)
			     : strbuf_addf(&out, "%-48s %-13s %-16s %9s %.19s\n", l.name, l.id,
				       l.platform, size, l.created);
	}
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

/*
 * Writes the list "disks" of the disk images in the image's layers. Writes no list if the layers
 * are not unpacked yet, or if they cannot be looked at on this host.
 */
static int put_disks(
	struct json_out *o, const struct store *s, struct arena *a, const struct image *img)
{
	_cleanup_strbuf_ struct strbuf layers = {0};
	struct image_disks disks;
	int r = chain_find(s, img, &layers);

	if (r > 0)
		r = image_disks_find(s, strbuf_str(&layers), a, &disks) < 0 ? 0 : 1;
	err_clear();
	if (r <= 0)
		return r == -ENOMEM ? r : 0;
	json_out_array(o, "disks");
	for (size_t i = 0; i < disks.n; i++) {
		json_out_object(o, NULL);
		json_out_str(o, "path", disks.v[i].path);
		json_out_str(o, "file", disks.v[i].file);
		json_out_u64(o, "size", disks.v[i].size);
		json_out_end_object(o);
	}
	json_out_end_array(o);
	return 0;
}

/*
 * Writes the JSON object that `caisson image inspect` prints, except for its end, so that the
 * caller can add members.
 */
static void put_inspected(struct json_out *o, const struct image *img, const struct json *config)
{
	json_out_object(o, NULL);
	json_out_str(o, "name", img->name ? img->name : "");
	descriptor_write(o, "manifest", &img->manifest);
	descriptor_write(o, "configuration", &img->document.config);
	json_out_array(o, "layers");
	for (size_t i = 0; i < img->document.nlayers; i++)
		descriptor_write(o, NULL, &img->document.layers[i]);
	json_out_end_array(o);
	if (img->document.annotations)
		json_out_node(o, "annotations", img->document.annotations);
	json_out_node(o, "config", config);
}

int image_cmd_inspect(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const char *platform_text = NULL;
	bool config_only = false;
	const struct option_def defs[] = {
		{"platform", 0, OPTION_STRING, &platform_text, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"config", 0, OPTION_FLAG, &config_only, NULL,
			"only the image's configuration, as its author wrote it"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	_cleanup_json_out_ struct json_out o = {0};
	const struct platform *platform;
	struct platform buf;
	struct json *config;
	struct image img;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_platform(&a, platform_text, &buf, &platform);
	if (r >= 0)
		r = image_open_store(g, &s);
	if (r >= 0)
		r = image_open(&s, &a, args.v[0], platform, &img);
	if (r < 0 || config_only)
		return r < 0 ? r : program_print(img.config_text, img.config_len);
	r = json_parse(&a, img.config_text, img.config_len, "the configuration", &config);
	if (r >= 0)
		r = json_out_init(&o, true);
	if (r < 0)
		return r;
	put_inspected(&o, &img, config);
	image_become_root();
	r = put_disks(&o, &s, &a, &img);
	json_out_end_object(&o);
	return r < 0 ? r : program_print_json(&o);
}

static int history_json(const struct image *img)
{
	_cleanup_json_out_ struct json_out o = {0};
	size_t layer = 0;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (size_t i = 0; i < img->config.nhistory; i++) {
		const struct image_history *h = &img->config.history[i];
		bool has = !h->empty_layer && layer < img->document.nlayers;
		json_out_object(&o, NULL);
		json_out_str(&o, "created", h->created ? h->created : "");
		json_out_str(&o, "createdBy", h->created_by ? h->created_by : "");
		json_out_str(&o, "comment", h->comment ? h->comment : "");
		json_out_u64(&o, "size", has ? img->document.layers[layer].size : 0);
		if (has)
			json_out_str(&o, "layer", img->document.layers[layer++].digest.text);
		json_out_end_object(&o);
	}
	json_out_end_array(&o);
	return program_print_json(&o);
}

/*
 * Copies the text as one line without control characters, because an image's author may have put
 * any text into it.
 */
static void one_line(const char *s, char *buf, size_t size)
{
	size_t n = 0;

	for (; s && *s && n + 1 < size; s++)
		buf[n++] = (unsigned char)*s < ' ' || *s == 0x7f ? ' ' : *s;
	buf[n] = '\0';
}

int image_cmd_history(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	bool json = false;
	const struct option_def defs[] = {
		{"json", 0, OPTION_FLAG, &json, NULL, "print it in JSON, uncut, the oldest first"},
		{0}};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	_cleanup_strbuf_ struct strbuf out = {0};
	struct image img;
	size_t layer = 0;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	if (r >= 0)
		r = image_open(&s, &a, args.v[0], NULL, &img);
	if (r < 0 || json)
		return r < 0 ? r : history_json(&img);
	r = strbuf_addf(&out, "%-20s %9s %s\n", "CREATED", "SIZE", "BY");
	for (size_t i = 0; i < img.config.nhistory && r >= 0; i++) {
		const struct image_history *h = &img.config.history[i];
		bool has = !h->empty_layer && layer < img.document.nlayers;
		char size[24], by[100];
		image_size_text(has ? img.document.layers[layer++].size : 0, size, sizeof(size));
		one_line(h->created_by, by, sizeof(by));
		r = strbuf_addf(&out, "%-20.19s %9s %s\n", h->created ? h->created : "", size, by);
	}
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

int image_cmd_tag(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct image_arguments args = {.min = 2, .max = -1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct descriptor d;
	const char *tag;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	if (r >= 0)
		r = image_find(&s, &a, args.v[0], &tag, &d);
	for (int i = 1; i < args.n && r >= 0; i++)
		r = store_tag(&s, args.v[i], &d);
	return r;
}

static int collect(struct store *s, bool quiet, bool must)
{
	struct store_freed freed;
	char size[24];

	image_become_root();
	int r = store_gc(s, &freed);

	if (r == -EBUSY && !must) {
		log_warn("%s; until then `caisson image prune` can free the disk", err_msg());
		err_clear();
		return 0;
	}
	if (r < 0)
		return r;
	image_size_text(freed.bytes, size, sizeof(size));
	if (!quiet)
		fprintf(stderr, "freed %s: %llu blobs\n", size, (unsigned long long)freed.blobs);
	return 0;
}

int image_cmd_rm(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct image_arguments args = {.min = 1, .max = -1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	for (int i = 0; i < args.n && r >= 0; i++) {
		struct descriptor d;
		const char *tag;
		r = image_find(&s, &a, args.v[i], &tag, &d);
		if (r >= 0 && !tag)
			r = err_set(EINVAL, "the image %s has no name to remove", args.v[i]);
		if (r >= 0)
			r = store_untag(&s, tag);
	}
	return r < 0 ? r : collect(&s, g->quiet, false);
}

int image_cmd_prune(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct image_arguments args = {.max = 0};
	_cleanup_store_ struct store s = STORE_INIT;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	return r < 0 ? r : collect(&s, g->quiet, true);
}
