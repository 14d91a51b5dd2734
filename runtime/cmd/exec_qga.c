/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `exec` by qemu-guest-agent, in a machine with an operating system of its own in which
 * no agent of caisson answers.
 */
#include <poll.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "cmd/exec.h"
#include "launch/qga_client.h"

#define WHERE "where qemu-guest-agent runs commands, "
#define INSTEAD "; `caisson machine install-agent` puts caisson's agent, which can, into a disk"
/* After this time, in ms, `exec` says why it waits for the end of standard input. */
#define PATIENCE_MS 3000

static int refuse(const struct exec_args *x, const struct exec_options *o, struct container *c)
{
	const struct exec_option tty = {x->tty, "--tty"}, cwd = {x->cwd, "--cwd"};
	const struct exec_option user[] = {{x->user, "--user"}, {x->gids.n, "--additional-gids"}};

	int r = exec_refuse_agents_options(
		x, o, c, WHERE "which can't do that: leave it out" INSTEAD);
	if (r >= 0)
		r = exec_refuse_options(c, &tty, 1,
			WHERE "which has no terminal: give `caisson run` an --ssh-key, and then "
			      "`caisson exec --tty` goes by ssh" INSTEAD);
	if (r >= 0)
		r = exec_refuse_options(c, &cwd, 1,
			WHERE "which runs them in /: use `env --chdir DIR COMMAND` or `sh -c` in "
			      "the machine" INSTEAD);
	if (r >= 0)
		r = exec_refuse_options(c, user, ARRAY_SIZE(user),
			WHERE "which runs them as root: use a program in the machine, such as "
			      "runuser" INSTEAD);
	return r;
}

/* JSON, which the agent reads, has no other text than UTF-8. */
static int check_text(const char *what, const char *text)
{
	uint32_t c = 0;

	for (size_t i = 0, len = strlen(text); i < len && c != STR_NO_UTF8;)
		i += str_utf8(text + i, len - i, &c);
	return c == STR_NO_UTF8 ? err_set(EINVAL,
					  "exec: %s \"%s\": qemu-guest-agent takes only text in "
					  "UTF-8" INSTEAD,
					  what, text)
				: 0;
}

/* Makes the program's environment, which has a PATH and, because it runs as root, root's HOME. */
static int make_env(struct container *c, const struct exec_args *x, struct spec_strings *ret)
{
	const char **env = arena_array(&c->arena, x->env.n + 3, sizeof(*env));
	size_t n = 0;

	if (!env)
		return -ENOMEM;
	env[n++] = EXEC_PATH;
	env[n++] = "HOME=/root";
	for (size_t i = 0; i < x->env.n; i++) {
		if (!strchr(x->env.v[i], '='))
			return err_set(EINVAL, "--env %s: expected NAME=VALUE", x->env.v[i]);
		int r = check_text("--env", x->env.v[i]);
		if (r < 0)
			return r;
		env[n++] = x->env.v[i];
	}
	*ret = (struct spec_strings){.v = env, .n = n};
	return 0;
}

/*
 * Reads standard input to its end, because the agent takes it only as a whole, before the program
 * starts. A terminal is not read: its end is when somebody types Ctrl-D, for which a user who wants
 * to see a program's output would not look.
 */
static int read_input(struct strbuf *ret)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	bool told = false;

	if (fd_is_null(STDIN_FILENO) || isatty(STDIN_FILENO))
		return 0;
	for (;;) {
		int n = poll(&p, 1, told ? -1 : PATIENCE_MS);
		if (n < 0 && errno != EINTR)
			return err_sys("wait for standard input");
		if (n == 0) {
			log_warn("exec: waits for the end of standard input, which "
				 "qemu-guest-agent takes only as a whole: end it, or give exec "
				 "</dev/null");
			told = true;
		}
		if (n <= 0)
			continue;
		int r = strbuf_reserve(ret, 65536);
		ssize_t got = r < 0 ? 0 : read(STDIN_FILENO, ret->s + ret->len, 65536);
		if (got < 0 && errno != EINTR && errno != EAGAIN)
			return err_sys("read standard input");
		if (r < 0 || got == 0)
			return r;
		ret->len += got > 0 ? (size_t)got : 0;
		if (ret->len > QGA_INPUT_MAX)
			return err_set(EFBIG,
				"exec: standard input: more than %zu bytes, the most that "
				"qemu-guest-agent is given" INSTEAD,
				QGA_INPUT_MAX);
	}
}

static int write_piece(void *data, int fd, const void *piece, size_t len)
{
	int r = fd_write_all(fd, piece, len);

	return r < 0 ? err_set(-r, "write to standard %s: %s",
			       fd == STDOUT_FILENO ? "output" : "error", err_text(-r))
		     : 0;
}

static int run(const struct exec_args *x, const struct exec_options *o, struct container *c,
	const struct arguments *args, int *ret_status)
{
	_cleanup_strbuf_ struct strbuf input = {0};
	struct qga_program p = {
		.args = {.v = (const char *const *)args->v + 1, .n = (size_t)args->n - 1},
		.input = &input,
		.output = o->detach ? NULL : write_piece};
	struct qga_end end;

	int r = make_env(c, x, &p.env);
	for (size_t i = 0; i < p.args.n && r >= 0; i++)
		r = check_text("argument", p.args.v[i]);
	if (r >= 0)
		r = read_input(&input);
	if (r >= 0)
		r = qga_run(c, &p, &end);
	if (r < 0)
		return err_ctx(r, "exec");
	if (end.truncated)
		return err_set(EFBIG,
			"exec: standard %s is cut: qemu-guest-agent keeps no more than 16 MiB of "
			"it" INSTEAD,
			end.truncated);
	*ret_status = WIFEXITED(end.status) ? WEXITSTATUS(end.status) : 128 + WTERMSIG(end.status);
	return 0;
}

int exec_by_qga(const struct exec_args *x, const struct exec_options *o, struct container *c,
	const struct arguments *args, int *ret_status)
{
	const bool ssh = cmd_has_ssh(c);

	if (x->tty && ssh)
		return 1;
	int r = refuse(x, o, c);
	if (r >= 0) {
		r = qga_check(c);
		if (r < 0 && ssh) {
			log_debug("%s", err_msg());
			err_clear();
			return 1;
		}
		if (r < 0)
			return err_ctx(r, "exec");
	}
	return r < 0 ? r : run(x, o, c, args, ret_status);
}
