/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the network device of a vhost-user back end: how caisson adds it to the guest's network,
 * and the relay between QEMU and the back end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "engine/relay.h"
#include "machine/net_backend.h"
#include "unit/rig/descriptors.h"
#include "vm/vhost/back_messages.h"

#define TIMEOUT_MS 300

static const uint8_t mac[6] = {2, 1, 2, 3, 4, 5};

static const struct spec_vm_net *parse(struct arena *a, const char *value)
{
	char text[512];
	const struct spec *s;

	snprintf(text, sizeof(text),
		"{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"annotations\":{"
		"\"" SPEC_VM_NET "\":\"vhost-user:/s%s\"}}",
		value);
	if (spec_parse(a, text, strlen(text), "config.json", &s) < 0)
		fail_msg("%s", err_msg());
	return s->vm_net;
}

#define ALL \
	",mtu=1400,address=10.0.2.15/24,address=fd00::15/64,gateway=fe80::1,gateway=10.0.2.2," \
	"name=net0"

/*
 * Returns the network as the guest will read it: writes the network as JSON, and parses the JSON
 * again.
 */
static struct net_config carried(struct arena *a, const struct net_config *c)
{
	_cleanup_json_out_ struct json_out o = {0};
	struct net_config back;
	struct json *json;
	const char *text;
	size_t len;

	assert_int_equal(json_out_init(&o, false), 0);
	json_out_object(&o, NULL);
	net_config_json(&o, "net", c);
	json_out_end_object(&o);
	assert_int_equal(json_out_text(&o, &text, &len), 0);
	assert_int_equal(json_parse(a, text, len, "net", &json), 0);
	if (net_config_parse(a, json_get(json, "net"), &back) < 0)
		fail_msg("%s", err_msg());
	return back;
}

static void only_network(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct net_config c = {0};

	assert_int_equal(net_backend_add(&a, parse(&a, ALL), mac, &c), 0);
	const struct net_config got = carried(&a, &c);
	assert_int_equal(got.interface_count, 1);
	const struct net_interface *i = &got.interfaces[0];
	assert_string_equal(i->name, "net0");
	assert_memory_equal(i->mac, mac, 6);
	assert_true(i->up);
	assert_int_equal(i->mtu, 1400);
	assert_int_equal(i->address_count, 2);
	assert_memory_equal(i->addresses[0].local, "\12\0\2\17", 4);
	assert_int_equal(i->addresses[0].prefix, 24);
	assert_int_equal(i->addresses[1].prefix, 64);
	assert_false(i->ipv6.disabled);
	assert_int_equal(i->ipv6.accept_ra + i->ipv6.autoconf, 0);
	assert_int_equal(got.route_count, 2);
	for (size_t k = 0; k < 2; k++) {
		assert_int_equal(got.routes[k].prefix, 0);
		assert_int_equal(got.routes[k].interface, 0);
		assert_int_equal(got.routes[k].gateway_family, got.routes[k].family);
	}
	assert_memory_equal(got.routes[1].gateway, "\12\0\2\2", 4);
	/*
	 * Checks the defaults if the annotation has only an IPv4 address: the name eth0, an MTU of
	 * 1500, router advertisements are accepted, and there are no routes.
	 */
	c = (struct net_config){0};
	assert_int_equal(net_backend_add(&a, parse(&a, ",address=10.0.2.15/24"), mac, &c), 0);
	assert_string_equal(c.interfaces[0].name, "eth0");
	assert_int_equal(c.interfaces[0].mtu, 1500);
	assert_int_equal(c.interfaces[0].ipv6.accept_ra, 1);
	assert_int_equal(c.interfaces[0].ipv6.autoconf, 1);
	assert_int_equal(c.route_count, 0);
}

static void network_among_others(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct net_interface other[NET_INTERFACES_MAX] = {
		{.name = "eth0", .mac = {2, 9}, .mtu = 1500}};
	const struct net_route route[2] = {
		{.family = AF_INET, .prefix = 8, .dst = {10}, .type = RTN_UNICAST},
		{.family = AF_INET, .type = RTN_UNICAST}};
	const struct net_config before = {
		.interfaces = other, .interface_count = 1, .routes = route, .route_count = 1};
	struct net_config c = before;

	assert_int_equal(net_backend_add(&a, parse(&a, ALL), mac, &c), 0);
	const struct net_config got = carried(&a, &c);
	assert_int_equal(got.interface_count, 2);
	assert_string_equal(got.interfaces[0].name, "eth0");
	assert_int_equal(got.route_count, 3);
	assert_int_equal(got.routes[0].prefix, 8);
	assert_int_equal(got.routes[1].interface, 1);
	assert_int_equal(got.routes[2].interface, 1);
	/*
	 * Checks that a name, a MAC address or a route that is already in use is refused, and so is
	 * one interface too many.
	 */
	c = before;
	assert_int_equal(net_backend_add(&a, parse(&a, ""), mac, &c), -EEXIST);
	assert_non_null(
		strstr(err_msg(), "an interface eth0 already: give this one another name="));
	assert_int_equal(net_backend_add(&a, parse(&a, ALL), other[0].mac, &c), -EEXIST);
	assert_non_null(strstr(err_msg(), "interface eth0 of"));
	c.route_count = 2;
	assert_int_equal(net_backend_add(&a, parse(&a, ALL), mac, &c), -EEXIST);
	assert_non_null(strstr(err_msg(), "gateway: 10.0.2.2: "));
	c.interface_count = NET_INTERFACES_MAX;
	assert_int_equal(net_backend_add(&a, parse(&a, ALL), mac, &c), -ENOSPC);
}

