/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests netsetup/ on this machine's kernel, in two new network namespaces that stand for the host's
 * and the container's. The tests look at the results with libc and ioctls, not with netsetup/
 * itself. The tests need root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/veth.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netsetup/net.h"
#include "netsetup/rtnl/netlink.h"
#include "unit/rig/net.h"

/* Makes a veth pair, whose ends have the names `name` and `peer`. */
static void add_veth(const char *name, const char *peer)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct ifinfomsg none = {0};
	struct nl_req q;

	assert_int_equal(nl_open(&nl, -EBADF), 0);
	nl_req_link(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
	nl_put_str(&q, IFLA_IFNAME, name);
	size_t info = nl_nest(&q, IFLA_LINKINFO);
	nl_put_str(&q, IFLA_INFO_KIND, "veth");
	size_t data = nl_nest(&q, IFLA_INFO_DATA);
	size_t other = nl_nest(&q, VETH_INFO_PEER);
	memcpy(q.bytes + q.h.nlmsg_len, &none, sizeof(none));
	q.h.nlmsg_len += sizeof(none);
	nl_put_str(&q, IFLA_IFNAME, peer);
	nl_nest_end(&q, other);
	nl_nest_end(&q, data);
	nl_nest_end(&q, info);
	if (nl_call(&nl, &q, NULL, NULL) < 0)
		fail_msg("add veth %s: %s", name, err_msg());
}

static void add_address(const char *dev, const char *text, int prefix, int scope, const char *label)
{
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	struct ifaddrmsg info = {.ifa_family = (uint8_t)family,
		.ifa_prefixlen = (uint8_t)prefix,
		.ifa_scope = (uint8_t)scope,
		.ifa_index = if_nametoindex(dev)};
	size_t len = family == AF_INET ? 4 : 16;
	_cleanup_nl_ struct nl nl = NL_INIT;
	unsigned char raw[16];
	struct nl_req q;

	assert_int_equal(nl_open(&nl, -EBADF), 0);
	assert_int_equal(inet_pton(family, text, raw), 1);
	nl_req_init(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	nl_put(&q, IFA_LOCAL, raw, len);
	nl_put(&q, IFA_ADDRESS, raw, len);
	nl_put_u32(&q, IFA_FLAGS, family == AF_INET6 ? IFA_F_NODAD : 0);
	if (label)
		nl_put_str(&q, IFA_LABEL, label);
	if (nl_call(&nl, &q, NULL, NULL) < 0)
		fail_msg("add address %s: %s", text, err_msg());
}

/*
 * Makes an ioctl on the interface `dev`. `req` holds the request before the call, and the answer
 * after the call.
 */
static void ask(unsigned long what, const char *dev, struct ifreq *req)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(req->ifr_name, sizeof(req->ifr_name), "%s", dev);
	if (ioctl(fd, what, req) < 0)
		fail_msg("ioctl %lx on %s: %s", what, dev, strerror(errno));
}

static bool is_up(const char *dev)
{
	struct ifreq req = {0};

	ask(SIOCGIFFLAGS, dev, &req);
	return req.ifr_flags & IFF_UP;
}

static void set_up(const char *dev)
{
	struct ifreq req = {.ifr_flags = IFF_UP};

	ask(SIOCSIFFLAGS, dev, &req);
	assert_true(is_up(dev));
}

