/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles IPv4 and IPv6 addresses as numbers, and the pools from which addresses are taken. All
 * functions are pure.
 */
#pragma once
#include <arpa/inet.h>
#include <stdint.h>

#include "base/str.h"

struct ip {
	uint8_t family; /* family of the address: AF_INET or AF_INET6; 0: no address */
	uint8_t bytes[16];
};

/* size in bytes of an address or a subnet as text, with its NUL */
#define IP_TEXT (INET6_ADDRSTRLEN + 4)

/* Returns the length in bytes of an address of the family. */
static inline size_t ip_len(uint8_t family)
{
	return family == AF_INET ? 4 : 16;
}

static inline bool ip_is_any(const struct ip *ip)
{
	static const uint8_t zeros[16];

	return memcmp(ip->bytes, zeros, sizeof(zeros)) == 0;
}

/* Returns whether one machine can have the address: it is no group's, and not 0.0.0.0 or ::. */
bool ip_is_machine(const struct ip *ip);

/*
 * Parses an address without a zone. Returns -EINVAL, without a message, if the text is no such
 * address.
 */
int ip_parse(const char *text, struct ip *ret) must_check;
/*
 * Parses a text ADDRESS/PREFIX. Bits behind the prefix are kept. Returns -EINVAL, without a
 * message, if the text is malformed.
 */
int ip_parse_subnet(const char *text, struct ip *ret, unsigned *ret_prefix) must_check;
/* ip_text() and ip_subnet_text() write the text to buf, and return buf. */
const char *ip_text(const struct ip *ip, char buf[IP_TEXT]);
const char *ip_subnet_text(const struct ip *ip, unsigned prefix, char buf[IP_TEXT]);

/*
 * Compares two addresses. Returns less than, equal to or greater than 0, as memcmp() does.
 * Addresses of different families are not equal.
 */
int ip_compare(const struct ip *a, const struct ip *b);
/* Returns whether the two addresses are in the same subnet with a prefix of `prefix` bits. */
bool ip_in(const struct ip *ip, const struct ip *of, unsigned prefix);

/* A subnet, and which of its addresses containers get. */
struct pool {
	struct ip base; /* address of the subnet, whose bits behind the prefix are zeros */
	unsigned prefix;
	struct ip gateway; /* the host's address in the subnet; no container gets it */
	/* the range from which containers get addresses; first and last belong to it */
	struct ip first, last;
};

/*
 * Fills in those of gateway, first and last that are missing (family 0), and checks those that are
 * given. The range contains neither the network's own address and the broadcast address of IPv4,
 * nor the subnet-router address of IPv6; subnets of one or two addresses have no such addresses.
 * Returns -EINVAL with a message.
 */
int pool_complete(struct pool *p) must_check;

/*
 * Refuses subnets that cannot be meant for containers: larger than any network of one host, or with
 * addresses that have a meaning of their own, such as loopback and multicast. Returns -EINVAL with
 * a message.
 */
int subnet_check(const struct ip *base, unsigned prefix) must_check;

/* Returns whether two pools have an address in common. */
bool pool_overlaps(const struct ip *a, unsigned a_prefix, const struct ip *b, unsigned b_prefix);

/*
 * Finds the lowest address of the range that is neither the gateway nor among the n used addresses,
 * which this function sorts. Returns -EADDRNOTAVAIL without a message if all addresses are used.
 */
int pool_pick(const struct pool *p, struct ip *used, size_t n, struct ip *ret) must_check;

/*
 * Checks that a container may have this address of the pool. The address may be outside the range
 * from which pool_pick() takes addresses, but may not be the gateway. Returns -EINVAL with a
 * message.
 */
int pool_check(const struct pool *p, const struct ip *wanted) must_check;
