/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/network.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/log.h"
#include "netsetup/net.h"
#include "ns/channel.h"
#include "ns/clone.h"

/*
 * Moves the calling thread into a new network namespace. The other thread of the runtime stays in
 * its namespace.
 */
static int make_namespace(int *ret_fd)
{
	if (unshare(CLONE_NEWNET) < 0)
		return ns_clone_error(CLONE_NEWNET);
	int r = net_loopback_up();
	if (r < 0)
		return r;
	*ret_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? err_sys("open the new network namespace") : 0;
}

/*
 * The main function of the thread that makes the network namespace. If that fails, the function
 * copies the error message, because error messages belong to the thread.
 */
static void *network_main(void *data)
{
	struct launch_network *n = data;

	n->failed = make_namespace(&n->fd);
	if (n->failed < 0)
		n->why = strdup(err_msg());
	return NULL;
}

void network_begin(struct launch *l)
{
	struct launch_network *n = &l->network;
	sigset_t all, old;

	/* The thread blocks all signals, because the runtime's main thread waits for them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	n->running = pthread_create(&n->thread, NULL, network_main, n) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	n->started = true;
	/*
	 * If pthread_create(3) has failed, network_finish() reports the error. The main thread
	 * cannot make the namespace instead, because the new namespace would become the runtime's
	 * own.
	 */
	if (!n->running)
		n->failed = -EAGAIN;
}

/*
 * Waits until the thread that makes the network namespace has ended. Returns the namespace, which
 * stays open until network_close().
 */
static int network_finish(struct launch *l)
{
	struct launch_network *n = &l->network;

	if (!n->started)
		return err_set(EINVAL, "the network namespace was not begun");
	if (n->running)
		pthread_join(n->thread, NULL);
	n->running = false;
	if (n->failed < 0)
		return err_set(-n->failed, "%s",
			n->why ? n->why : "start the thread that makes the network namespace");
	return n->fd;
}

void network_close(struct launch *l)
{
	struct launch_network *n = &l->network;

	if (n->running)
		pthread_join(n->thread, NULL);
	n->running = n->started = false;
	fd_close(&n->fd);
	free(n->why);
	n->why = NULL;
}

int network_give(struct launch *l, const struct step *s)
{
	int fd = network_finish(l);

	return fd < 0 ? fd : launch_send(l, CHANNEL_FD, "network", fd);
}

int network_open_init(struct launch *l)
{
	char path[64];

	if (l->network.fd >= 0)
		return fcntl(l->network.fd, F_DUPFD_CLOEXEC, 3);
	for (size_t i = 0; i < l->plan.n; i++) {
		const struct step *o = &l->plan.steps[i];
		if (o->kind == STEP_OPEN_NAMESPACE && o->ns.type == SPEC_NS_NETWORK)
			return fcntl(l->slots[o->slot], F_DUPFD_CLOEXEC, 3);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/net", l->child.pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/*
 * Moves a network device into the container. If config.json gives the device a new name with a
 * number to choose, such as "eth%d", the device gets the name that the kernel would choose. This
 * name is stored, because undoing needs it.
 */
int network_move_device(struct launch *l, const struct step *s)
{
	char name[IFNAMSIZ];

	int r = l->network.started ? network_finish(l) : 0;
	if (r < 0)
		return r;
	_cleanup_fd_ int netns = network_open_init(l);
	if (netns < 0)
		return err_sys("open the container's network namespace");
	r = net_pick_name(s->pair.value ? s->pair.value : s->pair.key, netns, name);
	if (r < 0)
		return r;
	const char *kept = arena_strdup(&l->c->arena, name);
	if (!kept)
		return -ENOMEM;
	r = net_move_device(s->pair.key, kept, netns);
	if (r >= 0)
		l->create.device_names[l->create.devices_moved++] = kept;
	return r;
}

/*
 * Moves the network devices back to the host. This must happen before the container's first process
 * ends, because the network namespace ends with its last process and destroys every device in it
 * that is not hardware.
 */
void network_return_devices(struct launch *l)
{
	_cleanup_fd_ int netns = l->create.devices_moved ? network_open_init(l) : -EBADF;
	const struct spec *s = l->spec;

	for (size_t i = 0; i < l->create.devices_moved && netns >= 0; i++)
		if (net_return_device(l->create.device_names[i], s->net_devices[i].name, netns) < 0)
			log_warn("%s", err_msg());
}
