/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <limits.h>

static const struct option_def *find(const struct option_def *defs, const char *name, size_t len)
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

int options_parse(
	const struct option_def *defs, int argc, char **argv, bool stop_at_first, bool *ret_help)
{
	int kept = 0, i;

	*ret_help = false;
	for (i = 0; i < argc; i++) {
		if (streq(argv[i], "--")) {
			i++;
			break;
		}
		if (!is_option(argv[i])) {
			if (stop_at_first)
				break;
			argv[kept++] = argv[i];
			continue;
		}
		const char *name = argv[i] + 1 + (argv[i][1] == '-');
		size_t len = strcspn(name, "=");
		const char *value = name[len] ? name + len + 1 : NULL;
		const struct option_def *d = find(defs, name, len);
		if (!d && is_help(name, len)) {
			*ret_help = true;
			continue;
		}
		if (!d)
			return err_set(EINVAL, "unknown option %s", argv[i]);
		if (!is_flag(d) && !value) {
			/* podman looks for these words to see whether an option is known. */
			if (i + 1 == argc)
				return err_set(EINVAL, "option --%s requires an argument", d->name);
			value = argv[++i];
		}
		int r = is_flag(d) ? set_flag(d, value) : set_value(d, value);
		if (r < 0)
			return r;
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
		if (d->type == OPTION_IGNORED)
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
