/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/pidfd.h>

#include "base/fd.h"
#include "cmd/cmd.h"
#include "launch/vm_client.h"

static int signal_first_process(struct container *c, int sig)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);

	if (pidfd < 0)
		return pidfd;
	if (pidfd_send_signal(pidfd, sig, NULL, 0) < 0)
		return errno == ESRCH ? err_set(ESRCH, "container not running")
				      : err_sys("send signal %d to process %d", sig, c->pid);
	return 0;
}

/*
 * Returns the number of a signal. 0 is valid: kill(2) with signal 0 sends nothing, but says whether
 * there is a process to which a signal could be sent.
 */
static int parse_signal(const char *text)
{
	uint64_t n;

	return str_to_u64(text, &n) == 0 && n == 0 ? 0 : str_to_signal(text);
}

/*
 * Says whether the signal goes to all processes of the cgroup. If the container has no pid
 * namespace of its own, its other processes do not end with the first one. Then SIGKILL goes to all
 * processes, even after the first one has ended, as in runc.
 */
static bool kills_all(struct container *c, int sig)
{
	const struct spec *s;

	if (sig != SIGKILL || !c->cgroup.path)
		return false;
	if (container_spec(c, &s) < 0) {
		err_clear();
		return false;
	}
	return !s->ns[SPEC_NS_PID].set || s->ns[SPEC_NS_PID].path;
}

int cmd_signal(struct container *c, int sig, bool all)
{
	enum container_status status;

	/*
	 * If the container has no process yet to which a signal could be sent, SIGKILL goes to the
	 * command that is creating the container.
	 */
	if (c->pid == 0 && sig == SIGKILL && container_status(c, &status) >= 0 &&
		status == CONTAINER_CREATING)
		return container_end_maker(c);
	if (c->vm)
		return vm_signal(c, sig, all);
	/*
	 * cg_kill() sends the signal to all processes of the cgroup, even if the first process has
	 * ended, because in a shared pid namespace the container's other processes may still run.
	 */
	if (c->cgroup.path && (all || kills_all(c, sig)))
		return cg_kill(&c->cgroup, sig);
	return signal_first_process(c, sig);
}

struct kill {
	int sig;
	bool all;
};

static int kill_one(void *data, struct container *c)
{
	const struct kill *k = data;

	return cmd_signal(c, k->sig, k->all);
}

int cmd_kill(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct kill k = {.sig = SIGTERM};
	bool regex = false;
	const struct option_def defs[] = {
		{"all", 'a', OPTION_FLAG, &k.all, NULL,
			"signal every process of the container, not only the first"},
		{"regex", 'r', OPTION_FLAG, &regex, NULL,
			"ID is an extended regular expression: signal all matches"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 2};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (args.n > 1)
		k.sig = parse_signal(args.v[1]);
	if (k.sig < 0)
		return k.sig;
	if (regex)
		return cmd_each(g, args.v[0], false, kill_one, &k);
	r = cmd_open(g, args.v[0], false, &c);
	return r < 0 ? r : kill_one(&k, &c);
}
