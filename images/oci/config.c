/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the configuration of an image (image-spec, config.md). docker's configuration has the same
 * members.
 */
#include <stdio.h>

#include "images/oci/fields.h"

/* A list of strings from the configuration. */
struct texts {
	const char **v;
	size_t n;
};

static int parse_strings(struct arena *a, const struct field *f, struct texts *ret)
{
	const struct json *array;
	int r = field_array(f, OCI_STRINGS_MAX, &array);

	*ret = (struct texts){0};
	if (r < 0 || !array)
		return r;
	ret->v = arena_array(a, array->count + 1, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (const struct json *n = array->first; n; n = n->next) {
		if (n->type != JSON_STRING)
			return err_set(EINVAL, "%s: %s[%zu] is %s: expected a string", f->what,
				f->name, ret->n, json_type_name(n->type));
		ret->v[ret->n++] = n->text;
	}
	return 0;
}

/*
 * Parses the member Volumes or ExposedPorts of an image's configuration. Both are objects of which
 * only the keys matter. docker sometimes writes an array instead, which is accepted too.
 */
static int parse_set(struct arena *a, const struct field *f, struct texts *ret)
{
	const struct json *object;
	int r = field_object(f, &object);

	*ret = (struct texts){0};
	if (r < 0 || !object)
		return r;
	if (object->count > OCI_STRINGS_MAX)
		return err_set(EINVAL, "%s: %s has %u members: the limit is %u", f->what, f->name,
			object->count, OCI_STRINGS_MAX);
	ret->v = arena_array(a, object->count + 1, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (const struct json *n = object->first; n; n = n->next)
		ret->v[ret->n++] = n->key;
	return 0;
}

static int parse_lists(
	struct arena *a, const struct json *config, const char *what, struct image_config *ret)
{
	const struct {
		const char *name;
		int (*parse)(struct arena *a, const struct field *f, struct texts *ret);
		const char ***v;
		size_t *n;
	} lists[] = {
		{"Env", parse_strings, &ret->env, &ret->nenv},
		{"Entrypoint", parse_strings, &ret->entrypoint, &ret->nentrypoint},
		{"Cmd", parse_strings, &ret->cmd, &ret->ncmd},
		{"Volumes", parse_set, &ret->volumes, &ret->nvolumes},
		{"ExposedPorts", parse_set, &ret->exposed_ports, &ret->nexposed_ports},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct texts t;
		int r = lists[i].parse(a, &(struct field){config, what, lists[i].name}, &t);
		if (r < 0)
			return r;
		*lists[i].v = t.v;
		*lists[i].n = t.n;
	}
	return 0;
}

static int parse_execution(
	struct arena *a, const struct json *root, const char *what, struct image_config *ret)
{
	const struct json *config;
	int r = field_object(&(struct field){root, what, "config"}, &config);

	if (r < 0 || !config)
		return r;
	r = field_string(&(struct field){config, what, "User"}, &ret->user);
	if (r >= 0)
		r = field_string(&(struct field){config, what, "WorkingDir"}, &ret->working_dir);
	if (r >= 0)
		r = field_string(&(struct field){config, what, "StopSignal"}, &ret->stop_signal);
	if (r >= 0)
		r = field_string_map(&(struct field){config, what, "Labels"}, &ret->labels);
	return r < 0 ? r : parse_lists(a, config, what, ret);
}

static int parse_rootfs(
	struct arena *a, const struct json *root, const char *what, struct image_config *ret)
{
	const struct json *rootfs;
	struct texts t = {0};
	char where[200];
	int r = field_object(&(struct field){root, what, "rootfs"}, &rootfs);

	if (r >= 0 && rootfs)
		r = parse_strings(a, &(struct field){rootfs, what, "diff_ids"}, &t);
	if (r < 0)
		return r;
	ret->diff_ids = arena_array(a, t.n + 1, sizeof(*ret->diff_ids));
	if (!ret->diff_ids)
		return -ENOMEM;
	for (; ret->ndiff_ids < t.n && r >= 0; ret->ndiff_ids++) {
		snprintf(where, sizeof(where), "%s: rootfs.diff_ids[%zu]", what, ret->ndiff_ids);
		r = digest_parse(t.v[ret->ndiff_ids], where, &ret->diff_ids[ret->ndiff_ids]);
	}
	return r;
}

static int parse_history_entry(const struct json *n, const char *what, struct image_history *ret)
{
	const struct json *empty = json_get(n, "empty_layer");

	if (n->type != JSON_OBJECT)
		return err_set(EINVAL, "%s: history has an element that is %s: expected an object",
			what, json_type_name(n->type));
	ret->empty_layer = empty && empty->type == JSON_BOOL && empty->boolean;
	int r = field_string(&(struct field){n, what, "created"}, &ret->created);
	if (r >= 0)
		r = field_string(&(struct field){n, what, "created_by"}, &ret->created_by);
	if (r >= 0)
		r = field_string(&(struct field){n, what, "author"}, &ret->author);
	if (r >= 0)
		r = field_string(&(struct field){n, what, "comment"}, &ret->comment);
	return r;
}

static int parse_history(
	struct arena *a, const struct json *root, const char *what, struct image_config *ret)
{
	const struct json *array;
	int r = field_array(&(struct field){root, what, "history"}, OCI_STRINGS_MAX, &array);

	if (r < 0 || !array)
		return r;
	ret->history = arena_array(a, array->count + 1, sizeof(*ret->history));
	if (!ret->history)
		return -ENOMEM;
	for (const struct json *n = array->first; n && r >= 0; n = n->next)
		r = parse_history_entry(n, what, &ret->history[ret->nhistory++]);
	return r;
}

int image_config_parse(
	struct arena *a, const struct strbuf *text, const char *what, struct image_config *ret)
{
	const struct json *root;

	*ret = (struct image_config){0};
	int r = fields_parse(a, text, what, &root);
	if (r < 0)
		return r;
	const struct {
		const char *name;
		const char **v;
	} strings[] = {
		{"architecture", &ret->platform.architecture},
		{"os", &ret->platform.os},
		{"variant", &ret->platform.variant},
		{"os.version", &ret->platform.os_version},
		{"created", &ret->created},
		{"author", &ret->author},
	};
	for (size_t i = 0; i < ARRAY_SIZE(strings) && r >= 0; i++)
		r = field_string(&(struct field){root, what, strings[i].name}, strings[i].v);
	if (r >= 0)
		r = parse_execution(a, root, what, ret);
	if (r >= 0)
		r = parse_rootfs(a, root, what, ret);
	return r < 0 ? r : parse_history(a, root, what, ret);
}
