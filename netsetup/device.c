/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves an interface between network namespaces (runtime-spec 1.3, config-linux.md "Network
 * Devices").
 *
 * Theory of operation. One RTM_NEWLINK message carries the destination namespace, the new name and
 * the new index, so that the interface is at no time visible under its new name in the namespace
 * that it leaves. The kernel handles the message in this order: it takes the interface down, moves
 * it under its old name (under the new name if the old one is taken at the destination), and
 * renames it there. Three rules follow from this:
 *
 * - If the kernel cannot rename the interface, it leaves the interface at the destination under
 *   its old name. Therefore caisson checks first that the new name is free there. If another
 *   process takes the name between the check and the move, caisson moves the interface back.
 * - The kernel removes the addresses of an interface that it takes down. Therefore caisson reads
 *   the addresses before the move and adds them again after it.
 * - caisson chooses the index that the interface has at the destination (IFLA_NEW_IFINDEX, Linux
 *   5.13), because nothing else tells which interface it is when the new name is a template such
 *   as "eth%d".
 *
 * The MAC address, the MTU and the alternative names travel with the interface. The routes through
 * the interface do not, except those that its addresses imply, because "Network Devices" does not
 * speak of routes.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "netsetup/net.h"
#include "netsetup/rtnl/address.h"

/* how many other indexes caisson tries if another process takes the chosen index before the move */
#define INDEX_TRIES 5

/*
 * A network namespace that an interface leaves or enters: a netlink socket in the namespace, and a
 * descriptor by which other messages name the namespace.
 */
struct place {
	struct nl nl;
	int netns_fd; /* descriptor of the namespace; the caller owns it */
};

static bool is_template(const char *name)
{
	return strchr(name, '%') != NULL;
}

/*
 * Fails if both descriptors refer to the same namespace, because the kernel would only rename the
 * interface then.
 */
static int check_places(int from_fd, int to_fd)
{
	struct stat from, to;

	if (fstat(from_fd, &from) < 0 || fstat(to_fd, &to) < 0)
		return err_sys("look at the network namespaces");
	if (from.st_dev == to.st_dev && from.st_ino == to.st_ino)
		return err_set(EINVAL,
			"it is in that network namespace already: the container needs one "
			"of its own, or one joined by its path");
	return 0;
}

/*
 * Keeps a failure and its message while clean-up calls overwrite the current message, because these
 * calls may fail too.
 */
struct failure {
	int r;
	char text[1024];
};

static struct failure failure_keep(int r)
{
	struct failure f = {.r = r};

	snprintf(f.text, sizeof(f.text), "%s", err_msg());
	return f;
}

static int failure_return(const struct failure *f)
{
	return err_set(-f->r, "%s", f->text);
}

/*
 * Sends the message that moves the interface. If index is 0, the kernel keeps the interface's index
 * if that index is free at the destination, and chooses another index if not.
 */
static int send_move(
	struct place *from, struct place *to, int index_here, const char *name, int index)
{
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index_here);
	nl_put_u32(&q, IFLA_NET_NS_FD, (uint32_t)to->netns_fd);
	nl_put_str(&q, IFLA_IFNAME, name);
	if (index)
		nl_put_u32(&q, IFLA_NEW_IFINDEX, (uint32_t)index);
	return nl_call(&from->nl, &q, NULL, NULL);
}

struct trip {
	struct place *from;
	struct place *to;
	struct link was;
	struct addresses addresses;
	/*
	 * index of the interface at the destination; 0: the interface is still in its old namespace
	 */
	int index;
};

static void trip_release(struct trip *t)
{
	addresses_release(&t->addresses);
}
#define _cleanup_trip_ __attribute__((cleanup(trip_release), unused))

/*
 * Moves the interface and gives it an index that caisson chooses. A failure can leave the interface
 * at the destination under its old name; then t->index is not 0.
 */
static int move_interface(struct trip *t, const char *new_name)
{
	int index = t->was.index;
	struct failure failure;
	struct link still;
	int r, max;

	for (int tries = 0;; tries++) {
		r = send_move(t->from, t->to, t->was.index, new_name, index);
		if (r != -EBUSY || tries == INDEX_TRIES)
			break;
		max = link_max_index(&t->to->nl);
		if (max < 0)
			return max;
		index = (max > t->was.index ? max : t->was.index) + 1;
	}
	if (r >= 0) {
		t->index = index;
		return 0;
	}
	failure = failure_keep(r);
	if (link_get(&t->from->nl, NULL, t->was.index, &still) == -ENODEV)
		t->index = index;
	return failure_return(&failure);
}

/*
 * Adds the addresses to an interface that has arrived at its destination, and sets the interface up
 * if it should be up.
 */
static int settle_interface(const struct trip *t, struct place *at, int index, bool up)
{
	struct link link;

	int r = link_get(&at->nl, NULL, index, &link);
	if (r < 0)
		return r;
	r = addresses_add(&at->nl, &t->addresses, t->was.name, &link);
	if (r < 0 || !up)
		return r;
	r = link_set_flags(&at->nl, index, IFF_UP, 0);
	return r < 0 ? err_ctx(r, "set it up") : 0;
}

