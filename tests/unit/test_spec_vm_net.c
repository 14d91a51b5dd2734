/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the annotation io.caisson.vm.net with good values and the errors for bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>

#include "spec/spec.h"

static int parse(struct arena *a, const char *value, const struct spec **ret)
{
	char text[2048];

	snprintf(text, sizeof(text),
		"{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},"
		"\"annotations\":{\"" SPEC_VM_NET "\":\"%s\"}}",
		value);
	return spec_parse(a, text, strlen(text), "config.json", ret);
}

static void good_values_are_read(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const char *none = "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"}}";
	const struct spec *s;
	struct in_addr v4;

	assert_int_equal(parse(&a, "vhost-user:/run/a b=c.sock", &s), 0);
	assert_string_equal(s->vm_net->socket, "/run/a b=c.sock");
	assert_string_equal(s->vm_net->name, "eth0");
	assert_false(s->vm_net->has_mac);
	assert_int_equal(s->vm_net->mtu, 0);
	assert_int_equal(s->vm_net->addresses.n + s->vm_net->gateways.n, 0);
	/* The settings in the annotation may have any order. */
	if (parse(&a,
		    "vhost-user:/s,gateway=192.168.130.1,name=net0,mtu=65535,"
		    "mac=02:AB:cd:ef:00:01,address=192.168.129.7/22,address=fd00::7/127,"
		    "address=10.0.0.1/8,gateway=fd00::6",
		    &s) < 0)
		fail_msg("%s", err_msg());
	const struct spec_vm_net *n = s->vm_net;
	assert_string_equal(n->socket, "/s");
	assert_string_equal(n->name, "net0");
	assert_true(n->has_mac);
	assert_memory_equal(n->mac, "\x02\xab\xcd\xef\0\1", 6);
	assert_int_equal(n->mtu, 65535);
	assert_int_equal(n->addresses.n, 3);
	assert_int_equal(n->addresses.v[0].family, AF_INET);
	assert_int_equal(n->addresses.v[0].prefix, 22);
	assert_int_equal(inet_pton(AF_INET, "192.168.129.7", &v4), 1);
	assert_memory_equal(n->addresses.v[0].bytes, &v4, 4);
	assert_int_equal(n->addresses.v[1].family, AF_INET6);
	assert_int_equal(n->addresses.v[1].bytes[15], 7);
	assert_int_equal(n->gateways.n, 2);
	assert_int_equal(n->gateways.v[1].family, AF_INET6);
	/*
	 * The parser must accept a link-local gateway even if the interface has no address in the
	 * gateway's network.
	 */
	assert_int_equal(parse(&a, "vhost-user:/s,gateway=fe80::1", &s), 0);
	/* A document without the annotation must have no network of a vhost-user server. */
	assert_int_equal(spec_parse(&a, none, strlen(none), "config.json", &s), 0);
	assert_null(s->vm_net);
}

#define V "vhost-user:/s,"
#define A V "address=10.0.2.15/24,"

