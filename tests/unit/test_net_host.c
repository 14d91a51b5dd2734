/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the parts of netsetup/host/ that need no kernel: pools of addresses, the text of the option
 * -p, the files of networks, the records of attachments to networks, and firewall rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <netinet/in.h>

#include "netsetup/host/host_internal.h"

static struct ip ip_of(const char *text)
{
	struct ip ip;

	assert_int_equal(ip_parse(text, &ip), 0);
	return ip;
}

static struct pool pool_of(const char *subnet)
{
	struct pool p = {0};

	assert_int_equal(ip_parse_subnet(subnet, &p.base, &p.prefix), 0);
	return p;
}

#define assert_ip(ip, expected) \
	do { \
		char text_[IP_TEXT]; \
		assert_string_equal(ip_text(&(ip), text_), expected); \
	} while (0)

static void subnets_are_parsed(void **state)
{
	static const char *const bad[] = {"", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33",
		"10.0.0/8", "10.0.0.0/-1", "10.0.0.0/+1", "10.0.0.0/8 ", " 10.0.0.0/8", "::/129",
		"10.0.0.0/08x", "fe80::1%eth0/64", "01.0.0.0/8",
		"1111:2222:3333:4444:5555:6666:123.123.123.1234/64"};
	unsigned prefix;
	struct ip ip;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ip_parse_subnet(bad[i], &ip, &prefix), -EINVAL);
	assert_int_equal(ip_parse_subnet("10.1.2.3/8", &ip, &prefix), 0);
	assert_int_equal(prefix, 8);
	assert_ip(ip, "10.1.2.3");
	assert_int_equal(ip_parse_subnet("::/0", &ip, &prefix), 0);
}

static void a_pool_leaves_out_what_no_interface_may_have(void **state)
{
	static const struct {
		const char *subnet, *gateway, *first, *last;
	} cases[] = {
		{"10.1.2.3/24", "10.1.2.1", "10.1.2.1", "10.1.2.254"},
		{"10.0.0.0/8", "10.0.0.1", "10.0.0.1", "10.255.255.254"},
		{"10.0.0.4/30", "10.0.0.5", "10.0.0.5", "10.0.0.6"},
		{"10.0.0.4/31", "10.0.0.4", "10.0.0.4", "10.0.0.5"},
		{"10.0.0.4/32", "10.0.0.4", "10.0.0.4", "10.0.0.4"},
		{"fd00::5/64", "fd00::1", "fd00::1", "fd00::ffff:ffff:ffff:ffff"},
		{"fd00::4/127", "fd00::4", "fd00::4", "fd00::5"},
		{"fd00::4/126", "fd00::5", "fd00::5", "fd00::7"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pool p = pool_of(cases[i].subnet);

		assert_int_equal(pool_complete(&p), 0);
		assert_ip(p.gateway, cases[i].gateway);
		assert_ip(p.first, cases[i].first);
		assert_ip(p.last, cases[i].last);
	}
}

static void a_pool_gives_the_lowest_free_address(void **state)
{
	/* In this pool 10.0.0.1 is the gateway, and 10.0.0.2 to 10.0.0.6 are free. */
	struct pool p = pool_of("10.0.0.0/29");
	struct ip used[8], got;
	size_t n = 0;

	assert_int_equal(pool_complete(&p), 0);
	assert_int_equal(pool_pick(&p, NULL, 0, &got), 0);
	assert_ip(got, "10.0.0.2");
	/*
	 * pool_pick() must ignore used addresses that are not in the pool, such as this one of an
	 * IPv6 pool.
	 */
	used[n++] = ip_of("fd00::1");
	used[n++] = ip_of("10.0.0.4");
	used[n++] = ip_of("10.0.0.2");
	used[n++] = ip_of("9.255.255.255");
	assert_int_equal(pool_pick(&p, used, n, &got), 0);
	assert_ip(got, "10.0.0.3");
	used[n++] = got;
	used[n++] = ip_of("10.0.0.5");
	assert_int_equal(pool_pick(&p, used, n, &got), 0);
	assert_ip(got, "10.0.0.6");
	used[n++] = got;
	assert_int_equal(pool_pick(&p, used, n, &got), -EADDRNOTAVAIL);
	p.first = p.last = ip_of("10.0.0.1");
	assert_int_equal(pool_pick(&p, NULL, 0, &got), -EADDRNOTAVAIL);
}

/*
 * Checks that the search for a free address ends at the very last address there is, because that
 * address has no successor.
 */
static void a_pool_at_the_end_of_all_addresses(void **state)
{
	struct pool p = pool_of("255.255.255.254/31");
	struct ip used[2] = {ip_of("255.255.255.255"), ip_of("255.255.255.254")}, got;

	assert_int_equal(pool_complete(&p), 0);
	assert_int_equal(pool_pick(&p, used, 0, &got), 0);
	assert_ip(got, "255.255.255.255");
	assert_int_equal(pool_pick(&p, used, 2, &got), -EADDRNOTAVAIL);
}

static void overlaps_are_found(void **state)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} cases[] = {{"10.0.0.0/8", "10.1.2.0/24", true}, {"10.0.0.0/24", "10.0.1.0/24", false},
		{"0.0.0.0/0", "192.168.0.0/16", true}, {"fd00::/64", "fd00::1/128", true},
		{"fd00::/64", "fd00:0:0:1::/64", false}, {"0.0.0.0/0", "::/0", false}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pool a = pool_of(cases[i].a), b = pool_of(cases[i].b);

		assert_int_equal(
			pool_overlaps(&a.base, a.prefix, &b.base, b.prefix), cases[i].overlap);
		assert_int_equal(
			pool_overlaps(&b.base, b.prefix, &a.base, a.prefix), cases[i].overlap);
	}
}

