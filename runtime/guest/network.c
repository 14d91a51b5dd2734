/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives the container in the microVM the network configuration that its network namespace has on
 * the host. A container without a user namespace uses the network of the whole guest. A container
 * with a user namespace gets a network namespace of its own, because only then the container's root
 * can bind low ports and set kernel parameters. The agent moves the interfaces into that namespace
 * once INIT, the container's first process, exists.
 */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "guest/guest.h"
#include "netsetup/carry/net_config.h"
#include "netsetup/net.h"

static bool has_own_namespace(const struct plan *plan)
{
	return plan_new_namespaces(plan, PLACE_GUEST) & CLONE_NEWNET;
}

int network_create(struct process *p, const struct json *net)
{
	if (net) {
		struct net_config *c = arena_array(&p->arena, 1, sizeof(*c));
		if (!c)
			return -ENOMEM;
		int r = net_config_parse(&p->arena, net, c);
		if (r < 0)
			return r;
		p->net = c;
	}
	if (has_own_namespace(&p->plan))
		return 0;
	return p->net ? net_config_apply(p->net) : net_loopback_up();
}

/*
 * Moves the devices of *c into the network namespace of the container's first process, whose pid is
 * `pid`, and sets them up there. If c is NULL, only sets up lo there.
 */
static int set_up_inside(int proc, pid_t pid, const struct net_config *c)
{
	char path[64];

	_cleanup_fd_ int ours = openat(proc, "self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%d/ns/net", pid);
	_cleanup_fd_ int theirs = ours < 0 ? ours : openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (theirs < 0)
		return err_sys("open the network namespaces of the agent and its container");
	int r = c ? net_config_hand_over(c, theirs) : 0;
	if (r < 0)
		return r;
	if (setns(theirs, CLONE_NEWNET) < 0)
		return err_sys("enter the container's network namespace");
	r = c ? net_config_apply(c) : net_loopback_up();
	if (setns(ours, CLONE_NEWNET) < 0 && r >= 0)
		r = err_sys("return to the agent's network namespace");
	return r;
}

int network_hand_over(struct process *p)
{
	if (!has_own_namespace(&p->plan))
		return 0;
	return set_up_inside(p->proc, p->child.pid, p->net);
}

int network_add(const struct process *p, const struct net_config *c)
{
	if (!has_own_namespace(&p->plan))
		return net_config_apply(c);
	_cleanup_fd_ int proc = path_open_proc();
	return proc < 0 ? proc : set_up_inside(proc, p->child.pid, c);
}
