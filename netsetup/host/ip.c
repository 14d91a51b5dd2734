/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/host/ip.h"

#include <stdio.h>
#include <stdlib.h>

int ip_parse(const char *text, struct ip *ret)
{
	struct ip ip = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

	if (inet_pton(ip.family, text, ip.bytes) != 1)
		return -EINVAL;
	*ret = ip;
	return 0;
}

bool ip_is_machine(const struct ip *ip)
{
	/*
	 * IPv4 addresses from 224.0.0.0 on are groups or reserved; 255.255.255.255 is one of the
	 * reserved addresses.
	 */
	return !ip_is_any(ip) &&
	       (ip->family == AF_INET ? ip->bytes[0] < 224 : ip->bytes[0] != 0xff);
}

int ip_parse_subnet(const char *text, struct ip *ret, unsigned *ret_prefix)
{
	const char *slash = strchr(text, '/');
	char address[INET6_ADDRSTRLEN];
	uint64_t prefix;
	struct ip ip;

	if (!slash || (size_t)(slash - text) >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (ip_parse(address, &ip) < 0 || str_to_u64(slash + 1, &prefix) < 0 ||
		prefix > ip_len(ip.family) * 8)
		return -EINVAL;
	*ret = ip;
	*ret_prefix = (unsigned)prefix;
	return 0;
}

const char *ip_text(const struct ip *ip, char buf[IP_TEXT])
{
	if (!inet_ntop(ip->family, ip->bytes, buf, IP_TEXT))
		buf[0] = '\0';
	return buf;
}

const char *ip_subnet_text(const struct ip *ip, unsigned prefix, char buf[IP_TEXT])
{
	ip_text(ip, buf);
	snprintf(buf + strlen(buf), IP_TEXT - strlen(buf), "/%u", prefix);
	return buf;
}

int ip_compare(const struct ip *a, const struct ip *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

/* Adds 1 to the address. Returns false if the address was the last one of its family. */
static bool ip_next(struct ip *ip)
{
	for (size_t i = ip_len(ip->family); i-- > 0;)
		if (++ip->bytes[i] != 0)
			return true;
	return false;
}

/* Sets all bits behind the prefix to ones, or to zeros. */
static struct ip fill(const struct ip *ip, unsigned prefix, bool ones)
{
	struct ip r = *ip;

	for (unsigned bit = prefix; bit < ip_len(ip->family) * 8; bit++) {
		uint8_t mask = (uint8_t)(0x80 >> (bit % 8));

		if (ones)
			r.bytes[bit / 8] |= mask;
		else
			r.bytes[bit / 8] &= (uint8_t)~mask;
	}
	return r;
}

/* Returns the first address of the subnet, whose bits behind the prefix are zeros. */
static struct ip ip_first_of(const struct ip *ip, unsigned prefix)
{
	return fill(ip, prefix, false);
}

/* Returns the last address of the subnet. */
static struct ip ip_last_of(const struct ip *ip, unsigned prefix)
{
	return fill(ip, prefix, true);
}

bool ip_in(const struct ip *ip, const struct ip *of, unsigned prefix)
{
	struct ip a = ip_first_of(ip, prefix), b = ip_first_of(of, prefix);

	return ip_compare(&a, &b) == 0;
}

bool pool_overlaps(const struct ip *a, unsigned a_prefix, const struct ip *b, unsigned b_prefix)
{
	return a->family == b->family && ip_in(a, b, a_prefix < b_prefix ? a_prefix : b_prefix);
}

int subnet_check(const struct ip *base, unsigned prefix)
{
	static const struct {
		struct ip ip;
		unsigned prefix;
		const char *what;
	} special[] = {
		{{AF_INET, {0}}, 8, "\"this network\" (RFC 791)"},
		{{AF_INET, {127}}, 8, "loopback"},
		{{AF_INET, {169, 254}}, 16, "link-local"},
		{{AF_INET, {224}}, 4, "multicast"},
		{{AF_INET, {240}}, 4, "reserved (RFC 1112) and broadcast"},
		/*
		 * ::/8 contains the unspecified address, the loopback address, and IPv4 addresses
		 * in an IPv6 form.
		 */
		{{AF_INET6, {0}}, 8, "reserved (RFC 4291)"},
		{{AF_INET6, {0xfe, 0x80}}, 10, "link-local"},
		{{AF_INET6, {0xff}}, 8, "multicast"},
	};
	unsigned least = base->family == AF_INET ? 8 : 16;
	char text[IP_TEXT], other[IP_TEXT];

	if (prefix < least)
		return err_set(EINVAL, "subnet %s: too large, expected a prefix of /%u or longer",
			ip_subnet_text(base, prefix, text), least);
	for (size_t i = 0; i < ARRAY_SIZE(special); i++)
		if (pool_overlaps(base, prefix, &special[i].ip, special[i].prefix))
			return err_set(EINVAL,
				"subnet %s: the addresses of %s are %s, expected others, such as "
				"%s",
				ip_subnet_text(base, prefix, text),
				ip_subnet_text(&special[i].ip, special[i].prefix, other),
				special[i].what,
				base->family == AF_INET ? "10.1.0.0/24" : "fd00:1::/64");
	return 0;
}

/* Finds the first and the last address of the subnet that an interface may have. */
static void usable(const struct pool *p, struct ip *first, struct ip *last)
{
	*first = ip_first_of(&p->base, p->prefix);
	*last = ip_last_of(&p->base, p->prefix);
	if (p->prefix + 1 >= ip_len(p->base.family) * 8)
		return;
	(void)ip_next(first);
	/*
	 * Leaves the last address of an IPv4 subnet out, because it is the broadcast address,
	 * except in subnets of one or two addresses, for which the function has returned above.
	 */
	if (p->base.family == AF_INET)
		last->bytes[3]--;
}

static int check_usable(const struct pool *p, const struct ip *ip, const char *what)
{
	char text[IP_TEXT], subnet[IP_TEXT];
	struct ip first, last;

	usable(p, &first, &last);
	if (ip->family == p->base.family && ip_compare(ip, &first) >= 0 &&
		ip_compare(ip, &last) <= 0)
		return 0;
	return err_set(EINVAL, "%s %s: expected an address for an interface of the subnet %s", what,
		ip_text(ip, text), ip_subnet_text(&p->base, p->prefix, subnet));
}

int pool_complete(struct pool *p)
{
	struct ip first, last;
	int r = 0;

	p->base = ip_first_of(&p->base, p->prefix);
	usable(p, &first, &last);
	if (!p->gateway.family)
		p->gateway = first;
	if (!p->first.family)
		p->first = first;
	if (!p->last.family)
		p->last = last;
	r = check_usable(p, &p->gateway, "gateway");
	if (r >= 0)
		r = check_usable(p, &p->first, "the first address of the range");
	if (r >= 0)
		r = check_usable(p, &p->last, "the last address of the range");
	if (r >= 0 && ip_compare(&p->first, &p->last) > 0)
		r = err_set(EINVAL, "range: its first address is higher than its last one");
	return r;
}

static int compare(const void *a, const void *b)
{
	return ip_compare(a, b);
}

int pool_pick(const struct pool *p, struct ip *used, size_t n, struct ip *ret)
{
	struct ip at = p->first;
	size_t i = 0;

	if (n > 0)
		qsort(used, n, sizeof(*used), compare);
	for (;;) {
		while (i < n && ip_compare(&used[i], &at) < 0)
			i++;
		if ((i == n || ip_compare(&used[i], &at) != 0) && ip_compare(&at, &p->gateway) != 0)
			break;
		if (ip_compare(&at, &p->last) >= 0 || !ip_next(&at))
			return -EADDRNOTAVAIL;
	}
	*ret = at;
	return 0;
}

int pool_check(const struct pool *p, const struct ip *wanted)
{
	char text[IP_TEXT];
	int r = check_usable(p, wanted, "address");

	if (r >= 0 && ip_compare(wanted, &p->gateway) == 0)
		return err_set(EINVAL, "address %s: it is the gateway's, expected another one",
			ip_text(wanted, text));
	return r;
}
