/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/options.h"

#include <limits.h>

static const struct option_def *find_option(
	const struct option_def *defs, const char *name, size_t len)
{
	for (const struct option_def *d = defs; d->name; d++) {
		if (strlen(d->name) == len && strncmp(d->name, name, len) == 0)
			return d;
		if (len == 1 && d->letter && d->letter == name[0])
			return d;
	}
	return NULL;
}

static int set_flag(const struct option_def *d, const char *value)
{
	bool on = !value || streq(value, "true") || streq(value, "1");

	if (value && !on && !streq(value, "false") && !streq(value, "0"))
		return err_set(EINVAL, "--%s=%s: expected true or false", d->name, value);
	if (d->type == OPTION_OPT_FLAG)
		*(struct opt_bool *)d->value = (struct opt_bool){.set = true, .v = on};
	else
		*(bool *)d->value = on;
	return 0;
}

static int set_value(const struct option_def *d, const char *value)
{
	uint64_t n;

	switch (d->type) {
	case OPTION_STRING:
		if (*value)
			*(const char **)d->value = value;
		return 0;
	case OPTION_COUNT:
		if (str_to_u64(value, &n) < 0 || n > INT_MAX)
			return err_set(
				EINVAL, "--%s %s: expected a number, 0 or more", d->name, value);
		*(int *)d->value = (int)n;
		return 0;
	case OPTION_LIST: {
		struct option_list *l = d->value;
		if (l->n == ARRAY_SIZE(l->v))
			return err_set(E2BIG, "--%s: given more than %zu times", d->name,
				ARRAY_SIZE(l->v));
		l->v[l->n++] = value;
		return 0;
	}
	default:
		return 0;
	}
}

static bool is_flag(const struct option_def *d)
{
	return d->type == OPTION_FLAG || d->type == OPTION_OPT_FLAG;
}

static bool is_option(const char *arg)
{
	return arg[0] == '-' && arg[1];
}

static bool is_help(const char *name, size_t len)
{
	return (len == 4 && strncmp(name, "help", 4) == 0) || (len == 1 && *name == 'h');
}

/* The words of the command line that are not yet parsed; argv[0] is the next one. */
struct words {
	const struct option_def *defs;
	int argc;
	char **argv;
	bool *help;
};

static int unknown_option(const struct words *w)
{
	return err_set(EINVAL,
		"unknown option %s (--help lists them; options of all commands, such as --debug, "
		"go before the command)",
		w->argv[0]);
}

/*
 * Sets the option `d` to `value`. If `value` is NULL, the next word of the command line is the
 * value. Returns how many words were used, the option's own word included.
 */
static int take_option(const struct words *w, const struct option_def *d, const char *value)
{
	int n = 1;

	if (!is_flag(d) && !value) {
		/*
		 * The error must contain the words "requires an argument", because podman finds out
		 * from these words whether the runtime knows an option.
		 */
		if (w->argc == 1)
			return err_set(EINVAL, "option --%s requires an argument", d->name);
		value = w->argv[n++];
	}
	int r = is_flag(d) ? set_flag(d, value) : set_value(d, value);
	return r < 0 ? r : n;
}

/*
 * Parses a word that consists of one-letter options, such as "-dt", "-u1000" or "-eA=b". The first
 * letter that needs a value takes the rest of the word as its value.
 */
static int parse_letters(const struct words *w)
{
	int r = 0;

	for (const char *p = w->argv[0] + 1; *p && r >= 0; p++) {
		const struct option_def *d = find_option(w->defs, p, 1);
		if (!d && !is_help(p, 1))
			return unknown_option(w);
		if (!d)
			*w->help = true;
		else if (!is_flag(d))
			return take_option(w, d, p[1] ? p + 1 : NULL);
		else if (p[1] == '=')
			return take_option(w, d, p + 2);
		else
			r = set_flag(d, NULL);
	}
	return r < 0 ? r : 1;
}

static int parse_option(const struct words *w)
{
	const char *word = w->argv[0], *name = word + 1 + (word[1] == '-');
	size_t len = strcspn(name, "=");
	const struct option_def *d = find_option(w->defs, name, len);

	if (d)
		return take_option(w, d, name[len] ? name + len + 1 : NULL);
	if (is_help(name, len)) {
		*w->help = true;
		return 1;
	}
	return word[1] == '-' ? unknown_option(w) : parse_letters(w);
}

int options_parse(
	const struct option_def *defs, int argc, char **argv, bool stop_at_first, bool *ret_help)
{
	int kept = 0, i = 0;

	*ret_help = false;
	while (i < argc) {
		if (streq(argv[i], "--")) {
			i++;
			break;
		}
		if (!is_option(argv[i])) {
			if (stop_at_first)
				break;
			argv[kept++] = argv[i++];
			continue;
		}
		const struct words rest = {defs, argc - i, argv + i, ret_help};
		int n = parse_option(&rest);
		if (n < 0)
			return n;
		i += n;
	}
	while (i < argc)
		argv[kept++] = argv[i++];
	return kept;
}

int options_help(const struct option_def *defs, struct strbuf *out)
{
	int r = 0;

	for (const struct option_def *d = defs; d->name && r >= 0; d++) {
		_cleanup_strbuf_ struct strbuf left = {0};
		if (d->type == OPTION_IGNORED || !d->help)
			continue;
		r = strbuf_addf(
			&left, "  --%s%s%s", d->name, d->arg ? " " : "", d->arg ? d->arg : "");
		if (r >= 0 && d->letter)
			r = strbuf_addf(&left, ", -%c", d->letter);
		if (r >= 0)
			r = strbuf_addf(out, "%-34s %s\n", strbuf_str(&left), d->help);
	}
	return r;
}

int options_help_command(
	const struct command_help *h, const struct option_def *defs, struct strbuf *out)
{
	int r = strbuf_addf(
		out, "Usage: %s %s %s\n\n%s\n", h->program, h->name, h->usage, h->summary);

	if (r >= 0 && h->text)
		r = strbuf_addf(out, "\n%s\n", h->text);
	if (r >= 0 && defs->name)
		r = strbuf_addf(out, "\nOptions:\n");
	if (r >= 0)
		r = options_help(defs, out);
	if (r >= 0 && h->end)
		r = strbuf_addf(out, "\n%s\n", h->end);
	return r;
}