static void subnets_that_cannot_be_meant(void **state)
{
	static const struct {
		const char *subnet;
		int result;
	} cases[] = {{"0.0.0.0/0", -EINVAL}, {"10.0.0.0/7", -EINVAL}, {"0.0.0.0/8", -EINVAL},
		{"127.1.0.0/16", -EINVAL}, {"169.254.0.0/16", -EINVAL}, {"224.0.0.0/24", -EINVAL},
		{"255.255.255.0/24", -EINVAL}, {"::/64", -EINVAL}, {"::1/128", -EINVAL},
		{"::ffff:10.0.0.0/104", -EINVAL}, {"fe80::/64", -EINVAL}, {"febf::/64", -EINVAL},
		{"ff05::/64", -EINVAL}, {"fc00::/7", -EINVAL}, {"10.0.0.0/8", 0},
		{"100.64.0.0/10", 0}, {"169.253.0.0/16", 0}, {"223.255.255.0/24", 0},
		{"fec0::/64", 0}, {"fd00::/16", 0}, {"2001:db8::/32", 0}, {"100::/64", 0}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pool p = pool_of(cases[i].subnet);

		assert_int_equal(subnet_check(&p.base, p.prefix), cases[i].result);
	}
}

static void every_kind_is_read_as_it_was_written(void **state)
{
	static const char *const texts[] = {
		"{\"kind\":\"bridge\",\"interface\":\"b\",\"members\":[\"e1\",\"e2\"]}",
		"{\"kind\":\"vlan\",\"interface\":\"v\",\"parent\":\"e\",\"vlan\":4094,\"mtu\":"
		"1400}",
		"{\"kind\":\"bond\",\"interface\":\"b\",\"members\":[\"e1\"],\"mode\":\"802.3ad\"}",
		"{\"kind\":\"macvlan\",\"parent\":\"e\",\"mode\":\"vepa\",\"internal\":true,"
		"\"pools\":[{\"subnet\":\"10.1.0.0/24\"}]}",
		"{\"kind\":\"ipvlan\",\"parent\":\"e\",\"mode\":\"l3s\"}",
		"{\"kind\":\"device\",\"parent\":\"e\",\"functions\":true}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_json_out_ struct json_out o = {0};
		_cleanup_arena_ struct arena a = {0};
		struct network n, again;
		const char *text;
		size_t len;

		assert_int_equal(network_parse(&a, texts[i], strlen(texts[i]), "x", &n), 0);
		assert_int_equal(n.kind, i);
		assert_int_equal(json_out_init(&o, false), 0);
		network_json(&o, &n);
		assert_int_equal(json_out_text(&o, &text, &len), 0);
		assert_int_equal(network_parse(&a, text, len, "x", &again), 0);
		assert_memory_equal(&n, &again, sizeof(n));
	}
}

static void published_ports_are_parsed(void **state)
{
	struct port p;

	assert_int_equal(port_parse("8080:80", &p), 0);
	assert_int_equal(p.protocol, IPPROTO_TCP);
	assert_true(p.host_port == 8080 && p.port == 80 && p.count == 1 && !p.host.family);
	assert_int_equal(port_parse("127.0.0.1:1-65535:1-65535/udp", &p), -EINVAL);
	assert_int_equal(port_parse("127.0.0.1:65534-65535:1-2/udp", &p), 0);
	assert_true(p.host_port == 65534 && p.port == 1 && p.count == 2);
	assert_int_equal(p.protocol, IPPROTO_UDP);
	assert_ip(p.host, "127.0.0.1");
	assert_int_equal(port_parse("[fd00::1]:1:2/sctp", &p), 0);
	assert_int_equal(p.protocol, IPPROTO_SCTP);
	assert_ip(p.host, "fd00::1");
}

