/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/pidfd.h>

#include "cmd.h"
#include "fd.h"

static int send(struct container *c, int sig)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);

	if (pidfd < 0)
		return pidfd;
	if (pidfd_send_signal(pidfd, sig, NULL, 0) < 0)
		return errno == ESRCH ? err_set(ESRCH, "container not running")
				      : err_sys("send signal %d to process %d", sig, c->pid);
	return 0;
}

/* 0 sends nothing: it asks whether there is a process to send to (kill(2)). */
static int parse_signal(const char *text)
{
	uint64_t n;

	return str_to_u64(text, &n) == 0 && n == 0 ? 0 : str_to_signal(text);
}

int cmd_kill(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool all = false;
	const struct option_def defs[] = {
		{"all", 'a', OPTION_FLAG, &all, NULL,
			"signal every process of the container, not only the first"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 2};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	int sig = args.n > 1 ? parse_signal(args.v[1]) : SIGTERM;
	if (sig < 0)
		return sig;
	r = cmd_open(g, args.v[0], false, &c);
	if (r < 0)
		return r;
	if (c.vm)
		return vm_signal(&c, sig, all);
	/* The first process may be gone while others, in a shared pid namespace, are not. */
	if (all && c.cgroup.path)
		return cg_kill(&c.cgroup, sig);
	return send(&c, sig);
}