static void addresses_of_its_own(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec_vm_net *n = parse(&a, "");
	uint8_t one[6], again[6], two[6];

	net_backend_mac(n, "one", one);
	net_backend_mac(n, "one", again);
	net_backend_mac(n, "two", two);
	assert_memory_equal(one, again, 6);
	assert_memory_not_equal(one, two, 6);
	/*
	 * The two lowest bits of the MAC address must say that it is a unicast address which is
	 * assigned locally.
	 */
	assert_int_equal(one[0] & 3, 2);
	net_backend_mac(parse(&a, ",mac=06:00:00:00:00:07"), "one", one);
	assert_memory_equal(one, "\6\0\0\0\0\7", 6);
}

struct relayed {
	int qemu, back; /* the test's ends of the relay's sockets */
	int socks[2];   /* the relay's ends of the two sockets to QEMU and to the back end */
	int stop, result;
	char why[ERR_MAX];
	pthread_t thread;
	unsigned before;
};

static void *relay(void *arg)
{
	struct relayed *r = arg;

	r->result = relay_run(r->socks[0], r->socks[1], r->stop, TIMEOUT_MS);
	snprintf(r->why, sizeof(r->why), "%s", r->result < 0 ? err_msg() : "");
	return NULL;
}

static void start(struct relayed *r)
{
	int s[2];

	*r = (struct relayed){.before = descriptors_below(1024)};
	r->stop = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	r->qemu = s[0];
	r->socks[0] = s[1];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	r->back = s[0];
	r->socks[1] = s[1];
	assert_int_equal(pthread_create(&r->thread, NULL, relay, r), 0);
}

static void ends(struct relayed *r, int result, const char *text)
{
	pthread_join(r->thread, NULL);
	for (int i = 0; i < 2; i++)
		fd_close(&r->socks[i]);
	fd_close(&r->qemu);
	fd_close(&r->back);
	fd_close(&r->stop);
	if (r->result != result || !strstr(r->why, text))
		fail_msg("expected %d '%s', got %d: %s", result, text, r->result, r->why);
	assert_int_equal(descriptors_below(1024), r->before);
}

static struct vhost_message message(uint32_t request, uint32_t flags, uint32_t size)
{
	struct vhost_message m = {.h = {request, VHOST_USER_VERSION | flags, size}};

	memset(&m.p, (int)request, size);
	return m;
}

static void say(int sock, struct vhost_message m)
{
	assert_int_equal(vhost_forward(sock, &m), 0);
}

static void hear(int sock, const struct vhost_message *want)
{
	struct vhost_message m;

	assert_int_equal(vhost_receive_any(sock, -EBADF, &m), 1);
	assert_memory_equal(&m.h, &want->h, sizeof(m.h));
	assert_memory_equal(&m.p, &want->p, m.h.size);
	assert_int_equal(m.fd_count, want->fd_count);
	vhost_message_release(&m);
}

/*
 * Checks that the relay forwards each message with the message's own descriptors, also if several
 * messages are waiting.
 */
static void messages_are_passed_on(void **state)
{
	struct vhost_message plain = message(VHOST_USER_SET_VRING_NUM, 0, 8);
	struct vhost_message kick = message(VHOST_USER_SET_VRING_KICK, VHOST_USER_NEED_REPLY, 8);
	struct vhost_message table =
		message(VHOST_USER_SET_MEM_TABLE, 0, sizeof(union vhost_user_payload));
	struct vhost_message answer = message(VHOST_USER_SET_VRING_KICK, VHOST_USER_REPLY, 8);
	struct vhost_message unknown = message(99, 0, 0);
	struct relayed r;

	start(&r);
	kick.fds[0] = r.stop;
	kick.fd_count = 1;
	for (int i = 0; i < VHOST_USER_REGIONS_MAX; i++)
		table.fds[table.fd_count++] = r.stop;
	say(r.qemu, plain);
	say(r.qemu, table);
	say(r.qemu, plain);
	say(r.qemu, unknown);
	say(r.qemu, kick);
	hear(r.back, &plain);
	hear(r.back, &table);
	hear(r.back, &plain);
	hear(r.back, &unknown);
	hear(r.back, &kick);
	say(r.back, answer);
	hear(r.qemu, &answer);
	/*
	 * QEMU closes its socket, as it does when the guest has ended. The relay must then end
	 * without an error.
	 */
	fd_close(&r.qemu);
	ends(&r, 0, "");
}

