/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson image ...`, `caisson run --image ...` and `caisson create --image ...` execute
 * caisson-image. That is a program of its own, because loading the libraries that read registries
 * and layers would slow down every create and start.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/cmd.h"

#define PROGRAM "caisson-image"
#define NEEDS "OpenSSL, zstd and ISA-L"
#define OWN_WORDS 48 /* words that stand in front of the caller's */

int cmd_image(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/* argv[-1] is the word "image", and the list has NULL at its end, as that of main() has. */
	return cmd_execute(PROGRAM, NEEDS, argv - 1);
}

bool cmd_has_image(int argc, char **argv)
{
	for (int i = 0; i < argc && !streq(argv[i], "--"); i++)
		if (streq(argv[i], "--image") || str_starts(argv[i], "--image="))
			return true;
	return false;
}

struct words {
	char **v;
	size_t n;
};

static void add(struct words *w, const char *option, const char *value)
{
	if (option)
		w->v[w->n++] = (char *)option;
	if (value)
		w->v[w->n++] = (char *)value;
}

/* Adds an option of caisson itself. caisson-image passes it on to the caisson that it becomes. */
static void add_global(struct words *w, const char *option, const char *value)
{
	if (!value)
		return;
	add(w, "--runtime-option", option);
	add(w, "--runtime-option", value);
}

static int add_globals(struct words *w, struct arena *a, const struct globals *g)
{
	char self[PATH_MAX];
	const char *root;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_sys("find the path of caisson");
	self[n] = '\0';
	int r = container_root(a, g->root, &root);
	if (r < 0)
		return r;
	_cleanup_free_ char *cwd = *root == '/' ? NULL : getcwd(NULL, 0);
	const char *absolute = arena_printf(a, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", root);
	const char *path = arena_strdup(a, self);
	if (!absolute || !path)
		return -ENOMEM;
	add(w, "--runtime", path);
	add(w, "--state-root", absolute);
	add_global(w, "--root", absolute);
	add_global(w, "--log", g->log);
	add_global(w, "--log-format", g->log_format);
	add_global(w, "--log-level", g->debug ? "debug" : g->log_level);
	add_global(w, "--cgroup-manager",
		g->systemd_cgroup && !g->cgroup_manager ? "systemd" : g->cgroup_manager);
	add_global(w, "--rootless", g->rootless);
	if (g->vm)
		add(w, "--isolation", "vm");
	return 0;
}

int cmd_run_image(const struct command *self, const struct globals *g, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct words w = {.v = calloc((size_t)argc + OWN_WORDS + 1, sizeof(*w.v))};
	_cleanup_free_ char **owned = w.v;

	if (!w.v)
		return err_set(ENOMEM, "out of memory");
	add(&w, PROGRAM, g->debug ? "--debug" : NULL);
	add(&w, self->name, NULL);
	int r = add_globals(&w, &a, g);
	for (int i = 0; i < argc && r >= 0; i++)
		add(&w, argv[i], NULL);
	return r < 0 ? r : cmd_execute(PROGRAM, NEEDS, owned);
}