/* Returns whether the interface or label dev has this address with this prefix length. */
static bool has_address(const char *dev, const char *text, int prefix)
{
	struct ifaddrs *list;
	bool found = false;
	char buf[64];

	assert_int_equal(getifaddrs(&list), 0);
	for (struct ifaddrs *a = list; a; a = a->ifa_next) {
		const unsigned char *addr, *mask;
		int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
		int bits = 0;

		if (!streq(a->ifa_name, dev) || (family != AF_INET && family != AF_INET6))
			continue;
		if (family == AF_INET) {
			addr = (void *)&((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr;
			mask = (void *)&((struct sockaddr_in *)(void *)a->ifa_netmask)->sin_addr;
		} else {
			addr = (void *)&((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr;
			mask = (void *)&((struct sockaddr_in6 *)(void *)a->ifa_netmask)->sin6_addr;
		}
		for (int i = 0; i < (family == AF_INET ? 4 : 16); i++)
			bits += __builtin_popcount(mask[i]);
		inet_ntop(family, addr, buf, sizeof(buf));
		found = found || (streq(buf, text) && bits == prefix);
	}
	freeifaddrs(list);
	return found;
}

static void test_loopback(void **state)
{
	struct nets *n = nets_of(state);

	for (int i = 0; i < 2; i++) {
		net_namespace_enter(i ? n->box : n->host);
		assert_false(is_up("lo"));
		assert_ok(net_loopback_up());
		assert_true(is_up("lo"));
		assert_true(has_address("lo", "127.0.0.1", 8));
		assert_ok(net_loopback_up());
	}
}

/*
 * Makes the interface h0 on the host. The interface is up, and has settings and addresses, some of
 * which must be kept when it moves to a container, and some not.
 */
static void make_h0(void)
{
	struct ifreq req = {.ifr_mtu = 1400};

	add_veth("h0", "p0");
	ask(SIOCSIFMTU, "h0", &req);
	memcpy(req.ifr_hwaddr.sa_data, "\x02\x11\x22\x33\x44\x55", 6);
	req.ifr_hwaddr.sa_family = 1; /* 1 is ARPHRD_ETHER */
	ask(SIOCSIFHWADDR, "h0", &req);
	set_up("p0");
	set_up("h0");
	add_address("h0", "10.1.2.3", 24, RT_SCOPE_UNIVERSE, NULL);
	add_address("h0", "10.1.2.4", 24, RT_SCOPE_UNIVERSE, "h0:web");
	add_address("h0", "169.254.7.7", 16, RT_SCOPE_LINK, NULL);
	add_address("h0", "fd00:1::5", 64, RT_SCOPE_UNIVERSE, NULL);
}

static void assert_h0_as(const char *name, const char *label)
{
	struct ifreq req = {0};

	assert_true(is_up(name));
	ask(SIOCGIFMTU, name, &req);
	assert_int_equal(req.ifr_mtu, 1400);
	ask(SIOCGIFHWADDR, name, &req);
	assert_memory_equal(req.ifr_hwaddr.sa_data, "\x02\x11\x22\x33\x44\x55", 6);
	assert_true(has_address(name, "10.1.2.3", 24));
	assert_true(has_address(label, "10.1.2.4", 24));
	assert_true(has_address(name, "fd00:1::5", 64));
}

static void test_move(void **state)
{
	struct nets *n = nets_of(state);

	make_h0();
	assert_ok(net_move_device("h0", "eth0", n->box));
	assert_int_equal(if_nametoindex("h0"), 0);
	assert_int_equal(if_nametoindex("eth0"), 0);
	assert_true(if_nametoindex("p0") > 0);
	net_namespace_enter(n->box);
	assert_h0_as("eth0", "eth0:web");
	assert_false(has_address("eth0", "169.254.7.7", 16));
	assert_int_equal(if_nametoindex("h0"), 0);
}

static void test_move_same_name_and_down(void **state)
{
	struct nets *n = nets_of(state);

	add_veth("h0", "p0");
	assert_false(is_up("h0"));
	add_address("h0", "192.0.2.9", 32, RT_SCOPE_UNIVERSE, NULL);
	add_address("h0", "2001:db8::1", 128, RT_SCOPE_UNIVERSE, NULL);
	assert_ok(net_move_device("h0", NULL, n->box));
	net_namespace_enter(n->box);
	assert_true(is_up("h0"));
	assert_true(has_address("h0", "192.0.2.9", 32));
	assert_true(has_address("h0", "2001:db8::1", 128));
}

/*
 * Checks that an interface can move into a container in which other interfaces have its old name,
 * its index, and some of the names that a name template would give.
 */
static void test_move_among_others(void **state)
{
	struct nets *n = nets_of(state);
	char name[IFNAMSIZ];

	net_namespace_enter(n->box);
	add_veth("h0", "eth0");
	add_veth("eth1", "eth3");
	net_namespace_enter(n->host);
	add_veth("h0", "p0");
	unsigned index = if_nametoindex("h0");
	add_address("h0", "10.9.9.9", 24, RT_SCOPE_UNIVERSE, NULL);
	assert_ok(net_pick_name("eth%d", n->box, name));
	assert_string_equal(name, "eth2");
	assert_ok(net_move_device("h0", "data0", n->box));
	assert_ok(net_move_device("p0", "eth%d", n->box));
	net_namespace_enter(n->box);
	assert_true(has_address("data0", "10.9.9.9", 24));
	assert_true(if_nametoindex("data0") != index);
	for (size_t i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "eth%zu", i);
		assert_true(if_nametoindex(name) > 0);
	}
	assert_true(if_nametoindex("h0") > 0);
	assert_true(is_up("eth2"));
}

static void test_move_old_name_taken_template(void **state)
{
	struct nets *n = nets_of(state);
	int found = 0;

	net_namespace_enter(n->box);
	add_veth("h0", "eth0");
	net_namespace_enter(n->host);
	add_veth("h0", "p0");
	add_address("h0", "10.9.9.9", 24, RT_SCOPE_UNIVERSE, NULL);
	assert_ok(net_move_device("h0", "eth%d", n->box));
	net_namespace_enter(n->box);
	for (int i = 1; i < 4; i++) {
		char name[IFNAMSIZ];

		snprintf(name, sizeof(name), "eth%d", i);
		found += has_address(name, "10.9.9.9", 24);
	}
	assert_int_equal(found, 1);
}

static void add_altname(const char *dev, const char *alt)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct nl_req q;

	assert_ok(nl_open(&nl, -EBADF));
	nl_req_link(&q, RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND,
		(int)if_nametoindex(dev));
	size_t list = nl_nest(&q, IFLA_PROP_LIST);
	nl_put_str(&q, IFLA_ALT_IFNAME, alt);
	nl_nest_end(&q, list);
	assert_ok(nl_call(&nl, &q, NULL, NULL));
}

static void test_name_clash_changes_nothing(void **state)
{
	struct nets *n = nets_of(state);

	make_h0();
	net_namespace_enter(n->box);
	add_veth("eth0", "x0");
	add_altname("x0", "other-name");
	net_namespace_enter(n->host);
	unsigned index = if_nametoindex("h0");
	assert_error(net_move_device("h0", "eth0", n->box), -EEXIST, "eth0 is taken");
	assert_error(net_move_device("h0", "other-name", n->box), -EEXIST, "is taken");
	assert_int_equal(if_nametoindex("h0"), index);
	assert_h0_as("h0", "h0:web");
	assert_true(has_address("h0", "169.254.7.7", 16));
}

static void test_bad_input(void **state)
{
	struct nets *n = nets_of(state);
	const char *bad[] = {
		"", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-", "e%d%d", "e%s", "e%"};

	add_veth("h0", "p0");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_error(net_move_device("h0", bad[i], n->box), -EINVAL, "interface name");
	assert_error(net_move_device("nosuch0", NULL, n->box), -ENODEV, "nosuch0");
	assert_error(net_move_device("h0", "eth0", n->host), -EINVAL, "already");
	assert_error(net_move_device("lo", "lo9", n->box), -EINVAL, "lo");
	assert_true(if_nametoindex("h0") > 0);
	assert_true(if_nametoindex("lo") == 1);
}

/*
 * Checks that an interface comes back to the host if the kernel moves it to the container and then
 * refuses its new name. The kernel refuses "all", because IPv6 uses that name itself.
 */
static void test_rename_refused_after_move(void **state)
{
	struct nets *n = nets_of(state);

	make_h0();
	assert_error(net_move_device("h0", "all", n->box), -EINVAL, "h0");
	assert_h0_as("h0", "h0:web");
	net_namespace_enter(n->box);
	assert_int_equal(if_nametoindex("h0"), 0);
	assert_int_equal(if_nametoindex("all"), 0);
}

/*
 * Checks that an interface comes back to the host with all its settings if its address cannot be
 * set in the container.
 */
static void test_address_refused_after_move(void **state)
{
	struct nets *n = nets_of(state);

	make_h0();
	net_namespace_enter(n->box);
	assert_ok(fd_write_file(AT_FDCWD, "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
	net_namespace_enter(n->host);
	int r = net_move_device("h0", "eth0", n->box);
	assert_true(r < 0);
	assert_non_null(strstr(err_msg(), "fd00:1::5/64"));
	assert_h0_as("h0", "h0:web");
	net_namespace_enter(n->box);
	assert_int_equal(if_nametoindex("eth0"), 0);
}

static void test_return(void **state)
{
	struct nets *n = nets_of(state);

	make_h0();
	assert_ok(net_move_device("h0", "eth0", n->box));
	assert_ok(net_return_device("eth0", "h0", n->box));
	assert_h0_as("h0", "h0:web");
	net_namespace_enter(n->box);
	assert_int_equal(if_nametoindex("eth0"), 0);
	net_namespace_enter(n->host);
	/*
	 * The interface is back on the host already, so net_return_device() must do nothing when it
	 * is called a second time.
	 */
	assert_ok(net_return_device("eth0", "h0", n->box));
	assert_ok(net_move_device("h0", "eth0", n->box));
	add_veth("h0", "p1");
	assert_error(net_return_device("eth0", "h0", n->box), -EEXIST, "h0 is taken");
	net_namespace_enter(n->box);
	assert_h0_as("eth0", "eth0:web");
}

int main(void)
{
#define IN_NETS(test) cmocka_unit_test_setup_teardown(test, nets_setup, nets_teardown)
	const struct CMUnitTest tests[] = {
		IN_NETS(test_loopback),
		IN_NETS(test_move),
		IN_NETS(test_move_same_name_and_down),
		IN_NETS(test_move_among_others),
		IN_NETS(test_move_old_name_taken_template),
		IN_NETS(test_name_clash_changes_nothing),
		IN_NETS(test_bad_input),
		IN_NETS(test_rename_refused_after_move),
		IN_NETS(test_address_refused_after_move),
		IN_NETS(test_return),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
