/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how a namespace's network is carried into a guest. The namespace `box` is the container's,
 * as an engine leaves it; `guest` stands for the guest's kernel, and `peer` for the outside world.
 * The tests compare the results with ip(8) and tc(8), not with netsetup/ itself. All tests but the
 * one of JSON need root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "netsetup/carry/net_config.h"
#include "unit/rig/carry.h"
#include "unit/rig/net.h"

/*
 * Configures the namespace `box` as podman, docker and CNI do, and adds one setting of every other
 * kind that can be carried into a guest.
 */
static void fill_box(const struct nets *n)
{
	/*
	 * The test switches duplicate address detection off, so that the link-local routes exist
	 * when it reads them.
	 */
	run_shell("ip link set lo up && echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
	add_interface(n, "eth0", "p0", "02:00:00:00:00:0a");
	add_interface(n, "eth1", "p1", "02:00:00:00:00:0b");
	add_interface(n, "wan.5", "p2", "02:00:00:00:00:0c");
	run_shell("ip addr add 10.88.0.7/16 brd 10.88.255.255 dev eth0 label eth0:web &&"
		  "ip link set eth1 txqueuelen 77 &&"
		  "ip addr add 10.88.0.8/16 dev eth0 &&" /* this is a secondary address of eth0 */
		  "ip addr add fd00:88::7/64 dev eth0 nodad &&"
		  "ip addr add 192.0.2.1 peer 192.0.2.2/32 dev eth1 &&"
		  "ip addr add 169.254.9.9/16 scope link metric 77 dev eth1 noprefixroute &&"
		  "ip addr add 198.51.100.1/24 valid_lft 1000 preferred_lft 1000 dev eth1 &&"
		  "ip link set wan.5 mtu 9000 &&"
		  "echo 1 > /proc/sys/net/ipv6/conf/wan.5/disable_ipv6 &&"
		  "echo 0 > /proc/sys/net/ipv6/conf/eth1/accept_ra &&"
		  "echo 0 > /proc/sys/net/ipv6/conf/eth1/autoconf &&"
		  "echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter &&"
		  "echo 0 > /proc/sys/net/ipv4/conf/eth0/accept_redirects &&"
		  "echo 2 > /proc/sys/net/ipv4/conf/eth1/arp_announce &&"
		  "echo -1 > /proc/sys/net/ipv4/conf/eth1/medium_id &&"
		  "echo 33 > /proc/sys/net/ipv6/conf/eth0/hop_limit &&"
		  "echo 1 > /proc/sys/net/ipv6/conf/eth1/proxy_ndp &&"
		  /*
		   * The kernel lists this route to the gateway 203.0.113.1 after the routes that
		   * need it.
		   */
		  "ip route add 203.0.113.1 dev wan.5 scope link &&"
		  "ip route add default via 10.88.0.1 dev eth0 metric 100 &&"
		  "ip route add 10.99.0.0/16 via 203.0.113.1 dev wan.5 mtu 1400 advmss 1300 &&"
		  "ip route add 172.16.0.0/12 via 10.99.0.1 dev eth1 onlink proto static &&"
		  "ip route add 172.31.0.0/16 dev eth0 scope link src 10.88.0.8 &&"
		  "ip route add 192.168.9.0/24 via inet6 fe80::9 dev eth0 &&"
		  "ip route add blackhole 10.66.0.0/16 &&"
		  "ip route add local 10.77.0.0/16 dev lo table main &&"
		  "ip -6 route add default via fd00:88::1 dev eth0 &&"
		  "ip -6 route add fd00:99::/64 via fe80::1 dev eth1 metric 5 &&"
		  "ip -6 route add unreachable fd00:66::/32 &&"
		  "ip neigh add 10.88.0.1 lladdr 02:aa:00:00:00:01 nud permanent dev eth0 &&"
		  "ip neigh add fd00:88::1 lladdr 02:aa:00:00:00:01 nud permanent dev eth0");
}

/*
 * Makes the guest's devices in another order than those of the namespace `box`. Two of them have
 * names that other interfaces of `box` have.
 */
static void fill_guest(void)
{
	run_shell("ip link add eth1 address 02:00:00:00:00:0a type veth peer name x0 && ip link "
		  "set x0 up "
		  "&& ip link add eth0 address 02:00:00:00:00:0b type veth peer name x1 && ip link "
		  "set "
		  "x1 up && ip link add ens9 address 02:00:00:00:00:0c type veth peer name x2 && "
		  "ip link "
		  "set x2 up");
}

/*
 * Commands that print what ip(8) shows of the interfaces that are carried into a guest, without
 * timers and without the states of duplicate address detection.
 */
static const char state_of_net[] =
	"for d in eth0 eth1 wan.5; do ip -o link show dev $d |"
	" sed -E 's/^[0-9]+: ([^@:]*).* mtu ([0-9]+) .*ether ([0-9a-f:]*) .*/\\1 \\2 \\3/';"
	" ip -o addr show dev $d | sed -E 's/^[0-9]+: //; s/ "
	"(tentative|nodad|dynamic|optimistic)//g;"
	" s/ +/ /g; s/\\\\.*//'; done | sort;"
	" for f in 4 6; do ip -$f route show table all | grep -v 'dev x' |"
	" sed -E 's/ linkdown| dead//g; s/ +/ /g' | sort; done;"
	" ip neigh show nud permanent | sort;"
	" cd /proc/sys/net/ipv6/conf; for d in eth0 eth1 wan.5; do"
	" cat $d/disable_ipv6 $d/accept_ra $d/autoconf $d/hop_limit $d/proxy_ndp;"
	" for n in rp_filter accept_redirects arp_announce medium_id forwarding; do"
	" cat ../../ipv4/conf/$d/$n; done;"
	" ip -o link show dev $d | grep -o 'qlen [0-9]*'; done";

static char *to_text(const struct net_config *c)
{
	_cleanup_json_out_ struct json_out o;
	const char *text;
	size_t len;

	assert_ok(json_out_init(&o, false));
	json_out_object(&o, NULL);
	net_config_json(&o, "network", c);
	json_out_end_object(&o);
	assert_ok(json_out_text(&o, &text, &len));
	return strndup(text, len);
}

static int from_text(struct arena *a, const char *text, struct net_config *ret)
{
	struct json *json;

	assert_ok(json_parse(a, text, strlen(text), "test", &json));
	return net_config_parse(a, json_get(json, "network"), ret);
}

static void assert_same(const struct net_config *a, const struct net_config *b)
{
	assert_int_equal(a->interface_count, b->interface_count);
	for (size_t i = 0; i < a->interface_count; i++) {
		struct net_interface x = a->interfaces[i], y = b->interfaces[i];

		assert_int_equal(x.address_count, y.address_count);
		assert_memory_equal(
			x.addresses, y.addresses, x.address_count * sizeof(struct net_address));
		assert_string_equal(x.name, y.name);
		assert_memory_equal(x.mac, y.mac, 6);
		assert_int_equal(x.mtu, y.mtu);
		assert_int_equal(x.up, y.up);
		assert_int_equal(x.has_tx_queue, y.has_tx_queue);
		assert_int_equal(x.tx_queue, y.has_tx_queue ? y.tx_queue : x.tx_queue);
		assert_memory_equal(&x.ipv6, &y.ipv6, sizeof(x.ipv6));
		assert_memory_equal(&x.sysctls, &y.sysctls, sizeof(x.sysctls));
	}
	assert_int_equal(a->route_count, b->route_count);
	assert_memory_equal(a->routes, b->routes, a->route_count * sizeof(struct net_route));
	assert_int_equal(a->neighbour_count, b->neighbour_count);
	assert_memory_equal(
		a->neighbours, b->neighbours, a->neighbour_count * sizeof(struct net_neighbour));
}

static void test_read(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;

	fill_box(n);
	net_namespace_enter(n->before);
	read_box(n, &a, &c);
	assert_int_equal(c.interface_count, 3);
	assert_string_equal(c.interfaces[0].name, "eth0");
	assert_memory_equal(c.interfaces[1].mac, "\x02\0\0\0\0\x0b", 6);
	assert_int_equal(c.interfaces[2].mtu, 9000);
	assert_string_equal(c.interfaces[0].addresses[0].label, "eth0:web");
	assert_int_equal(c.interfaces[1].tx_queue, 77);
	assert_true(c.interfaces[2].ipv6.disabled);
	assert_int_equal(c.interfaces[1].ipv6.accept_ra, 0);
	assert_int_equal(c.interfaces[0].ipv6.accept_ra, 1);
	int peers = 0;
	for (size_t i = 0; i < c.interfaces[1].address_count; i++)
		peers += c.interfaces[1].addresses[i].has_peer;
	assert_int_equal(peers, 1);
	assert_int_equal(c.route_count, 11);
	assert_int_equal(c.neighbour_count, 2);
	/*
	 * Reads the namespace of the caller, which is `guest` here. It is empty, so nothing can be
	 * carried from it.
	 */
	net_namespace_enter(n->guest);
	assert_ok(net_config_read(&a, -EBADF, &c));
	assert_int_equal(c.interface_count + c.route_count + c.neighbour_count, 0);
}

static void test_round_trip(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c, back;

	fill_box(n);
	read_box(n, &a, &c);
	_cleanup_free_ char *text = to_text(&c);
	assert_ok(from_text(&a, text, &back));
	assert_same(&c, &back);
	_cleanup_free_ char *again = to_text(&back);
	assert_string_equal(text, again);
}

/* Compares two texts line by line, because cmocka cuts long strings in its messages. */
static void assert_same_lines(const char *was, const char *is)
{
	while (*was || *is) {
		size_t n = strcspn(was, "\n"), k = strcspn(is, "\n");

		if (n != k || memcmp(was, is, n) != 0)
			fail_msg("in the box: %.*s; in the guest: %.*s", (int)n, was, (int)k, is);
		was += n + (was[n] != 0);
		is += k + (is[k] != 0);
	}
}

/*
 * Counts the addresses that the kernel made for the interfaces of `box`. The names of the other
 * ends of the guest's devices begin with an x.
 */
static unsigned made_by_kernel(const struct net_config *c)
{
	unsigned n = 0;

	for (size_t i = 0; i < c->interface_count; i++)
		for (size_t k = 0; k < c->interfaces[i].address_count; k++)
			n += c->interfaces[i].name[0] != 'x' &&
			     c->interfaces[i].addresses[k].protocol == IFAPROT_KERNEL_LL;
	return n;
}

static void test_apply(void **state)
{
	static char was[32768], is[32768];
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c, got;

	fill_box(n);
	read_box(n, &a, &c);
	shell_output(state_of_net, was, sizeof(was));
	assert_non_null(strstr(was, "172.16.0.0/12 via 10.99.0.1 dev eth1 proto static onlink"));
	net_namespace_enter(n->guest);
	fill_guest();
	assert_ok(net_config_apply(&c));
	shell_output(state_of_net, is, sizeof(is));
	assert_same_lines(was, is);
	assert_ok(net_config_read(&a, -EBADF, &got));
	assert_int_equal(got.route_count, c.route_count);
	assert_int_equal(got.neighbour_count, c.neighbour_count);
	/*
	 * The ip(8) of Debian 12 does not print who made an address. The kernel has said it since
	 * Linux 5.18.
	 */
	assert_int_equal(made_by_kernel(&got), made_by_kernel(&c));
}

static void test_apply_failures(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;

	fill_box(n);
	read_box(n, &a, &c);
	net_namespace_enter(n->guest);
	assert_error(net_config_apply(&c), -ENODEV,
		"no network device has the MAC address 02:00:00:00:00:0a of eth0");
	fill_guest();
	run_shell("ip link add twin address 02:00:00:00:00:0b type veth peer name x9");
	assert_error(net_config_apply(&c), -ENOTUNIQ, "02:00:00:00:00:0b of eth1");
	run_shell("ip link del twin");
	struct net_route odd = c.routes[0];
	odd.interface = 2;
	odd.gateway_family = AF_INET;
	inet_pton(AF_INET, "8.8.8.8", odd.gateway); /* the network has no route to this gateway */
	inet_pton(AF_INET, "9.0.0.0", odd.dst);
	odd.prefix = 8;
	c.routes = &odd;
	c.route_count = 1;
	assert_error(net_config_apply(&c), -ENETUNREACH, "add the route to 9.0.0.0/8");
}

static void refuse(const struct nets *n, const char *add, const char *words, const char *del)
{
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;

	run_shell(add);
	assert_error(net_config_read(&a, n->box, &c), -EOPNOTSUPP, words);
	run_shell(del);
	assert_ok(net_config_read(&a, n->box, &c));
	assert_int_equal(c.interface_count, 1);
}

static void test_refused(void **state)
{
	struct nets *n = nets_of(state);

	add_interface(n, "eth0", "p0", "02:00:00:00:00:0a");
	run_shell("ip addr add 10.88.0.7/16 dev eth0");
	refuse(n, "ip tuntap add mode tun name tun7 && ip link set tun7 up",
		"network interface tun7 can't be given to a virtual machine: its type is 65534",
		/* an interface that is down must not be carried into the guest */
		"ip link set tun7 down");
	refuse(n,
		"ip tuntap add mode tap name twin && ip link set twin address 02:00:00:00:00:0a up",
		"both have the MAC address 02:00:00:00:00:0a", "ip link set twin down");
	refuse(n, "ip route add 10.1.0.0/16 nexthop via 10.88.0.1 nexthop via 10.88.0.2",
		"the route to 10.1.0.0/16 can't be given to a virtual machine: it has more than",
		"ip route del 10.1.0.0/16");
	refuse(n, "ip route add 10.2.0.0/16 via 10.88.0.1 congctl reno", "congestion control",
		"ip route del 10.2.0.0/16");
}

#define INTERFACE \
	"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500,\"up\":true," \
	"\"ipv6\":{\"disabled\":false},\"sysctls\":{},\"addresses\":[]}"
#define NETWORK(interfaces, routes, neighbours) \
	"{\"network\":{\"interfaces\":[" interfaces "],\"routes\":[" routes \
	"],\"neighbours\":[" neighbours "]}}"
#define WITH(addresses) \
	NETWORK("{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500,\"up\":true," \
		"\"ipv6\":{\"disabled\":false},\"sysctls\":{},\"addresses\":[" addresses "]}", \
		"", "")
#define ROUTE(members) NETWORK(INTERFACE, "{" members "}", "")
#define ROUTE_END "\"type\":1,\"protocol\":3,\"metrics\":{}"

static void test_bad_json(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{"{}", "found nothing, expected an object"},
		{"{\"network\":[]}", "found an array, expected an object"},
		{"{\"network\":{}}", "interfaces: found nothing, expected an array"},
		{NETWORK("7", "", ""), "interfaces[0]: found a number, expected an object"},
		{NETWORK("{\"name\":7}", "", ""), "interfaces[0]: name: found a number, expected"},
		{NETWORK("{\"name\":\"a/b\"}", "", ""), "interfaces[0]: interface name \"a/b\""},
		{NETWORK("{\"name\":\"e\",\"mac\":\"2:0:0:0:0:1\"}", "", ""), "mac: found \"2:0"},
		{NETWORK("{\"name\":\"e\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":65536}", "", ""),
			"mtu: found 65536, expected a number from 0 to 65535"},
		{NETWORK("{\"name\":\"e\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":-1}", "", ""),
			"mtu: found -1"},
		{NETWORK(INTERFACE "," INTERFACE, "", ""), "interfaces[1]: found the name or MAC"},
		{NETWORK("{\"name\":\"e\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500,\"up\":true,"
			 "\"ipv6\":{\"disabled\":false},\"sysctls\":{\"ipv4/"
			 "rp_filter\":4294967296},"
			 "\"addresses\":[]}",
			 "", ""),
			"sysctls: ipv4/rp_filter: found 4294967296"},
		{NETWORK("{\"name\":\"e\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1500,\"up\":true,"
			 "\"ipv6\":{\"disabled\":false},\"sysctls\":{\"../../vm/"
			 "x\":1},\"addresses\":[]}",
			 "", ""),
			"sysctls: found 1 unknown members"},
		{WITH("{\"local\":\"10.0.0\",\"prefix\":8}"),
			"addresses[0]: local: found \"10.0.0\", expected an IP address"},
		{WITH("{\"local\":\"10.0.0.1\",\"prefix\":33}"), "prefix: found 33, expected"},
		{WITH("{\"local\":\"::1\",\"prefix\":128,\"peer\":\"10.0.0.1\"}"),
			"peer: found \"10.0.0.1\", expected an IPv6 address"},
		{WITH("{\"local\":\"::1\",\"prefix\":128,\"flags\":8}"), "flags: found 0x8"},
		{WITH("{\"local\":\"::1\",\"prefix\":128,\"colour\":1}"),
			"found 1 unknown members"},
		{ROUTE("\"dst\":\"10.0.0.0\",\"prefix\":8,\"device\":\"eth1\"," ROUTE_END),
			"routes[0]: device: found \"eth1\", expected the name"},
		{ROUTE("\"dst\":\"10.0.0.0\",\"prefix\":8,\"gateway\":\"x\"," ROUTE_END),
			"gateway: found \"x\""},
		{ROUTE("\"dst\":\"10.0.0.0\",\"prefix\":8,\"type\":99,\"protocol\":3,"
		       "\"metrics\":{}"),
			"type: found 99"},
		{ROUTE("\"dst\":\"10.0.0.0\",\"prefix\":8,\"type\":1,\"protocol\":3,"
		       "\"metrics\":{\"speed\":1}"),
			"routes[0]: metrics: found 1 unknown members"},
		{NETWORK(INTERFACE, "",
			 "{\"device\":\"lo\",\"address\":\"10.0.0.1\",\"mac\":\"02:00:00:00:00:"
			 "01\"}"),
			"neighbours[0]: device: found \"lo\""},
		{NETWORK("0,0,0,0,0,0,0,0,0", "", ""),
			"interfaces: found 9 elements, expected 8 at most"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = {0};
		struct net_config c;

		assert_error(from_text(&a, cases[i].text, &c), -EINVAL, cases[i].words);
	}
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;
	assert_ok(from_text(&a, ROUTE("\"dst\":\"10.0.0.0\",\"prefix\":8," ROUTE_END), &c));
	assert_ok(from_text(&a, WITH("{\"local\":\"::1\",\"prefix\":128}"), &c));
}

int main(int argc, char **argv)
{
#define IN_NETS(test) cmocka_unit_test_setup_teardown(test, carry_setup, nets_teardown)
	const struct CMUnitTest tests[] = {
		IN_NETS(test_read),
		IN_NETS(test_round_trip),
		IN_NETS(test_apply),
		IN_NETS(test_apply_failures),
		IN_NETS(test_refused),
		cmocka_unit_test(test_bad_json),
	};

	/*
	 * The argument of the program chooses tests by name, because all tests together take long
	 * on the test host.
	 */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("net_config", tests, NULL, NULL);
}
