/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <regex.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/libexec.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "launch/env.h"

#define PRESERVED_MAX (1 << 20)

static int print_help(const struct command *self, const struct option_def *defs)
{
	const struct command_help h = {"caisson", self->name, self->usage, self->summary,
		self->text, "Global options go before the command: see caisson --help."};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = options_help_command(&h, defs, &out);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
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
	 * options_parse() has moved the arguments to the front of argv. A NULL is put behind the
	 * last argument, as behind the arguments of main(), because `exec` passes the arguments to
	 * execve(2).
	 */
	argv[n] = NULL;
	args->n = n;
	args->v = argv;
	return 0;
}

bool cmd_has_option(int argc, char **argv, const char *name)
{
	size_t len = strlen(name);

	for (int i = 0; i < argc && !streq(argv[i], "--"); i++)
		if (str_starts(argv[i], name) && (!argv[i][len] || argv[i][len] == '='))
			return true;
	return false;
}

int cmd_execute(const char *program, const char *needs, char **words)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;

	int r = libexec_program(&a, program, &path);
	if (r < 0)
		return r;
	words[0] = (char *)path;
	execv(path, words);
	return err_sys("execute %s (build caisson with %s, or set " LIBEXEC_VARIABLE
		       " to the directory it is in)",
		path, needs);
}

int cmd_open_any(const struct globals *g, const char *id, bool lock, struct container *ret)
{
	struct arena a = {0};
	const char *root;

	int r = container_root(&a, g->root, &root);
	if (r >= 0)
		r = container_open(ret, root, id, lock);
	arena_release(&a);
	return r;
}

int cmd_open(const struct globals *g, const char *id, bool lock, struct container *ret)
{
	enum container_status status;

	int r = cmd_open_any(g, id, lock, ret);
	if (r < 0 || ret->bundle)
		return r;
	r = container_status(ret, &status);
	if (r < 0 || status == CONTAINER_CREATING)
		return r;
	return err_set(ENOENT,
		"container does not exist: \"%s\": its directory in --root has no state.json: if a "
		"killed `create` left it, `caisson delete --force %s` removes it",
		id, id);
}

struct matching {
	const char *root;
	regex_t regex;
	bool lock;
	int (*f)(void *data, struct container *c);
	void *data;
};

static int call_if_matching(void *data, int root_dir, const char *id)
{
	struct matching *m = data;
	_cleanup_container_ struct container c = CONTAINER_INIT;

	if (regexec(&m->regex, id, 0, NULL, 0) != 0)
		return 0;
	int r = container_open(&c, m->root, id, m->lock);
	/*
	 * Skips a container that was deleted in the meantime, and a directory that does not belong
	 * to a container.
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
	char why[128];

	int r = container_root(&a, g->root, &m.root);
	if (r < 0)
		return r;
	int bad = regcomp(&m.regex, regex, REG_EXTENDED | REG_NOSUB);
	if (bad) {
		regerror(bad, &m.regex, why, sizeof(why));
		return err_set(EINVAL, "--regex \"%s\": %s", regex, why);
	}
	r = container_each(m.root, call_if_matching, &m);
	regfree(&m.regex);
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

/*
 * Says whether caisson's caller left the descriptor open for the program. The caller did so if the
 * descriptor is not close-on-exec, because caisson opens its own descriptors close-on-exec.
 */
static bool is_callers(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

/*
 * Occupies the descriptor number fd by a close-on-exec descriptor of /dev/null. Otherwise a file
 * that caisson opens later could get a number that is passed to the program.
 */
static int fill_hole(int fd)
{
	if (fcntl(fd, F_GETFD) >= 0)
		return 0;
	_cleanup_fd_ int null = open("/dev/null", O_PATH | O_CLOEXEC);
	if (null == fd)
		return take_fd(&null) < 0 ? -EBADF : 0;
	if (null < 0 || fcntl(null, F_DUPFD_CLOEXEC, fd) != fd)
		return err_sys("--preserve-fds: occupy descriptor %d, which is not open", fd);
	return 0;
}

int cmd_preserve(int *preserve_fds)
{
	const int listen = launch_listen_fds(), first = 3 + listen;
	int end = first, n = 0, r = 0;

	if (*preserve_fds < 0 || *preserve_fds > PRESERVED_MAX)
		return err_set(EINVAL, "--preserve-fds: expected at most %d", PRESERVED_MAX);
	for (int fd = 3; fd < first; fd++)
		if (!is_callers(fd))
			return err_set(EBADF,
				"LISTEN_FDS=%d: descriptor %d is not open, though LISTEN_PID says "
				"that it is for this process",
				listen, fd);
	for (int fd = first; fd < first + *preserve_fds; fd++) {
		if (!is_callers(fd))
			continue;
		n++;
		end = fd + 1;
	}
	if (n < *preserve_fds)
		log_warn("--preserve-fds %d: only %d of the descriptors %d to %d are open, and the "
			 "program gets these",
			*preserve_fds, n, first, first + *preserve_fds - 1);
	for (int fd = first; r >= 0 && fd < end; fd++)
		r = fill_hole(fd);
	*preserve_fds = end - first;
	if (r >= 0 && close_range((unsigned)end, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		r = err_sys("mark descriptors close-on-exec");
	return r;
}
