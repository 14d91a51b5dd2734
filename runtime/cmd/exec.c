/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "cmd/exec.h"
#include "launch/attend.h"
#include "launch/vm_client.h"

static int parse_id(const char *text, const char *what, uint32_t *ret)
{
	uint64_t n;

	if (str_to_u64(text, &n) < 0 || n >= UINT32_MAX)
		return err_set(EINVAL, "%s \"%s\": expected a numeric id", what, text);
	*ret = (uint32_t)n;
	return 0;
}

static int set_user(struct arena *a, struct spec_user *u, const struct exec_args *x)
{
	int r = 0;

	if (x->user) {
		const char *colon = strchr(x->user, ':');
		char *uid = arena_strndup(
			a, x->user, colon ? (size_t)(colon - x->user) : strlen(x->user));
		if (!uid)
			return -ENOMEM;
		r = parse_id(uid, "--user", &u->uid);
		if (r >= 0 && colon)
			r = parse_id(colon + 1, "--user", &u->gid);
	}
	if (r < 0 || !x->gids.n)
		return r;
	uint32_t *gids = arena_array(a, u->nadditional_gids + x->gids.n, sizeof(*gids));
	if (!gids)
		return -ENOMEM;
	for (size_t i = 0; i < u->nadditional_gids; i++)
		gids[i] = u->additional_gids[i];
	for (size_t i = 0; i < x->gids.n && r >= 0; i++)
		r = parse_id(x->gids.v[i], "--additional-gids", &gids[u->nadditional_gids++]);
	u->additional_gids = gids;
	return r;
}

/*
 * Adds the capabilities that --cap asks for to the bounding, effective and permitted sets. They are
 * never added to the inheritable set (CVE-2022-29162). So they cannot be ambient either, because
 * the kernel requires ambient capabilities to be inheritable.
 */
static int set_caps(struct arena *a, struct spec_process *p, const struct exec_args *x)
{
	if (!x->caps.n)
		return 0;
	struct spec_capabilities *c = arena_alloc(a, sizeof(*c));
	if (!c)
		return -ENOMEM;
	if (p->capabilities)
		*c = *p->capabilities;
	for (size_t i = 0; i < x->caps.n; i++) {
		unsigned n;
		int r = spec_parse_capability(x->caps.v[i], &n);
		if (r < 0)
			return err_ctx(r, "--cap");
		c->bounding |= 1ULL << n;
		c->effective |= 1ULL << n;
		c->permitted |= 1ULL << n;
	}
	p->capabilities = c;
	return 0;
}

static int set_env(struct arena *a, struct spec_process *p, const struct exec_args *x)
{
	const char **env = arena_array(a, p->env.n + x->env.n + 1, sizeof(*env));

	if (!env)
		return -ENOMEM;
	for (size_t i = 0; i < p->env.n; i++)
		env[i] = p->env.v[i];
	for (size_t i = 0; i < x->env.n; i++) {
		if (!strchr(x->env.v[i], '='))
			return err_set(EINVAL, "--env %s: expected NAME=VALUE", x->env.v[i]);
		env[p->env.n + i] = x->env.v[i];
	}
	p->env = (struct spec_strings){.v = env, .n = p->env.n + x->env.n};
	return 0;
}

/*
 * Describes the process that `exec` runs: a copy of the container's `process` in config.json with
 * other arguments, and with the changes that the options ask for.
 */
static int process_from_options(struct container *c, const struct exec_args *x, int argc,
	char **argv, const struct spec_process **ret)
{
	struct spec_process *p = arena_alloc(&c->arena, sizeof(*p));
	const struct spec *s;

	int r = container_spec(c, &s);
	if (r < 0 || !p)
		return r < 0 ? r : -ENOMEM;
	if (s->process)
		*p = *s->process;
	else
		p->cwd = "/";
	/*
	 * The arguments can be used as they are, because the list argv ends in NULL, as that of
	 * main() does.
	 */
	p->args = (struct spec_strings){.v = (const char *const *)argv, .n = (size_t)argc};
	p->terminal = x->tty;
	/* In the foreground the new terminal gets the size of caisson's own terminal. */
	launch_window_size(&p->console_height, &p->console_width);
	if (x->cwd)
		p->cwd = x->cwd;
	if (p->cwd[0] != '/')
		return err_set(EINVAL, "--cwd %s: expected an absolute path", p->cwd);
	if (x->apparmor)
		p->apparmor_profile = x->apparmor;
	if (x->label)
		p->selinux_label = x->label;
	if (x->no_new_privs.set)
		p->no_new_privileges = x->no_new_privs.v;
	r = set_user(&c->arena, &p->user, x);
	if (r >= 0)
		r = set_caps(&c->arena, p, x);
	if (r >= 0)
		r = set_env(&c->arena, p, x);
	*ret = p;
	return r;
}

