/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the configuration of a committed image: the configuration of its base image, with one
 * layer more and the changes of --change.
 */
#include <stdio.h>
#include <stdlib.h>

#include "images/oci/commit.h"

enum change_kind {
	CHANGE_TEXT, /* the value replaces a string of the configuration */
	/* the value, a JSON array or words for the shell, replaces an array of the configuration */
	CHANGE_PROGRAM,
	CHANGE_ENV,   /* the value, "NAME=VALUE", replaces or adds a variable of the environment */
	CHANGE_LABEL, /* the value, "KEY=VALUE", sets a member of an object of the configuration */
	/*
	 * the value is the name of a member without a value that is added to an object of the
	 * configuration
	 */
	CHANGE_KEY,
};

static const struct change_word {
	const char *word, *member;
	enum change_kind kind;
} change_words[] = {
	{"CMD", "Cmd", CHANGE_PROGRAM},
	{"ENTRYPOINT", "Entrypoint", CHANGE_PROGRAM},
	{"ENV", "Env", CHANGE_ENV},
	{"EXPOSE", "ExposedPorts", CHANGE_KEY},
	{"LABEL", "Labels", CHANGE_LABEL},
	{"STOPSIGNAL", "StopSignal", CHANGE_TEXT},
	{"USER", "User", CHANGE_TEXT},
	{"VOLUME", "Volumes", CHANGE_KEY},
	{"WORKDIR", "WorkingDir", CHANGE_TEXT},
};

/* Splits a text such as "CMD [\"sh\"]" of --change into its word and its value. */
static int parse_change(const char *text, const struct change_word **ret, const char **ret_value)
{
	size_t len = strcspn(text, " \t=");

	for (size_t i = 0; i < ARRAY_SIZE(change_words); i++) {
		const struct change_word *w = &change_words[i];
		if (strlen(w->word) != len || strncasecmp(text, w->word, len) != 0)
			continue;
		*ret = w;
		*ret_value = text + len + strspn(text + len, " \t=");
		bool pair = w->kind == CHANGE_ENV || w->kind == CHANGE_LABEL;
		if (pair && (!strchr(*ret_value, '=') || **ret_value == '='))
			return err_set(EINVAL, "--change %.200s: expected NAME=VALUE", text);
		return 0;
	}
	return err_set(EINVAL,
		"--change %.200s: expected CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, "
		"VOLUME or WORKDIR, and a value",
		text);
}

/*
 * Returns the value of the last option --change that sets `member`, or NULL if no option --change
 * sets it.
 */
static const char *last_change(const struct commit_options *o, const char *member)
{
	const struct change_word *w;
	const char *value, *found = NULL;

	for (size_t i = 0; i < o->nchanges; i++)
		if (parse_change(o->changes[i], &w, &value) >= 0 && streq(w->member, member))
			found = value;
	return found;
}

static int put_program(
	struct json_out *o, const struct commit_config *c, const char *member, const char *value)
{
	struct json *array;

	if (*value == '[') {
		int r = json_parse(c->arena, value, strlen(value), "--change", &array);
		if (r < 0)
			return r;
		for (const struct json *n = array->first; n; n = n->next)
			if (n->type != JSON_STRING)
				return err_set(EINVAL, "--change %s %.200s: expected strings",
					member, value);
		json_out_node(o, member, array);
		return 0;
	}
	json_out_array(o, member);
	json_out_str(o, NULL, "/bin/sh");
	json_out_str(o, NULL, "-c");
	json_out_str(o, NULL, value);
	json_out_end_array(o);
	return 0;
}

/*
 * Returns whether change `i` of --change, or a later change, sets the same key of `member` as
 * `text` does, which is "KEY=VALUE".
 */
static bool is_set_from(
	const struct commit_options *o, size_t i, const char *member, const char *text)
{
	size_t len = strcspn(text, "=");
	const struct change_word *w;
	const char *value;

	for (; i < o->nchanges; i++)
		if (parse_change(o->changes[i], &w, &value) >= 0 && streq(w->member, member) &&
			strcspn(value, "=") == len && strncmp(value, text, len) == 0)
			return true;
	return false;
}

static void put_env(struct json_out *o, const struct commit_config *c, const struct json *old)
{
	const struct commit_options *options = c->options;
	const struct change_word *w;
	const char *value;

	json_out_array(o, "Env");
	for (const struct json *n = old && old->type == JSON_ARRAY ? old->first : NULL; n;
		n = n->next)
		if (n->type == JSON_STRING && !is_set_from(options, 0, "Env", n->text))
			json_out_str(o, NULL, n->text);
	for (size_t i = 0; i < options->nchanges; i++)
		if (parse_change(options->changes[i], &w, &value) >= 0 && w->kind == CHANGE_ENV &&
			!is_set_from(options, i + 1, "Env", value))
			json_out_str(o, NULL, value);
	json_out_end_array(o);
}

