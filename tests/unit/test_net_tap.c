/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests a tap that takes over the traffic of a container's network interface. The test plays the
 * guest and answers pings. The tests need root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/if_ether.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "netsetup/net_tap.h"
#include "unit/rig/carry.h"
#include "unit/rig/net.h"

struct frame {
	uint8_t header[NET_TAP_HEADER];
	struct ether_header eth;
	uint8_t body[1600];
} __attribute__((packed));

static const uint8_t machine_mac[6] = {2, 0, 0, 0, 0, 0x0a};

static uint16_t checksum(const void *data, size_t len)
{
	uint32_t sum = 0;
	uint16_t word;

	for (size_t i = 0; i + 1 < len; i += 2) {
		memcpy(&word, (const char *)data + i, 2);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void send_frame(int tap, struct frame *f, size_t len)
{
	memcpy(f->eth.ether_dhost, f->eth.ether_shost, 6);
	memcpy(f->eth.ether_shost, machine_mac, 6);
	memset(f->header, 0, sizeof(f->header));
	assert_int_equal(write(tap, f, len), len);
}

/*
 * Handles a frame as a guest does: answers ARP, and answers pings with a time to live of 33. The
 * answer of a kernel would have 64, so the test can tell who has answered.
 */
static void answer(int tap)
{
	struct frame f;
	ssize_t n = read(tap, &f, sizeof(f));
	struct ether_arp arp;
	struct icmphdr icmp;
	struct iphdr ip;

	if (n < (ssize_t)(NET_TAP_HEADER + sizeof(struct ether_header) + sizeof(arp)))
		return;
	if (f.eth.ether_type == htons(ETHERTYPE_ARP)) {
		memcpy(&arp, f.body, sizeof(arp));
		if (memcmp(arp.arp_tpa, "\x0a\x58\x00\x07", 4) != 0)
			return;
		arp.arp_op = htons(ARPOP_REPLY);
		memcpy(arp.arp_tpa, arp.arp_spa, 4);
		memcpy(arp.arp_tha, arp.arp_sha, 6);
		memcpy(arp.arp_spa, "\x0a\x58\x00\x07", 4);
		memcpy(arp.arp_sha, machine_mac, 6);
		memcpy(f.body, &arp, sizeof(arp));
	} else if (f.eth.ether_type == htons(ETHERTYPE_IP)) {
		memcpy(&ip, f.body, sizeof(ip));
		memcpy(&icmp, f.body + sizeof(ip), sizeof(icmp));
		if (ip.protocol != IPPROTO_ICMP || icmp.type != ICMP_ECHO || ip.ihl != 5)
			return;
		uint32_t source = ip.saddr;
		ip.saddr = ip.daddr;
		ip.daddr = source;
		ip.ttl = 33;
		ip.check = 0;
		ip.check = checksum(&ip, sizeof(ip));
		icmp.type = ICMP_ECHOREPLY;
		icmp.checksum = 0;
		memcpy(f.body, &ip, sizeof(ip));
		memcpy(f.body + sizeof(ip), &icmp, sizeof(icmp));
		icmp.checksum = checksum(f.body + sizeof(ip), ntohs(ip.tot_len) - sizeof(ip));
		memcpy(f.body + sizeof(ip), &icmp, sizeof(icmp));
	} else {
		return;
	}
	send_frame(tap, &f, (size_t)n);
}

/*
 * Pings 10.88.0.7 from `peer`. Returns the time to live of the answer, or 0 if there is no answer.
 */
static int ping(const struct nets *n, int tap)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct {
		struct icmphdr h;
		char text[32];
	} echo = {.h = {.type = ICMP_ECHO, .un.echo = {.id = htons(7), .sequence = htons(1)}}};
	struct {
		struct iphdr ip;
		struct icmphdr icmp;
		char text[64];
	} reply;

	net_namespace_enter(n->peer);
	_cleanup_fd_ int fd =
		socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(fd >= 0);
	inet_pton(AF_INET, "10.88.0.7", &to.sin_addr);
	echo.h.checksum = checksum(&echo, sizeof(echo));
	assert_int_equal(sendto(fd, &echo, sizeof(echo), 0, (void *)&to, sizeof(to)), sizeof(echo));
	net_namespace_enter(n->box);
	for (int turns = 0; turns < 60; turns++) {
		struct pollfd p[] = {{fd, POLLIN, 0}, {tap, POLLIN, 0}};

		poll(p, 2, 50);
		if (p[1].revents)
			answer(tap);
		if (read(fd, &reply, sizeof(reply)) > 0 && reply.icmp.type == ICMP_ECHOREPLY)
			return reply.ip.ttl;
	}
	return 0;
}

static void assert_no_trace(void)
{
	char buf[4096];

	assert_string_equal(
		shell_output("tc qdisc show | grep -E 'ingress|clsact' || true", buf, 4096), "");
	assert_string_equal(
		shell_output("ip -o link show | grep -E 'tap|ALLMULTI' || true", buf, 4096), "");
	assert_string_equal(shell_output("tc filter show dev eth0 ingress 2>&1", buf, 4096), "");
}

static void make_pair(const struct nets *n, struct arena *a, struct net_config *ret)
{
	char command[128];

	add_interface(n, "eth0", "p0", "02:00:00:00:00:0a");
	run_shell("ip addr add 10.88.0.7/16 dev eth0 && ip link set eth0 mtu 1400");
	snprintf(command, sizeof(command),
		"nsenter --net=/proc/%d/fd/%d ip addr add 10.88.0.1/16 dev p0", getpid(), n->peer);
	run_shell(command);
	read_box(n, a, ret);
}

static void test_tap(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;
	struct net_tap t;
	char buf[4096];

	make_pair(n, &a, &c);
	/* the kernel of the container's namespace has answered */
	assert_int_equal(ping(n, -1), 64);
	assert_ok(net_tap_open(&c.interfaces[0], 1, &t));
	assert_true(t.offloads & 1);
	assert_true(fcntl(t.fds[0], F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(t.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_non_null(
		strstr(shell_output("ip -o link show dev tap0", buf, sizeof(buf)), "mtu 1400"));
	/* the guest has answered, and the kernel of the container's namespace has not */
	assert_int_equal(ping(n, t.fds[0]), 33);
	assert_non_null(
		strstr(shell_output("ip -o link show dev eth0", buf, sizeof(buf)), "ALLMULTI"));
	assert_string_equal(shell_output("ip -o -6 addr show dev tap0", buf, sizeof(buf)), "");
	/*
	 * Checks that a second machine cannot take over the interface, and that the first machine
	 * still has it.
	 */
	struct net_tap second;
	assert_error(net_tap_open(&c.interfaces[0], 1, &second), -EBUSY,
		"give the network interface eth0 to a virtual machine: its traffic is redirected "
		"already, to interface");
	assert_int_equal(ping(n, t.fds[0]), 33);
	assert_ok(net_tap_close(&t));
	assert_int_equal(t.fds[0], -EBADF);
	assert_no_trace();
	assert_int_equal(ping(n, -1), 64);
	assert_ok(net_tap_close(&t)); /* closing the tap a second time must do nothing */
}

/*
 * Checks that net_tap_open() replaces a redirection that a killed monitor has left, and that leads
 * to a tap which no longer exists.
 */
static void test_stale_redirection(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;
	struct net_tap t;
	char buf[4096];

	make_pair(n, &a, &c);
	assert_ok(net_tap_open(&c.interfaces[0], 1, &t));
	fd_close(&t.fds[0]);
	/*
	 * The test looks at the traffic filters and does not ping, because a ping would fail for
	 * some time: the peer's neighbour table waits before it tries again.
	 */
	shell_output("tc filter show dev eth0 ingress", buf, sizeof(buf));
	assert_non_null(strstr(buf, "Egress Redirect to device *"));
	assert_ok(net_tap_open(&c.interfaces[0], 1, &t));
	assert_int_equal(ping(n, t.fds[0]), 33);
	assert_ok(net_tap_close(&t));
	assert_string_equal(shell_output("tc filter show dev eth0 ingress", buf, sizeof(buf)), "");
	assert_int_equal(ping(n, -1), 64);
}

/*
 * Checks that a queueing discipline which was on the interface before the tap stays there together
 * with its filters.
 */
static void test_foreign_qdisc(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;
	struct net_tap t;
	char buf[4096];

	make_pair(n, &a, &c);
	run_shell("tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress prio 9 protocol "
		  "ip u32 "
		  "match u32 0 0 action mirred egress redirect dev lo");
	assert_ok(net_tap_open(&c.interfaces[0], 1, &t));
	assert_int_equal(ping(n, t.fds[0]), 33);
	assert_ok(net_tap_close(&t));
	shell_output("tc qdisc show dev eth0; tc filter show dev eth0 ingress", buf, sizeof(buf));
	assert_non_null(strstr(buf, "clsact"));
	assert_non_null(strstr(buf, "pref 9"));
	assert_null(strstr(buf, "pref 1 "));
	/*
	 * A filter that has the same priority as caisson's, but that caisson has not made, must be
	 * an error and must stay.
	 */
	run_shell(
		"tc filter add dev eth0 ingress prio 1 protocol ip u32 match u32 1 1 action mirred "
		"egress redirect dev lo");
	assert_error(net_tap_open(&c.interfaces[0], 1, &t), -EBUSY, "redirected already");
	assert_string_equal(
		shell_output("ip -o link show | grep tap || true", buf, sizeof(buf)), "");
}

static void test_tap_errors(void **state)
{
	struct nets *n = nets_of(state);
	_cleanup_arena_ struct arena a = {0};
	struct net_config c;
	struct net_tap t;
	char buf[256];

	make_pair(n, &a, &c);
	struct net_interface gone = c.interfaces[0];
	memcpy(gone.name, "eth7", 5);
	assert_error(net_tap_open(&gone, 1, &t), -ENODEV, "interface eth7 to a virtual machine");
	assert_no_trace();
	assert_ok(net_tap_open(&c.interfaces[0], 1, &t));
	run_shell("ip link del eth0");
	assert_ok(net_tap_close(&t));
	assert_string_equal(
		shell_output("ip -o link show | grep tap || true", buf, sizeof(buf)), "");
	/*
	 * Checks that net_tap_open() fails with a message if /dev/net/tun does not exist. The test
	 * covers /dev/net in a mount namespace of its own, so that the host keeps the device.
	 */
	assert_int_equal(unshare(CLONE_NEWNS | CLONE_FS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("none", "/dev/net", "tmpfs", 0, NULL), 0);
	assert_error(net_tap_open(&c.interfaces[0], 1, &t), -ENOENT, "there is no /dev/net/tun");
	assert_int_equal(umount("/dev/net"), 0);
}

int main(int argc, char **argv)
{
#define IN_NETS(test) cmocka_unit_test_setup_teardown(test, carry_setup, nets_teardown)
	const struct CMUnitTest tests[] = {
		IN_NETS(test_tap),
		IN_NETS(test_stale_redirection),
		IN_NETS(test_foreign_qdisc),
		IN_NETS(test_tap_errors),
	};

	/*
	 * The argument of the program chooses tests by name, because all tests together take long
	 * on the test host.
	 */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("net_config", tests, NULL, NULL);
}
