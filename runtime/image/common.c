/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rootless.h"
#include "image/image.h"

void image_size_text(uint64_t bytes, char *buf, size_t size)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 999.95 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1000;
		u++;
	}
	snprintf(buf, size, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
}

static int print_help(const struct image_command *self, const struct option_def *defs)
{
	const struct command_help h = {"caisson image", self->name, self->usage, self->summary,
		self->text,
		"Options of all commands go before the command: see caisson image --help."};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = options_help_command(&h, defs, &out);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

int image_parse(const struct image_command *self, const struct option_def *defs, int argc,
	char **argv, struct image_arguments *args)
{
	bool help;
	int n = options_parse(defs, argc, argv, args->stop_at_first, &help);

	if (n < 0)
		return n;
	if (help) {
		int r = print_help(self, defs);
		return r < 0 ? r : 1;
	}
	if (n < args->min || (args->max >= 0 && n > args->max))
		return err_set(EINVAL, "usage: caisson image %s %s", self->name, self->usage);
	argv[n] = NULL;
	args->n = n;
	args->v = argv;
	return 0;
}

#define GLOBAL_OPTIONS(g) \
	{ \
		{"store", 0, OPTION_STRING, &(g)->store, "DIR", \
			"the store (default: /var/lib/caisson; users: ~/.local/share/caisson)"}, \
			{"quiet", 'q', OPTION_FLAG, &(g)->quiet, NULL, \
				"no progress, no warnings, names only"}, \
			{"debug", 0, OPTION_FLAG, &(g)->debug, NULL, \
				"say more, on standard error"}, \
			{"no-sync", 0, OPTION_FLAG, &(g)->no_sync, NULL, \
				"faster: what is written may not outlive a crash of the machine"}, \
			{0}, \
	}

int image_parse_globals(struct image_globals *g, int argc, char **argv, bool *ret_help)
{
	const struct option_def defs[] = GLOBAL_OPTIONS(g);

	int n = options_parse(defs, argc, argv, true, ret_help);
	int r = n < 0 ? n : log_open(NULL, "text", g->debug ? LOG_DEBUG : LOG_WARN);
	return r < 0 ? r : n;
}

int image_globals_help(struct strbuf *out)
{
	struct image_globals g;
	const struct option_def defs[] = GLOBAL_OPTIONS(&g);

	return options_help(defs, out);
}

int image_open_store(const struct image_globals *g, struct store *ret)
{
	return store_open(ret, g->store, g->no_sync ? STORE_NO_SYNC : STORE_SYNC);
}

int image_platform(
	struct arena *a, const char *text, struct platform *buf, const struct platform **ret)
{
	*ret = NULL;
	if (!text)
		return 0;
	*ret = buf;
	return platform_parse(a, text, buf);
}

void image_become_root(void)
{
	struct rootless rootless;

	if (rootless_become_root(&rootless) < 0)
		log_debug("%s", err_msg());
	err_clear();
}

int image_open_container(const struct image_globals *g, struct arena *a, const char *name,
	struct store *s, struct container_uses *ret)
{
	struct rootless rootless;
	/*
	 * The store is opened before the process becomes root in a user namespace, because the path
	 * of the store depends on the caller's user id.
	 */
	int r = image_open_store(g, s);

	if (r >= 0)
		r = rootless_become_root(&rootless);
	return r < 0 ? r : container_dir_read(s, a, name, ret);
}