/* Moves the interface back after the failure r, and returns r. */
static int move_interface_back(struct trip *t, int r)
{
	struct failure failure = failure_keep(r);
	struct link back;

	r = send_move(t->to, t->from, t->index, t->was.name, t->was.index);
	if (r == -EBUSY)
		r = send_move(t->to, t->from, t->index, t->was.name, 0);
	if (r >= 0)
		r = link_get(&t->from->nl, t->was.name, 0, &back);
	if (r >= 0)
		r = settle_interface(t, t->from, back.index, t->was.flags & IFF_UP);
	if (r < 0)
		return err_set(-failure.r, "%s; bringing it back failed too: %.900s", failure.text,
			err_msg());
	return failure_return(&failure);
}

/*
 * Moves the interface with its addresses. If new_name is NULL, the interface keeps its name. If
 * `up` is set, the interface is set up at the destination even if it was down before.
 */
static int transfer_interface(struct trip *t, const char *name, const char *new_name, bool up)
{
	struct link taken;

	int r = link_get(&t->from->nl, name, 0, &t->was);
	if (r < 0)
		return r;
	if (!new_name)
		new_name = t->was.name;
	if (!is_template(new_name)) {
		r = link_get(&t->to->nl, new_name, 0, &taken);
		if (r >= 0)
			return err_set(EEXIST,
				"the name %s is taken by interface %d there, expected one that is "
				"free or a template such as eth%%d",
				new_name, taken.index);
		if (r != -ENODEV)
			return r;
	}
	r = addresses_read(&t->from->nl, t->was.index, false, &t->addresses);
	if (r < 0)
		return r;
	r = move_interface(t, new_name);
	if (r >= 0)
		r = settle_interface(t, t->to, t->index, up || (t->was.flags & IFF_UP));
	return r < 0 && t->index ? move_interface_back(t, r) : r;
}

/*
 * Opens the caller's namespace as `here` and netns_fd as `there`. The caller closes both places
 * even after a failure, because one of them may be open then.
 */
static int open_places(int *ret_here_fd, struct place *here, struct place *there, int netns_fd)
{
	int r;

	*ret_here_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (*ret_here_fd < 0)
		return err_sys("open /proc/thread-self/ns/net");
	here->netns_fd = *ret_here_fd;
	there->netns_fd = netns_fd;
	r = check_places(*ret_here_fd, netns_fd);
	if (r < 0)
		return r;
	r = nl_open(&here->nl, -EBADF);
	return r < 0 ? r : nl_open(&there->nl, netns_fd);
}

static void place_close(struct place *p)
{
	nl_close(&p->nl);
}
#define _cleanup_place_ __attribute__((cleanup(place_close), unused))

int net_move_device(const char *name, const char *new_name, int netns_fd)
{
	_cleanup_place_ struct place here = {.nl = NL_INIT}, there = {.nl = NL_INIT};
	_cleanup_trip_ struct trip t = {.from = &here, .to = &there};
	_cleanup_fd_ int here_fd = -EBADF;

	int r = new_name ? link_check_name(new_name, true) : 0;
	if (r >= 0)
		r = open_places(&here_fd, &here, &there, netns_fd);
	if (r >= 0)
		r = transfer_interface(&t, name, new_name, true);
	return r < 0 ? err_ctx(r, "move network device %s into the container", name) : 0;
}

int net_return_device(const char *new_name, const char *name, int netns_fd)
{
	_cleanup_place_ struct place here = {.nl = NL_INIT}, there = {.nl = NL_INIT};
	_cleanup_trip_ struct trip t = {.from = &there, .to = &here};
	_cleanup_fd_ int here_fd = -EBADF;

	int r = link_check_name(new_name, false);
	if (r >= 0)
		r = open_places(&here_fd, &here, &there, netns_fd);
	if (r >= 0)
		r = transfer_interface(&t, new_name, name, false);
	if (r == -ENODEV) {
		err_clear();
		return 0;
	}
	return r < 0 ? err_ctx(r, "bring network device %s back as %s", new_name, name) : 0;
}

int net_pick_name(const char *template, int netns_fd, char ret[IFNAMSIZ])
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	const char *percent = strchr(template, '%');
	struct link taken;

	int r = link_check_name(template, true);
	if (r < 0)
		return r;
	if (!percent) {
		memcpy(ret, template, strlen(template) + 1);
		return 0;
	}
	r = nl_open(&nl, netns_fd);
	for (int i = 0; r >= 0; i++) {
		int n = snprintf(ret, IFNAMSIZ, "%.*s%d%s", (int)(percent - template), template, i,
			percent + 2);

		if (n >= IFNAMSIZ)
			return err_set(ENFILE,
				"interface name \"%s\": every name of that form is taken",
				template);
		r = link_get(&nl, ret, 0, &taken);
	}
	if (r != -ENODEV)
		return r;
	err_clear();
	return 0;
}
