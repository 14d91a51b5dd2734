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
#include "guest/guest.h"
#include "netsetup/carry/net_config.h"
#include "netsetup/net.h"

static bool has_own_namespace(const struct plan *plan)
{
	return plan_new_namespaces(plan, PLACE_GUEST) & CLONE_NEWNET;
}

static int apply_network(const struct process *p)
{
	return p->net ? net_config_apply(p->net) : net_loopback_up();
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
	return has_own_namespace(&p->plan) ? 0 : apply_network(p);
}

int network_hand_over(struct process *p)
{
	char path[64];

	if (!has_own_namespace(&p->plan))
		return 0;
	_cleanup_fd_ int ours = openat(p->proc, "self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%d/ns/net", p->child.pid);
	_cleanup_fd_ int theirs = ours < 0 ? ours : openat(p->proc, path, O_RDONLY | O_CLOEXEC);
	if (theirs < 0)
		return err_sys("open the network namespaces of the agent and its container");
	int r = p->net ? net_config_hand_over(p->net, theirs) : 0;
	if (r < 0)
		return r;
	if (setns(theirs, CLONE_NEWNET) < 0)
		return err_sys("enter the container's network namespace");
	r = apply_network(p);
	if (setns(ours, CLONE_NEWNET) < 0 && r >= 0)
		r = err_sys("return to the agent's network namespace");
	return r;
}
