/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the annotation io.caisson.vm.net, which asks for a network interface that a vhost-user
 * back end serves. It is an annotation, because config.json has no property by which engines and
 * their users could ask for one:
 *
 *	vhost-user:PATH[,KEY=VALUE]...
 *
 * PATH is absolute and has no comma in it. Every mistake that can be found without a kernel is an
 * error here, because otherwise only the guest would notice the mistake.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>

#include "spec/parse.h"

#define HEAD "annotation " SPEC_VM_NET ": "
#define MTU_MIN 68
#define MTU_MIN_IPV6 1280
#define ADDRESSES_MAX 16

struct reader {
	struct arena *arena;
	struct spec_vm_net *net;
	struct spec_ip *addresses, *gateways;
};

static unsigned address_bits(const struct spec_ip *ip)
{
	return ip->family == AF_INET ? 32 : 128;
}

static int take_name(struct reader *r, const char *value)
{
	if (r->net->name)
		return err_set(EINVAL, HEAD "name: given twice");
	if (!spec_is_interface_name(value) || strchr(value, '%') || streq(value, "lo"))
		return err_set(EINVAL,
			HEAD "name: expected the name of an interface, 1 to 15 bytes without "
			     "blanks, '/', ':' or '%%', found \"%.80s\"",
			value);
	r->net->name = value;
	return 0;
}

static int take_mac(struct reader *r, const char *value)
{
	static const uint8_t none[6];
	uint8_t *m = r->net->mac;
	bool good = strlen(value) == 17;

	if (r->net->has_mac)
		return err_set(EINVAL, HEAD "mac: given twice");
	for (size_t i = 0; good && i < 17; i++)
		good = i % 3 == 2 ? value[i] == ':' : isxdigit((unsigned char)value[i]) != 0;
	for (size_t i = 0; good && i < 6; i++)
		m[i] = (uint8_t)strtoul(value + 3 * i, NULL, 16);
	/*
	 * The first byte of a group (multicast) MAC address is odd. Such a MAC address and the
	 * all-zero one are refused.
	 */
	if (!good || (m[0] & 1) || memcmp(m, none, sizeof(none)) == 0)
		return err_set(EINVAL,
			HEAD "mac: expected six bytes such as 02:00:00:00:00:01, the first one "
			     "even, found \"%.80s\"",
			value);
	r->net->has_mac = true;
	return 0;
}

static int take_mtu(struct reader *r, const char *value)
{
	uint64_t mtu;

	if (r->net->mtu)
		return err_set(EINVAL, HEAD "mtu: given twice");
	if (str_to_u64(value, &mtu) < 0 || mtu < MTU_MIN || mtu > UINT16_MAX)
		return err_set(EINVAL, HEAD "mtu: expected a number from %d to %d, found \"%.80s\"",
			MTU_MIN, UINT16_MAX, value);
	r->net->mtu = (uint16_t)mtu;
	return 0;
}

/* Returns whether a network interface or a gateway can have the IP address. */
static bool is_usable(const struct spec_ip *ip)
{
	static const uint8_t none[16], loopback[16] = {[15] = 1};
	const uint8_t first = ip->bytes[0];

	if (ip->family == AF_INET)
		return first != 0 && first != 127 && first < 224;
	return first != 0xff && memcmp(ip->bytes, none, 16) != 0 &&
	       memcmp(ip->bytes, loopback, 16) != 0;
}

static bool parse_ip(const char *text, struct spec_ip *ret)
{
	*ret = (struct spec_ip){.family = strchr(text, ':') ? AF_INET6 : AF_INET, .text = text};
	return inet_pton(ret->family, text, ret->bytes) == 1 && is_usable(ret);
}

static int take_address(struct reader *r, const char *value)
{
	struct spec_ips *list = &r->net->addresses;
	struct spec_ip *ip = &r->addresses[list->n];
	char *host = arena_strdup(r->arena, value);
	uint64_t prefix;

	if (!host)
		return -ENOMEM;
	if (list->n == ADDRESSES_MAX)
		return err_set(
			E2BIG, HEAD "address: expected at most %d, found more", ADDRESSES_MAX);
	char *slash = strchr(host, '/');
	if (slash)
		*slash = '\0';
	if (!slash || !parse_ip(host, ip) || str_to_u64(slash + 1, &prefix) < 0 || !prefix ||
		prefix > address_bits(ip))
		return err_set(EINVAL,
			HEAD "address: expected an address of one host with the length of its "
			     "prefix, such as 10.0.2.15/24 or fd00::15/64, found \"%.80s\"",
			value);
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i].family == ip->family && memcmp(list->v[i].bytes, ip->bytes, 16) == 0)
			return err_set(EINVAL, HEAD "address: %s is given twice", host);
	ip->prefix = (uint8_t)prefix;
	ip->text = value;
	list->n++;
	return 0;
}