/*
 * Describes the process that `exec` runs by the file of --process. Properties that the file leaves
 * out are taken from the container's process, so that a short file does not run a process
 * unconfined; runc and crun each do a part of this. noNewPrivileges is always taken from the file,
 * as in runc and crun.
 */
static int process_from_file(
	struct container *c, const struct exec_args *x, const struct spec_process **ret)
{
	const struct spec_process *read;
	struct spec_process *p = arena_alloc(&c->arena, sizeof(*p));
	const struct spec *s;

	int r = spec_load_process(&c->arena, x->process_file, &read);
	if (r < 0)
		return err_ctx(r, "--process %s", x->process_file);
	r = container_spec(c, &s);
	if (r < 0 || !p)
		return r < 0 ? r : -ENOMEM;
	*p = *read;
	if (s->process)
		spec_process_inherit(p, s->process);
	if (x->tty)
		p->terminal = true;
	*ret = p;
	return 0;
}

int exec_refuse_options(
	const struct container *c, const struct exec_option *options, size_t n, const char *why)
{
	for (size_t i = 0; i < n; i++)
		if (options[i].given)
			return err_set(ENOTSUP,
				"%s: container \"%s\" is a machine with an operating system of "
				"its own, %s",
				options[i].name, c->id, why);
	return 0;
}

/*
 * Describes the process that `exec` runs by caisson's agent in a machine with an operating system
 * of its own, which has no process in config.json that the new one could resemble. Refuses the
 * options that the agent cannot fulfil there.
 */
static int process_in_foreign(struct container *c, const struct exec_args *x,
	const struct exec_options *o, struct arguments *args, const struct spec_process **ret)
{
	const struct exec_option options[] = {{x->process_file, "--process"},
		{o->timeline, "--timeline"}, {o->cgroup, "--cgroup"}, {x->caps.n, "--cap"},
		{x->apparmor, "--apparmor"}, {x->label, "--process-label"}};
	const char *term = getenv("TERM");
	const struct spec_process *asked;

	int r = exec_refuse_options(c, options, ARRAY_SIZE(options),
		"where caisson's agent can't do that: leave it out");
	if (r >= 0)
		r = process_from_options(c, x, args->n - 1, args->v + 1, &asked);
	const char **env = arena_array(&c->arena, x->env.n + 3, sizeof(*env));
	struct spec_process *p = arena_alloc(&c->arena, sizeof(*p));
	if (r < 0 || !env || !p)
		return r < 0 ? r : -ENOMEM;
	*p = *asked;
	*ret = p;
	size_t n = 0;
	env[n++] = EXEC_PATH;
	if (x->tty && term)
		env[n++] = arena_printf(&c->arena, "TERM=%s", term);
	for (size_t i = 0; i < x->env.n; i++)
		env[n++] = x->env.v[i];
	p->env = (struct spec_strings){.v = env, .n = n};
	return 0;
}

int exec_refuse_agents_options(const struct exec_args *x, const struct exec_options *o,
	const struct container *c, const char *why)
{
	const struct exec_option options[] = {
		{x->process_file, "--process"},
		{o->console_socket, "--console-socket"},
		{o->pidfd_socket, "--pidfd-socket"},
		{o->pid_file, "--pid-file"},
		{o->timeline, "--timeline"},
		{o->cgroup, "--cgroup"},
		{o->preserve_fds, "--preserve-fds"},
		{x->caps.n, "--cap"},
		{x->no_new_privs.set, "--no-new-privs"},
		{x->apparmor, "--apparmor"},
		{x->label, "--process-label"},
	};

	return exec_refuse_options(c, options, ARRAY_SIZE(options), why);
}

/*
 * Refuses those options of `exec` that a foreign guest without an agent cannot fulfil, because its
 * commands go by ssh, which can do less than caisson's agent. Then executes the command by ssh.
 */
static int exec_in_foreign(const struct exec_args *x, const struct exec_options *o,
	struct container *c, struct arguments *args)
{
	static const char why[] =
		"in which no agent of caisson answers (`caisson machine install-agent` puts it "
		"into a disk), so commands go by ssh, which can't do that: leave it out, and use a "
		"program in the machine, such as env or sudo";
	const struct exec_option options[] = {
		{o->detach, "--detach"},
		{x->cwd, "--cwd"},
		{x->user, "--user"},
		{x->env.n, "--env"},
		{x->gids.n, "--additional-gids"},
	};

	int r = exec_refuse_agents_options(x, o, c, why);
	if (r >= 0)
		r = exec_refuse_options(c, options, ARRAY_SIZE(options), why);
	return r < 0 ? r : cmd_exec_foreign(c, args->n - 1, args->v + 1, x->tty);
}

/*
 * Prepares an exec in a machine with an operating system of its own. Returns 1 if the command was
 * run already, by qemu-guest-agent, and *ret_status is its exit code; or 0 if caisson's agent is to
 * run it.
 */