static void put_members(struct json_out *o, const struct commit_config *c, const char *member,
	const struct json *old)
{
	const struct commit_options *options = c->options;
	const struct change_word *w;
	const char *value;

	json_out_object(o, member);
	for (const struct json *n = old && old->type == JSON_OBJECT ? old->first : NULL; n;
		n = n->next)
		if (!is_set_from(options, 0, member, n->key))
			json_out_node(o, n->key, n);
	for (size_t i = 0; i < options->nchanges; i++) {
		if (parse_change(options->changes[i], &w, &value) < 0 ||
			!streq(w->member, member) || is_set_from(options, i + 1, member, value))
			continue;
		size_t len = strcspn(value, "=");
		char *name = arena_strndup(
			c->arena, value, w->kind == CHANGE_LABEL ? len : strlen(value));
		if (!name) {
			o->failed = -ENOMEM;
		} else if (w->kind == CHANGE_LABEL) {
			json_out_str(o, name, value + len + 1);
		} else {
			json_out_object(o, name);
			json_out_end_object(o);
		}
	}
	json_out_end_object(o);
}

/* Writes the member "config" of the new configuration. */
static int put_config(struct json_out *o, const struct commit_config *c)
{
	const struct json *old = json_get(c->old, "config");
	int r = 0;

	json_out_object(o, "config");
	for (const struct json *n = old && old->type == JSON_OBJECT ? old->first : NULL; n;
		n = n->next)
		if (!last_change(c->options, n->key))
			json_out_node(o, n->key, n);
	for (size_t i = 0; i < ARRAY_SIZE(change_words) && r >= 0; i++) {
		const struct change_word *w = &change_words[i];
		const char *value = last_change(c->options, w->member);
		if (!value)
			continue;
		if (w->kind == CHANGE_TEXT)
			json_out_str(o, w->member, value);
		else if (w->kind == CHANGE_PROGRAM)
			r = put_program(o, c, w->member, value);
		else if (w->kind == CHANGE_ENV)
			put_env(o, c, json_get(old, "Env"));
		else
			put_members(o, c, w->member, json_get(old, w->member));
	}
	json_out_end_object(o);
	return r;
}

static void put_rootfs(struct json_out *o, const struct commit_config *c)
{
	const struct json *ids = json_get(json_get(c->old, "rootfs"), "diff_ids");

	json_out_object(o, "rootfs");
	json_out_str(o, "type", "layers");
	json_out_array(o, "diff_ids");
	for (const struct json *n = ids && ids->type == JSON_ARRAY ? ids->first : NULL; n;
		n = n->next)
		json_out_node(o, NULL, n);
	json_out_str(o, NULL, c->diff_id->text);
	json_out_end_array(o);
	json_out_end_object(o);
}

static void put_history(struct json_out *o, const struct commit_config *c)
{
	const struct commit_options *options = c->options;
	const struct json *old = json_get(c->old, "history");

	json_out_array(o, "history");
	for (const struct json *n = old && old->type == JSON_ARRAY ? old->first : NULL; n;
		n = n->next)
		json_out_node(o, NULL, n);
	json_out_object(o, NULL);
	json_out_str(o, "created", c->created);
	json_out_str(o, "created_by",
		options->created_by ? options->created_by : "caisson image commit");
	if (options->author)
		json_out_str(o, "author", options->author);
	if (options->message)
		json_out_str(o, "comment", options->message);
	json_out_end_object(o);
	json_out_end_array(o);
}

/*
 * Returns whether the new configuration leaves out the member `key` of the base image's
 * configuration. Some members are written anew, and docker's members about the container from which
 * an image was committed describe another image.
 */
static bool is_dropped(const struct commit_config *c, const char *key)
{
	static const char *const names[] = {"created", "config", "rootfs", "history", "container",
		"container_config", "id", "parent"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(key, names[i]))
			return true;
	return c->options->author && streq(key, "author");
}

int commit_config_write(struct json_out *o, const struct commit_config *c)
{
	const struct change_word *w;
	const char *value;

	for (size_t i = 0; i < c->options->nchanges; i++) {
		int r = parse_change(c->options->changes[i], &w, &value);
		if (r < 0)
			return r;
	}
	json_out_object(o, NULL);
	json_out_str(o, "created", c->created);
	if (c->options->author)
		json_out_str(o, "author", c->options->author);
	for (const struct json *n = c->old->first; n; n = n->next)
		if (!is_dropped(c, n->key))
			json_out_node(o, n->key, n);
	int r = put_config(o, c);
	put_rootfs(o, c);
	put_history(o, c);
	json_out_end_object(o);
	return r;
}