static const char plain[] =
	"{\"kind\":\"bridge\",\"interface\":\"br0\",\"pools\":[{\"subnet\":\"10.0.0.0/24\"},"
	"{\"subnet\":\"fd00::/64\"}]}";

static struct network parse(struct arena *a, const char *text)
{
	struct network n;

	assert_int_equal(network_parse(a, text, strlen(text), "test", &n), 0);
	return n;
}

static void a_written_network_is_read_again(void **state)
{
	_cleanup_json_out_ struct json_out o = {0}, p = {0};
	_cleanup_arena_ struct arena a = {0};
	struct network n = parse(&a, plain), again;
	const char *text, *second;
	size_t len;

	assert_true(n.isolated && n.masquerade && !n.internal && n.mtu == 0);
	n.mtu = 1400;
	n.internal = true;
	n.isolated = n.masquerade = false;
	assert_int_equal(json_out_init(&o, true), 0);
	network_json(&o, &n);
	assert_int_equal(json_out_text(&o, &text, &len), 0);
	assert_int_equal(network_parse(&a, text, len, "test", &again), 0);
	assert_true(again.internal && !again.isolated && !again.masquerade && again.mtu == 1400);
	assert_int_equal(json_out_init(&p, true), 0);
	network_json(&p, &again);
	assert_int_equal(json_out_text(&p, &second, &len), 0);
	assert_string_equal(second, text);
}

static struct attachment an_attachment(const struct port *ports, size_t n)
{
	struct attachment a = {.network = "web",
		.key = "box",
		.root = "/run/caisson",
		.netns = "/run/netns/box",
		.interface = "eth0",
		.host = "cn0",
		.mac = {0x0a, 1, 2, 3, 4, 5},
		.addresses = {ip_of("10.0.0.2"), ip_of("fd00::2")},
		.gateways = {ip_of("10.0.0.1"), ip_of("fd00::1")},
		.prefixes = {24, 64},
		.address_count = 2,
		.default_route = true,
		.ports = ports,
		.port_count = n};

	return a;
}

static void a_written_record_is_read_again(void **state)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_arena_ struct arena arena = {0};
	struct port ports[2];
	struct attachment a, again;
	const char *text;
	size_t len;

	assert_int_equal(port_parse("8080:80/udp", &ports[0]), 0);
	assert_int_equal(port_parse("[fd00::9]:1-3:4-6", &ports[1]), 0);
	a = an_attachment(ports, 2);
	assert_int_equal(json_out_init(&o, false), 0);
	attachment_json(&o, NULL, &a);
	assert_int_equal(json_out_text(&o, &text, &len), 0);
	assert_int_equal(attachment_parse(&arena, text, len, "test", &again), 0);
	assert_string_equal(again.network, "web");
	assert_string_equal(again.key, "box");
	assert_string_equal(again.netns, a.netns);
	assert_string_equal(again.root, a.root);
	assert_string_equal(again.host, "cn0");
	assert_memory_equal(again.mac, a.mac, 6);
	assert_memory_equal(again.addresses, a.addresses, sizeof(a.addresses));
	assert_memory_equal(again.gateways, a.gateways, sizeof(a.gateways));
	assert_int_equal(again.port_count, 2);
	assert_memory_equal(&again.ports[1].host, &ports[1].host, sizeof(struct ip));
	assert_true(again.ports[1].host_port == 1 && again.ports[1].port == 4 &&
		    again.ports[1].count == 3 && again.ports[0].protocol == IPPROTO_UDP);
	/* The record of an attachment that is cut after any of its bytes must be an error. */
	for (size_t i = 0; i + 1 < len; i++)
		assert_true(attachment_parse(&arena, text, i, "test", &again) < 0);
}

