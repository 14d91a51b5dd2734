/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 and IPv6 addresses as numbers, and the pools they are taken from. Pure functions. */
#pragma once
#include <arpa/inet.h>
#include <stdint.h>

#include "base/str.h"

struct ip {
	uint8_t family; /* AF_INET, AF_INET6; 0: no address */
	uint8_t bytes[16];
};

#define IP_TEXT (INET6_ADDRSTRLEN + 4) /* an address or a subnet as text, with its NUL */

/* The length of an address of that family in bytes. */
static inline size_t ip_len(uint8_t family)
{
	return family == AF_INET ? 4 : 16;
}

static inline bool ip_is_any(const struct ip *ip)
{
	static const uint8_t zeros[16];

	return memcmp(ip->bytes, zeros, sizeof(zeros)) == 0;
}

/* Parses an address without a zone. -EINVAL: it is none; the caller writes the message. */
int ip_parse(const char *text, struct ip *ret) must_check;
/* Parses ADDRESS/PREFIX. -EINVAL as ip_parse(). Bits behind the prefix are kept. */
int ip_parse_subnet(const char *text, struct ip *ret, unsigned *ret_prefix) must_check;
/* Both return buf. */
const char *ip_text(const struct ip *ip, char buf[IP_TEXT]);
const char *ip_subnet_text(const struct ip *ip, unsigned prefix, char buf[IP_TEXT]);

/* Less than, equal to or greater than 0, as memcmp(). Addresses of other families are not equal. */
int ip_compare(const struct ip *a, const struct ip *b);
/* Adds 1. false: the address was the last one of its family. */
bool ip_next(struct ip *ip);
/* The first address of the subnet, whose bits behind the prefix are zeros, and the last one. */
struct ip ip_first_of(const struct ip *ip, unsigned prefix);
struct ip ip_last_of(const struct ip *ip, unsigned prefix);
/* Whether the address is in the subnet that has another address `of` in it. */
bool ip_in(const struct ip *ip, const struct ip *of, unsigned prefix);

/* A subnet, and which of its addresses containers get. */
struct pool {
	struct ip base; /* its bits behind the prefix are zeros */
	unsigned prefix;
	struct ip gateway;     /* the host's address; never given to a container */
	struct ip first, last; /* the range that addresses are taken from, both ends included */
};

/*
 * Fills in what is missing (family 0) of gateway, first and last, and checks what is there. The
 * network's own address and the broadcast address of IPv4 are never in the range, nor is the
 * subnet-router address of IPv6; subnets of one or two addresses have neither. -EINVAL with a
 * message.
 */
int pool_complete(struct pool *p) must_check;

/* Whether two pools have an address in common. */
bool pool_overlaps(const struct ip *a, unsigned a_prefix, const struct ip *b, unsigned b_prefix);

/*
 * Finds the lowest address of the range that is neither the gateway nor among the n used ones,
 * which this function sorts. -EADDRNOTAVAIL without a message: all are used.
 */
int pool_pick(const struct pool *p, struct ip *used, size_t n, struct ip *ret) must_check;

/*
 * Checks that a container may have this address of the pool: -EINVAL with a message. The address
 * may be outside the range that pool_pick() uses, but not the gateway.
 */
int pool_check(const struct pool *p, const struct ip *wanted) must_check;
