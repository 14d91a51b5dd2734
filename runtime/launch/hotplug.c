/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/hotplug.h"

#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/log.h"
#include "launch/host.h"
#include "monitor/control.h"
#include "netsetup/net_tap.h"

/* how long, in ms, the monitor may take; it waits less for the guest (HOTPLUG_MS) */
#define CALL_MS 45000

static int refuse_namespaces(const struct container *c, const char *option)
{
	return c->vm ? 0
		     : err_set(EOPNOTSUPP,
			       "%s: container \"%s\" is in namespaces, expected one in a microVM",
			       option, c->id);
}

static int begin(struct agent_writer *w, const char *type, const char *kind, const char *name)
{
	int r = agent_begin(w, type);

	if (r < 0)
		return r;
	json_out_str(&w->json, "kind", kind);
	json_out_str(&w->json, "name", name);
	return 0;
}

static bool in_other_userns(pid_t pid)
{
	struct stat ours, theirs;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	return stat("/proc/self/ns/user", &ours) == 0 && stat(path, &theirs) == 0 &&
	       (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev);
}

/*
 * Enters the network namespace of the microVM's monitor, and an ordinary user's monitor's user
 * namespace, in which the command may make a tap.
 */
static int enter_network(struct container *c)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);
	const int flags = CLONE_NEWNET | (in_other_userns(c->pid) ? CLONE_NEWUSER : 0);

	if (pidfd < 0)
		return pidfd;
	return setns(pidfd, flags) < 0 ? err_sys("enter the network namespace of the container")
				       : 0;
}

static int send_net(int sock, const struct net_config *net, const struct net_tap *tap)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	const struct iovec none[2] = {{0}};

	int r = begin(&w, "attach", "net", net->interfaces[0].name);
	if (r < 0)
		return r;
	json_out_u64(&w.json, "offloads", tap->offloads);
	net_config_json(&w.json, "net", net);
	r = agent_send_fds(&w, sock, none, &tap->fd, 1);
	return r < 0 ? r : control_wait(sock, CALL_MS, &reply);
}

static int add_net(struct container *c, const char *name)
{
	struct net_tap tap = NET_TAP_INIT;
	struct net_config all, one;

	_cleanup_fd_ int sock = control_connect(c->dir);
	int r = sock < 0 ? sock : enter_network(c);
	if (r >= 0)
		r = net_config_read(&c->arena, -EBADF, &all);
	if (r >= 0)
		r = net_config_pick(&c->arena, &all, name, &one);
	if (r >= 0)
		r = net_tap_open(&one.interfaces[0], &tap);
	if (r < 0)
		return r;
	r = send_net(sock, &one, &tap);
	if (r >= 0) {
		fd_close(&tap.fd);
		return 0;
	}
	_cleanup_free_ char *why = strdup(err_msg());
	if (net_tap_close(&tap) < 0)
		log_warn("%s", err_msg());
	return err_set(-r, "%s", why ? why : "out of memory");
}

int hotplug_add_net(struct container *c, const char *name)
{
	int r = refuse_namespaces(c, "--add-net");

	if (r >= 0)
		r = add_net(c, name);
	return r < 0 ? err_ctx(r, "--add-net %.32s", name) : 0;
}

static int detach(struct container *c, const char *kind, const char *name)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : begin(&w, "detach", kind, name);
	return r < 0 ? r : control_call(sock, &w, NULL, CALL_MS, &reply);
}

/*
 * Removes the redirection of a tap that has gone: when the monitor has closed it, or when a command
 * was killed before it gave the tap to the monitor.
 */
static int sweep_taps(struct container *c)
{
	int r = enter_network(c);

	return r < 0 ? r : net_tap_sweep(-EBADF);
}

int hotplug_remove_net(struct container *c, const char *name)
{
	int r = refuse_namespaces(c, "--rm-net");

	if (r >= 0)
		r = detach(c, "net", name);
	if (r >= 0)
		r = sweep_taps(c);
	if (r != -ENOENT)
		return r < 0 ? err_ctx(r, "--rm-net %.32s", name) : 0;
	_cleanup_free_ char *why = strdup(err_msg());
	if (sweep_taps(c) < 0)
		log_warn("%s", err_msg());
	return err_set(ENOENT, "--rm-net %.32s: %s", name, why ? why : "out of memory");
}