/* A record may lack the root, but one that is no absolute path is an error. */
static void the_root_of_a_record(void **state)
{
	static const char format[] =
		"{\"network\": \"web\", \"container\": \"box\", %s"
		"\"netns\": \"/x\", \"interface\": \"eth0\", \"host\": \"cn0\","
		"\"mac\": \"0a:01:02:03:04:05\", \"addresses\": [], \"ports\": []}";
	static const char *const bad[] = {"\"\"", "\"run\"", "7", "null", "[\"/run\"]", "{}"};
	_cleanup_arena_ struct arena arena = {0};
	struct attachment a;
	char text[400], member[40];

	int len = snprintf(text, sizeof(text), format, "");
	assert_int_equal(attachment_parse(&arena, text, (size_t)len, "test", &a), 0);
	assert_null(a.root);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(member, sizeof(member), "\"root\": %s,", bad[i]);
		len = snprintf(text, sizeof(text), format, member);
		assert_true(attachment_parse(&arena, text, (size_t)len, "test", &a) < 0);
		assert_non_null(strstr(err_msg(), "root is missing or malformed"));
	}
}

/*
 * Checks the nft commands that add the elements of an attachment to a network, and the commands
 * that remove these elements.
 */
static void rules_of_an_attachment(void **state)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	_cleanup_arena_ struct arena arena = {0};
	struct network n = parse(&arena, plain);
	struct attachment a;
	struct port ports[4];

	assert_int_equal(port_parse("8080-8081:80-81", &ports[0]), 0);
	assert_int_equal(port_parse("192.0.2.1:53:53/udp", &ports[1]), 0);
	assert_int_equal(port_parse("0.0.0.0:1:2", &ports[2]), 0);
	assert_int_equal(port_parse("[2001:db8::1]:3:4/sctp", &ports[3]), 0);
	a = an_attachment(ports, 4);
	assert_int_equal(rules_add(&out, &n, &a), 0);
	assert_string_equal(strbuf_str(&out),
		"add element inet caisson bridges { \"br0\" }\n"
		"add element inet caisson any4 { tcp . 8080 : 10.0.0.2 . 80, "
		"tcp . 8081 : 10.0.0.2 . 81 }\n"
		"add element inet caisson any6 { tcp . 8080 : fd00::2 . 80, "
		"tcp . 8081 : fd00::2 . 81 }\n"
		"add element inet caisson bound4 { 192.0.2.1 . udp . 53 : 10.0.0.2 . 53 }\n"
		"add element inet caisson any4 { tcp . 1 : 10.0.0.2 . 2 }\n"
		"add element inet caisson bound6 { 2001:db8::1 . sctp . 3 : fd00::2 . 4 }\n");
	strbuf_reset(&out);
	a.port_count = 1;
	assert_int_equal(rules_remove(&out, &a), 0);
	assert_non_null(strstr(strbuf_str(&out), "add element inet caisson any4"));
	assert_non_null(strstr(strstr(strbuf_str(&out), "add element inet caisson any6"),
		"\ndelete element inet caisson any4 { tcp . 8080 : 10.0.0.2 . 80, "));
}

static void rules_of_no_network_are_no_table(void **state)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	assert_int_equal(rules_all(&out, NULL, 0, NULL, 0), 0);
	assert_string_equal(
		strbuf_str(&out), "add table inet caisson\ndelete table inet caisson\n");
}

static void rules_follow_the_options_of_a_network(void **state)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	_cleanup_arena_ struct arena arena = {0};
	struct network n = parse(&arena, plain);

	n.internal = true;
	n.masquerade = n.isolated = false;
	assert_int_equal(rules_all(&out, &n, 1, NULL, 0), 0);
	assert_non_null(strstr(strbuf_str(&out), "add element inet caisson internal { \"br0\" }"));
	assert_null(strstr(strbuf_str(&out), "add element inet caisson natted"));
	assert_null(strstr(strbuf_str(&out), "add element inet caisson isolated"));
	assert_non_null(
		strstr(strbuf_str(&out), "add element inet caisson same { \"br0\" . \"br0\" }"));
	assert_non_null(strstr(
		strbuf_str(&out), "add element inet caisson local6 { \"br0\" . fd00::/64 }"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(subnets_are_parsed),
		cmocka_unit_test(a_pool_leaves_out_what_no_interface_may_have),
		cmocka_unit_test(a_pool_gives_the_lowest_free_address),
		cmocka_unit_test(a_pool_at_the_end_of_all_addresses),
		cmocka_unit_test(overlaps_are_found),
		cmocka_unit_test(subnets_that_cannot_be_meant),
		cmocka_unit_test(every_kind_is_read_as_it_was_written),
		cmocka_unit_test(published_ports_are_parsed),
		cmocka_unit_test(a_written_network_is_read_again),
		cmocka_unit_test(a_written_record_is_read_again),
		cmocka_unit_test(the_root_of_a_record),
		cmocka_unit_test(rules_of_an_attachment),
		cmocka_unit_test(rules_of_no_network_are_no_table),
		cmocka_unit_test(rules_follow_the_options_of_a_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