static const struct {
	const char *value, *said;
} bad_values[] = {
	{"", "expected \"vhost-user:\""},
	{"/run/passt.sock", "expected \"vhost-user:\""},
	{"vhost-user:", "absolute path"},
	{"vhost-user:run/passt.sock", "absolute path"},
	{"vhost-user:,mtu=1500", "absolute path"},
	{V, "expected mac=, mtu=, name=, address= or gateway= after a comma, found \"\""},
	{V "dhcp", "found \"dhcp\""},
	{V "MTU=1500", "found \"MTU\""},
	{V "mtu", "found \"mtu\""},
	{V "ip=10.0.2.15/24", "found \"ip\""},
	{V "mac=", "mac: expected six bytes"},
	{V "mac=02:00:00:00:00", "mac: expected six bytes"},
	{V "mac=02:00:00:00:00:0", "mac: expected six bytes"},
	{V "mac=02:00:00:00:00:01:02", "mac: expected six bytes"},
	{V "mac=02-00-00-00-00-01", "mac: expected six bytes"},
	{V "mac=02:00:00:00:00:0g", "mac: expected six bytes"},
	{V "mac=02:00:00:00:00: 1", "mac: expected six bytes"},
	{V "mac=03:00:00:00:00:01", "the first one even"},
	{V "mac=00:00:00:00:00:00", "mac: expected six bytes"},
	{V "mac=02:00:00:00:00:01,mac=02:00:00:00:00:01", "mac: given twice"},
	{V "mtu=67", "mtu: expected a number from 68 to 65535, found \"67\""},
	{V "mtu=65536", "mtu: expected a number"},
	{V "mtu=1500 ", "mtu: expected a number"},
	{V "mtu=1500,mtu=1500", "mtu: given twice"},
	{V "mtu=1279,address=fd00::1/64", "mtu: expected 1280 at least"},
	{V "name=", "name: expected"},
	{V "name=lo", "name: expected"},
	{V "name=a/b", "name: expected"},
	{V "name=eth%d", "name: expected"},
	{V "name=sixteen-letters-", "name: expected"},
	{V "name=a,name=b", "name: given twice"},
	{V "address=", "address: expected"},
	{V "address=10.0.2.15", "address: expected"},
	{V "address=10.0.2.15/", "address: expected"},
	{V "address=10.0.2.15/0", "address: expected"},
	{V "address=10.0.2.15/33", "address: expected"},
	{V "address=10.0.2.15/24/8", "address: expected"},
	{V "address=10.0.2.256/24", "address: expected"},
	{V "address=10.0.2/24", "address: expected"},
	{V "address=0.0.0.0/8", "address: expected"},
	{V "address=127.0.0.1/8", "address: expected"},
	{V "address=224.0.0.1/8", "address: expected"},
	{V "address=fd00::1/129", "address: expected"},
	{V "address=fd00::g/64", "address: expected"},
	{V "address=::/64", "address: expected"},
	{V "address=::1/128", "address: expected"},
	{V "address=ff02::1/64", "address: expected"},
	{A "address=10.0.2.15/8", "address: 10.0.2.15 is given twice"},
	{V "gateway=10.0.2.2", "is in the network of no given address"},
	{A "gateway=10.0.3.2", "is in the network of no given address"},
	{A "gateway=fd00::1", "is in the network of no given address"},
	{A "gateway=fec0::1", "is in the network of no given address"},
	{V "address=10.0.2.15/30,gateway=10.0.2.11", "is in the network of no given address"},
	{A "gateway=10.0.2.15", "is the address of the interface itself"},
	{A "gateway=10.0.2.2/24", "gateway: expected an address"},
	{A "gateway=10.0.2.2,gateway=10.0.2.3",
		"expected one gateway for each of IPv4 and IPv6, found 10.0.2.2 and 10.0.2.3"},
	{A "gateway=ff02::2", "gateway: expected an address"},
};

static void bad_values_are_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_values); i++) {
		_cleanup_arena_ struct arena a = {0};
		const struct spec *s;

		assert_int_equal(parse(&a, bad_values[i].value, &s), -EINVAL);
		if (!str_starts(err_msg(), "annotation " SPEC_VM_NET ": ") ||
			!strstr(err_msg(), bad_values[i].said))
			fail_msg("%s: expected '%s', got: %s", bad_values[i].value,
				bad_values[i].said, err_msg());
	}
}

static void too_many_addresses(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	char value[1024] = "vhost-user:/s";
	const struct spec *s;

	for (int i = 1; i <= 16; i++)
		snprintf(value + strlen(value), 64, ",address=10.0.0.%d/24", i);
	assert_int_equal(parse(&a, value, &s), 0);
	assert_int_equal(s->vm_net->addresses.n, 16);
	strcat(value, ",address=10.0.0.17/24");
	assert_int_equal(parse(&a, value, &s), -E2BIG);
	assert_non_null(strstr(err_msg(), "address: expected at most 16"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_values_are_read),
		cmocka_unit_test(bad_values_are_refused),
		cmocka_unit_test(too_many_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