static int take_gateway(struct reader *r, const char *value)
{
	struct spec_ips *list = &r->net->gateways;
	struct spec_ip *ip;

	for (size_t i = 0; i < list->n; i++)
		if (list->v[i].family == (strchr(value, ':') ? AF_INET6 : AF_INET))
			return err_set(EINVAL,
				HEAD "gateway: expected one gateway for each of IPv4 and IPv6, "
				     "found %s and %.80s",
				list->v[i].text, value);
	ip = &r->gateways[list->n];
	if (!parse_ip(value, ip))
		return err_set(EINVAL,
			HEAD "gateway: expected an address of one host such as 10.0.2.2 or "
			     "fe80::1, found \"%.80s\"",
			value);
	list->n++;
	return 0;
}

static const struct {
	const char *name;
	int (*take)(struct reader *r, const char *value);
} keys[] = {
	{"mac", take_mac},
	{"mtu", take_mtu},
	{"name", take_name},
	{"address", take_address},
	{"gateway", take_gateway},
};

static int take_pair(struct reader *r, char *pair)
{
	char *value = strchr(pair, '=');

	if (value)
		*value++ = '\0';
	for (size_t i = 0; value && i < ARRAY_SIZE(keys); i++)
		if (streq(keys[i].name, pair))
			return keys[i].take(r, value);
	return err_set(EINVAL,
		HEAD
		"expected mac=, mtu=, name=, address= or gateway= after a comma, found \"%.80s\"",
		pair);
}

static bool share_network(const struct spec_ip *a, const struct spec_ip *b)
{
	const unsigned whole = a->prefix / 8, rest = a->prefix % 8;

	return a->family == b->family && memcmp(a->bytes, b->bytes, whole) == 0 &&
	       (!rest || (a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest) == 0);
}

/*
 * Checks that the gateway is not the interface's own address, and that the guest can reach it.
 * Without this check only the guest's kernel would find the mistake, and say "Network is
 * unreachable" without naming the gateway.
 */
static int check_gateway(const struct spec_vm_net *n, const struct spec_ip *g)
{
	bool reached = g->family == AF_INET6 && g->bytes[0] == 0xfe && (g->bytes[1] & 0xc0) == 0x80;

	for (size_t i = 0; i < n->addresses.n; i++) {
		const struct spec_ip *a = &n->addresses.v[i];
		if (a->family == g->family && memcmp(a->bytes, g->bytes, 16) == 0)
			return err_set(EINVAL,
				HEAD "gateway: %s is the address of the interface itself", g->text);
		reached |= share_network(a, g);
	}
	return reached ? 0
		       : err_set(EINVAL,
				 HEAD
				 "gateway: %s is in the network of no given address: add address=",
				 g->text);
}

static int check_network(const struct spec_vm_net *n)
{
	for (size_t i = 0; i < n->addresses.n; i++)
		if (n->addresses.v[i].family == AF_INET6 && n->mtu && n->mtu < MTU_MIN_IPV6)
			return err_set(EINVAL,
				HEAD "mtu: expected %d at least for the IPv6 address %s, found %u",
				MTU_MIN_IPV6, n->addresses.v[i].text, n->mtu);
	for (size_t i = 0; i < n->gateways.n; i++) {
		int r = check_gateway(n, &n->gateways.v[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int spec_parse_vm_net(struct arena *a, const char *value, const struct spec_vm_net **ret)
{
	static const char prefix[] = "vhost-user:";
	struct spec_vm_net *n = arena_alloc(a, sizeof(*n));
	char *rest = arena_strdup(a, value), *pair;
	struct reader r = {.arena = a,
		.net = n,
		.addresses = arena_array(a, ADDRESSES_MAX + 1, sizeof(struct spec_ip)),
		.gateways = arena_array(a, 2, sizeof(struct spec_ip))};
	int result = 0;

	if (!n || !rest || !r.addresses || !r.gateways)
		return -ENOMEM;
	if (!str_starts(rest, prefix) || rest[strlen(prefix)] != '/')
		return err_set(EINVAL,
			HEAD "expected \"%s\" and the absolute path of a socket, found \"%.80s\"",
			prefix, value);
	n->addresses.v = r.addresses;
	n->gateways.v = r.gateways;
	n->socket = strsep(&rest, ",") + strlen(prefix);
	while (result >= 0 && (pair = strsep(&rest, ",")))
		result = take_pair(&r, pair);
	if (!n->name)
		n->name = "eth0";
	if (result >= 0)
		result = check_network(n);
	if (result >= 0)
		*ret = n;
	return result;
}
