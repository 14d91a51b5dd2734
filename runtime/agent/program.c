/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/program.h"

#include <stdio.h>

static int add(struct strbuf *b, const char *name, const char *value)
{
	int r = strbuf_addf(b, "%s=%s", name, value);

	return r < 0 ? r : strbuf_add(b, "", 1);
}

static int add_strings(struct strbuf *b, const char *name, const struct spec_strings *v)
{
	int r = 0;

	for (size_t i = 0; i < v->n && r >= 0; i++)
		r = add(b, name, v->v[i]);
	return r;
}

static int add_number(struct strbuf *b, const char *name, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return add(b, name, text);
}

int agent_program_pack(const struct spec_process *p, struct strbuf *ret)
{
	int r = add_strings(ret, "arg", &p->args);

	if (r >= 0)
		r = add_strings(ret, "env", &p->env);
	if (r >= 0)
		r = add(ret, "cwd", p->cwd);
	if (r >= 0)
		r = add_number(ret, "uid", p->user.uid);
	if (r >= 0)
		r = add_number(ret, "gid", p->user.gid);
	for (size_t i = 0; i < p->user.nadditional_gids && r >= 0; i++)
		r = add_number(ret, "group", p->user.additional_gids[i]);
	if (r >= 0 && p->terminal)
		r = add_number(ret, "terminal", 1);
	if (r >= 0 && p->console_height)
		r = add_number(ret, "rows", p->console_height);
	if (r >= 0 && p->console_width)
		r = add_number(ret, "columns", p->console_width);
	if (r >= 0 && p->no_new_privileges)
		r = add_number(ret, "no-new-privileges", 1);
	return r;
}

/* The lists of a blob while they are read. */
struct lists {
	const char **args, **env;
	uint32_t *groups;
	size_t nargs, nenv, ngroups;
};

/* Counts the texts of the blob that begin with `prefix`. */
static size_t count(const char *blob, size_t len, const char *prefix)
{
	size_t n = 0;

	for (size_t at = 0; at < len; at += strlen(blob + at) + 1)
		n += str_starts(blob + at, prefix);
	return n;
}

static int make_lists(struct arena *a, const char *blob, size_t len, struct lists *l)
{
	const size_t args = count(blob, len, "arg="), env = count(blob, len, "env="),
		     groups = count(blob, len, "group=");

	if (args > AGENT_PROGRAM_WORDS_MAX || env > AGENT_PROGRAM_WORDS_MAX ||
		groups > AGENT_PROGRAM_GROUPS_MAX)
		return err_set(EPROTO,
			"the program has %zu arguments, %zu variables and %zu groups: expected at "
			"most %d, %d and %d",
			args, env, groups, AGENT_PROGRAM_WORDS_MAX, AGENT_PROGRAM_WORDS_MAX,
			AGENT_PROGRAM_GROUPS_MAX);
	l->args = arena_array(a, args + 1, sizeof(*l->args));
	l->env = arena_array(a, env + 1, sizeof(*l->env));
	l->groups = arena_array(a, groups + 1, sizeof(*l->groups));
	return l->args && l->env && l->groups ? 0 : -ENOMEM;
}

static int take_number(const char *text, uint64_t max, uint32_t *ret)
{
	uint64_t n;

	if (str_to_u64(text, &n) < 0 || n > max)
		return err_set(EPROTO, "the program: \"%s\": expected a number up to %llu", text,
			(unsigned long long)max);
	*ret = (uint32_t)n;
	return 0;
}

static int take_value(struct spec_process *p, const char *name, const char *value)
{
	uint32_t n = 0;
	const struct {
		const char *name;
		uint64_t max;
	} numbers[] = {{"uid", UINT32_MAX - 1}, {"gid", UINT32_MAX - 1}, {"rows", UINT16_MAX},
		{"columns", UINT16_MAX}, {"terminal", 1}, {"no-new-privileges", 1}};
	size_t i = 0;

	if (streq(name, "cwd")) {
		p->cwd = value;
		return value[0] == '/'
			       ? 0
			       : err_set(EPROTO,
					 "the program: cwd \"%s\": expected an absolute path",
					 value);
	}
	while (i < ARRAY_SIZE(numbers) && !streq(name, numbers[i].name))
		i++;
	if (i == ARRAY_SIZE(numbers))
		return err_set(
			EPROTO, "the program has \"%s\", which this agent does not know", name);
	int r = take_number(value, numbers[i].max, &n);
	if (streq(name, "uid"))
		p->user.uid = n;
	else if (streq(name, "gid"))
		p->user.gid = n;
	else if (streq(name, "rows"))
		p->console_height = (uint16_t)n;
	else if (streq(name, "columns"))
		p->console_width = (uint16_t)n;
	else if (streq(name, "terminal"))
		p->terminal = n;
	else
		p->no_new_privileges = n;
	return r;
}

static int take_text(struct lists *l, struct spec_process *p, char *text)
{
	char *value = strchr(text, '=');

	if (!value)
		return err_set(EPROTO, "the program: \"%s\": expected NAME=VALUE", text);
	*value++ = '\0';
	if (streq(text, "arg"))
		l->args[l->nargs++] = value;
	else if (streq(text, "env"))
		l->env[l->nenv++] = value;
	else if (streq(text, "group"))
		return take_number(value, UINT32_MAX - 1, &l->groups[l->ngroups++]);
	else
		return take_value(p, text, value);
	return 0;
}

int agent_program_unpack(struct arena *a, const void *blob, size_t len, struct spec_process *ret)
{
	char *copy = arena_alloc(a, len + 1);
	struct lists l = {0};
	int r = copy ? 0 : -ENOMEM;

	*ret = (struct spec_process){.cwd = "/"};
	if (r >= 0 && len)
		memcpy(copy, blob, len);
	if (r >= 0 && (!len || copy[len - 1]))
		return err_set(EPROTO, "the program: expected texts that end in a NUL");
	if (r >= 0)
		r = make_lists(a, copy, len, &l);
	for (size_t at = 0, next; at < len && r >= 0; at = next) {
		/* The end of the text is found first, because take_text() cuts the text in two. */
		next = at + strlen(copy + at) + 1;
		r = take_text(&l, ret, copy + at);
	}
	if (r < 0)
		return r;
	if (!l.nargs || !*l.args[0])
		return err_set(EPROTO, "the program: expected an argument, its name");
	ret->args = (struct spec_strings){l.args, l.nargs};
	ret->env = (struct spec_strings){l.env, l.nenv};
	ret->user.additional_gids = l.groups;
	ret->user.nadditional_gids = l.ngroups;
	return 0;
}
