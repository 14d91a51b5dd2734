/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/pattern.h"

#define PRESERVED_MAX (1 << 20)

int cmd_print(const char *text, size_t len)
{
	int r = fd_write_all(STDOUT_FILENO, text, len);

	if (r < 0) {
		errno = -r;
		return err_sys("write to standard output");
	}
	return 0;
}

int cmd_print_json(struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf line = {0};
	const char *text;
	size_t len;

	int r = json_out_text(o, &text, &len);
	if (r >= 0)
		r = strbuf_add(&line, text, len);
	if (r >= 0 && (!len || text[len - 1] != '\n'))
		r = strbuf_add(&line, "\n", 1);
	return r < 0 ? r : cmd_print(strbuf_str(&line), line.len);
}

static int print_help(const struct command *self, const struct option_def *defs)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = strbuf_addf(
		&out, "Usage: caisson %s %s\n\n%s\n", self->name, self->usage, self->summary);
	if (r >= 0 && self->text)
		r = strbuf_addf(&out, "\n%s\n", self->text);
	if (r >= 0 && defs->name)
		r = strbuf_addf(&out, "\nOptions:\n");
	if (r >= 0)
		r = options_help(defs, &out);
	if (r >= 0)
		r = strbuf_addf(
			&out, "\nGlobal options go before the command: see caisson --help.\n");
	return r < 0 ? r : cmd_print(strbuf_str(&out), out.len);
}

int cmd_parse(const struct command *self, const struct option_def *defs, int argc, char **argv,
	struct arguments *args)
{
	bool help;
	int n = options_parse(defs, argc, argv, args->stop_at_first, &help);

	if (n < 0)
		return err_ctx(n, "%s", self->name);
	if (help) {
		int r = print_help(self, defs);
		return r < 0 ? r : 1;
	}
	if (n < args->min || (args->max >= 0 && n > args->max))
		return err_set(EINVAL, "%s: %s arguments. Usage: caisson %s %s", self->name,
			n < args->min ? "missing" : "too many", self->name, self->usage);
	/*
	 * options_parse() moved the options away from behind the arguments. The arguments end in
	 * NULL here, as those of main() do, because exec hands them on.
	 */
	argv[n] = NULL;
	args->n = n;
	args->v = argv;
	return 0;
}

int cmd_open(const struct globals *g, const char *id, bool lock, struct container *ret)
{
	struct arena a = {0};
	const char *root;

	int r = container_root(&a, g->root, &root);
	if (r >= 0)
		r = container_open(ret, root, id, lock);
	arena_release(&a);
	return r;
}

struct matching {
	const char *root;
	struct pattern *pattern;
	bool lock;
	int (*f)(void *data, struct container *c);
	void *data;
};

static int call_if_matching(void *data, const char *id)
{
	struct matching *m = data;
	_cleanup_container_ struct container c = CONTAINER_INIT;

	if (!pattern_matches(m->pattern, id))
		return 0;
	int r = container_open(&c, m->root, id, m->lock);
	/*
	 * The container was deleted in between, or the directory is no container's: see cmd/list.c.
	 */
	if (r == -ENOENT || c.dir < 0 || (r >= 0 && !c.bundle))
		return 0;
	if (r >= 0)
		r = m->f(m->data, &c);
	if (r < 0)
		log_warn("%s", err_msg());
	return 0;
}

int cmd_each(const struct globals *g, const char *regex, bool lock,
	int (*f)(void *data, struct container *c), void *data)
{
	_cleanup_arena_ struct arena a = {0};
	struct matching m = {.lock = lock, .f = f, .data = data};

	int r = container_root(&a, g->root, &m.root);
	if (r < 0)
		return r;
	r = pattern_compile(regex, &m.pattern);
	if (r < 0)
		return err_ctx(r, "--regex \"%s\"", regex);
	r = container_each(m.root, call_if_matching, &m);
	pattern_free(m.pattern);
	return r;
}

int cmd_manager(const struct globals *g, enum cg_manager *ret)
{
	const char *name = g->cgroup_manager   ? g->cgroup_manager
			   : g->systemd_cgroup ? "systemd"
					       : "cgroupfs";

	if (streq(name, "cgroupfs"))
		*ret = CG_CGROUPFS;
	else if (streq(name, "systemd"))
		*ret = CG_SYSTEMD;
	else if (streq(name, "disabled"))
		*ret = CG_DISABLED;
	else
		return err_set(EINVAL,
			"--cgroup-manager %s: expected cgroupfs, systemd or disabled", name);
	return 0;
}

int cmd_check_preserved(int n)
{
	if (n < 0 || n > PRESERVED_MAX)
		return err_set(EINVAL, "--preserve-fds: expected at most %d", PRESERVED_MAX);
	for (int fd = 3; fd < 3 + n; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			return err_set(EBADF,
				"--preserve-fds (with LISTEN_FDS): descriptor %d is not open", fd);
	return 0;
}