static void relay_stops(void **state)
{
	struct relayed r;

	start(&r);
	eventfd_write(r.stop, 1);
	ends(&r, 0, "");
	/* The relay must also stop in the middle of an answer of the back end. */
	start(&r);
	assert_int_equal(write(r.back, "\1", 1), 1);
	usleep(20000);
	eventfd_write(r.stop, 1);
	ends(&r, 0, "");
}

static void ask(struct relayed *r)
{
	const struct vhost_message m = message(VHOST_USER_GET_FEATURES, 0, 0);

	start(r);
	say(r->qemu, m);
	hear(r->back, &m);
}

static void misbehaving_sides(void **state)
{
	static const char garbage[64] = "HTTP/1.1 400 Bad Request";
	struct vhost_message large = message(VHOST_USER_GET_FEATURES, VHOST_USER_REPLY, 8);
	struct relayed r;

	start(&r);
	fd_close(&r.back);
	ends(&r, -EPIPE, "the vhost-user back end has hung up");
	ask(&r);
	ends(&r, -ETIMEDOUT,
		"does not answer within 300 ms: check that the socket belongs to a vhost-user "
		"server");
	ask(&r);
	say(r.back, message(VHOST_USER_GET_FEATURES, 0, 8));
	ends(&r, -EPROTO, "sends request 1 with flags 0x1: expected an answer");
	ask(&r);
	assert_int_equal(write(r.back, garbage, sizeof(garbage)), sizeof(garbage));
	ends(&r, -EPROTO, "bytes, expected");
	ask(&r);
	large.h.size = UINT32_MAX;
	assert_int_equal(write(r.back, &large.h, sizeof(large.h)), sizeof(large.h));
	ends(&r, -EPROTO, "4294967295 bytes, expected");
	ask(&r);
	assert_int_equal(write(r.back, &large.h, 5), 5);
	fd_close(&r.back);
	ends(&r, -EPROTO, "in the middle of a message");
}

/*
 * Checks that the relay ends with an error if a back end never stops sending messages that were not
 * requested. QEMU does not read here, so its socket becomes full.
 */
static void back_end_never_stops_sending(void **state)
{
	const struct vhost_message m = message(VHOST_USER_GET_FEATURES, VHOST_USER_REPLY, 250);
	const int small = 4096;
	struct relayed r;

	ask(&r);
	assert_int_equal(setsockopt(r.socks[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (int i = 0; i < 64; i++)
		say(r.back, m);
	ends(&r, -EPROTO, "has sent a message that was not requested");
}

static void relay_meets_qemu(void **state)
{
	struct relay r = RELAY_INIT;
	struct pollfd p;
	int ready[2];

	assert_int_equal(relay_init(&r, -EBADF), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	fd_close(&ready[1]);
	/*
	 * Checks two cases in which QEMU does not connect: QEMU fails before the relay's socket
	 * exists, or QEMU runs but never connects.
	 */
	assert_int_equal(relay_meet(&r, ready[0], -EBADF, TIMEOUT_MS), 0);
	assert_true(r.qemu < 0);
	assert_int_equal(
		bind(r.listener, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(r.listener, 1), 0);
	assert_int_equal(relay_meet(&r, ready[0], -EBADF, 20), -ETIMEDOUT);
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	assert_int_equal(getsockname(r.listener, (struct sockaddr *)&name, &len), 0);
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(sock, (struct sockaddr *)&name, len), 0);
	if (relay_meet(&r, ready[0], -EBADF, TIMEOUT_MS) < 0)
		fail_msg("%s", err_msg());
	assert_true(r.qemu >= 0);
	/* the relay has closed its listening socket, so that no other program can connect */
	assert_true(r.listener < 0);
	p = (struct pollfd){.fd = sock, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_null(relay_stop(&r));
	relay_release(&r);
	fd_close(&ready[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_network),
		cmocka_unit_test(network_among_others),
		cmocka_unit_test(addresses_of_its_own),
		cmocka_unit_test(messages_are_passed_on),
		cmocka_unit_test(relay_stops),
		cmocka_unit_test(misbehaving_sides),
		cmocka_unit_test(back_end_never_stops_sending),
		cmocka_unit_test(relay_meets_qemu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