static int prepare_in_foreign(const struct exec_args *x, struct container *c,
	struct arguments *args, struct exec_options *o, int *ret_status)
{
	enum container_status status;
	enum vm_agent agent;

	/* Nothing in a paused machine would answer, and ssh(1) would wait for minutes. */
	int r = container_status(c, &status);
	if (r >= 0 && status == CONTAINER_PAUSED)
		return err_set(EBUSY,
			"cannot exec in a paused container: \"%s\": `caisson resume` lets the "
			"machine "
			"go on",
			c->id);
	if (r >= 0)
		r = vm_find_agent(c, VM_ASK_TIMEOUT_MS, &agent);
	if (r >= 0 && agent == VM_AGENT_CAISSON)
		return process_in_foreign(c, x, o, args, &o->process);
	if (r >= 0 && agent == VM_AGENT_QEMU) {
		r = exec_by_qga(x, o, c, args, ret_status);
		if (r == 0)
			return 1;
	}
	return r < 0 ? r : exec_in_foreign(x, o, c, args);
}

/* Prepares what launch_exec() does. Returns 1 if nothing is left to do (prepare_in_foreign()). */
static int prepare_exec(const struct globals *g, const struct exec_args *x, struct container *c,
	struct arguments *args, struct exec_options *o, int *ret_status)
{
	if (!x->process_file && args->n < 2)
		return err_set(
			EINVAL, "exec: missing arguments: a command to run, or --process FILE");
	int r = cmd_preserve(&o->preserve_fds);
	if (r >= 0)
		r = cmd_open(g, args->v[0], false, c);
	if (r < 0)
		return r;
	if (cmd_is_foreign(c))
		return prepare_in_foreign(x, c, args, o, ret_status);
	return x->process_file ? process_from_file(c, x, &o->process)
			       : process_from_options(c, x, args->n - 1, args->v + 1, &o->process);
}

int cmd_exec(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct exec_args x = {0};
	struct exec_options o = {0};
	bool ignored;
	const struct option_def defs[] = {
		{"process", 'p', OPTION_STRING, &x.process_file, "FILE",
			"a process object in JSON (- for standard input)"},
		{"detach", 'd', OPTION_FLAG, &o.detach, NULL,
			"return once the command runs, and leave it running"},
		{"tty", 't', OPTION_FLAG, &x.tty, NULL, "give the command a terminal"},
		{"console-socket", 0, OPTION_STRING, &o.console_socket, "SOCKET",
			"Unix socket that gets the terminal's master"},
		{"pidfd-socket", 0, OPTION_STRING, &o.pidfd_socket, "SOCKET",
			"Unix socket that gets the command's pidfd"},
		{"pid-file", 0, OPTION_STRING, &o.pid_file, "FILE",
			"write the command's pid to FILE"},
		{"timeline", 0, OPTION_STRING, &o.timeline, "FILE",
			"write where the time of the start went to FILE: a .svg, .json or .html"},
		{"cwd", 0, OPTION_STRING, &x.cwd, "DIR", "working directory in the container"},
		{"env", 'e', OPTION_LIST, &x.env, "NAME=VALUE",
			"an environment variable (repeatable)"},
		{"user", 'u', OPTION_STRING, &x.user, "UID[:GID]",
			"user and group to run as, in numbers"},
		{"additional-gids", 'g', OPTION_LIST, &x.gids, "GID",
			"one more group (repeatable)"},
		{"cap", 'c', OPTION_LIST, &x.caps, "CAP_NAME", "one more capability (repeatable)"},
		{"no-new-privs", 0, OPTION_OPT_FLAG, &x.no_new_privs, NULL,
			"forbid gaining privileges by execve"},
		{"apparmor", 0, OPTION_STRING, &x.apparmor, "PROFILE", "AppArmor profile"},
		{"process-label", 0, OPTION_STRING, &x.label, "LABEL", "SELinux label"},
		{"preserve-fds", 0, OPTION_COUNT, &o.preserve_fds, "N",
			"hand descriptors 3 to 2+N to the command"},
		{"cgroup", 0, OPTION_STRING, &o.cgroup, "PATH",
			"run in this cgroup beneath the container's"},
		{"ignore-paused", 0, OPTION_FLAG, &o.ignore_paused, NULL,
			"also in a paused container: the command then waits for resume"},
		{"no-subreaper", 0, OPTION_FLAG, &ignored, NULL, "accepted, without effect"},
		{0},
	};
	struct arguments args = {.min = 1, .max = -1, .stop_at_first = true};
	_cleanup_container_ struct container c = CONTAINER_INIT;
	int status;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = prepare_exec(g, &x, &c, &args, &o, &status);
	if (r == 0)
		r = launch_exec(&c, &o, &status);
	return r < 0 ? r : status;
}
