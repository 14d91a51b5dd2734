/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the routes and neighbours of a network namespace, for net_config_read(). */
#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <stdio.h>

#include "base/log.h"
#include "netsetup/carry/carry_internal.h"

struct route_reader {
	const struct net_indexes *at;
	size_t interface_count;
	bool other_tables;
	struct strbuf found;
};

/*
 * Returns the place of the interface with the kernel's index `index` in the configuration, NET_LO
 * for lo, or NET_NONE if the configuration does not have the interface.
 */
static int interface_of(const struct route_reader *reader, int index)
{
	for (size_t i = 0; i < reader->interface_count; i++)
		if (reader->at->of[i] == index)
			return (int)i;
	return index && index == reader->at->lo ? NET_LO : NET_NONE;
}

const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT])
{
	char text[INET6_ADDRSTRLEN];

	if (!inet_ntop(r->family, r->dst, text, sizeof(text)))
		text[0] = '\0';
	snprintf(buf, NET_ROUTE_TEXT, "%s/%u", text, r->prefix);
	return buf;
}

static bool is_reject(unsigned type)
{
	return type == RTN_BLACKHOLE || type == RTN_UNREACHABLE || type == RTN_PROHIBIT ||
	       type == RTN_THROW;
}

/*
 * Returns whether the kernel adds the route by itself, because of an address, a router
 * advertisement or a redirect.
 */
static bool is_implied(const struct rtmsg *m)
{
	return m->rtm_protocol == RTPROT_KERNEL || m->rtm_protocol == RTPROT_RA ||
	       m->rtm_protocol == RTPROT_REDIRECT || (m->rtm_flags & RTM_F_CLONED);
}

static int err_refuse_route(const struct net_route *route, const char *why)
{
	char text[NET_ROUTE_TEXT];

	return err_set(EOPNOTSUPP, "the route to %s can't be given to a virtual machine: %s",
		net_route_text(route, text), why);
}

static int read_gateway(const struct nlattr *const *attrs, struct net_route *ret)
{
	const struct nlattr *via = attrs[RTA_VIA];
	struct rtvia head;

	if (nl_attr_copy(attrs[RTA_GATEWAY], ret->gateway, net_family_len(ret->family))) {
		ret->gateway_family = ret->family;
		return 0;
	}
	if (!via)
		return attrs[RTA_GATEWAY] ? err_refuse_route(ret, "its gateway has a wrong length")
					  : 0;
	if (nl_attr_len(via) < sizeof(head))
		return err_refuse_route(ret, "its gateway has a wrong length");
	memcpy(&head, nl_attr_data(via), sizeof(head));
	size_t len = net_family_len(head.rtvia_family);
	if (!len || nl_attr_len(via) != sizeof(head) + len)
		return err_refuse_route(ret, "its gateway is neither IPv4 nor IPv6");
	memcpy(ret->gateway, (const char *)nl_attr_data(via) + sizeof(head), len);
	ret->gateway_family = (uint8_t)head.rtvia_family;
	return 0;
}

static int read_metrics(const struct nlattr *nest, struct net_route *ret)
{
	if (nl_attr_in(nest, RTAX_CC_ALGO))
		return err_refuse_route(ret, "it has a congestion control algorithm of its own");
	for (uint16_t i = 0; i < ARRAY_SIZE(ret->metrics); i++)
		if (net_metric_name(i))
			ret->metrics[i] = nl_attr_u32(nl_attr_in(nest, i), 0);
	return 0;
}

static int fill_route(const struct route_reader *reader, const struct rtmsg *m,
	const struct nlattr *const *attrs, struct net_route *ret)
{
	size_t len = net_family_len(m->rtm_family);
	int r;

	if (m->rtm_dst_len > 8 * len ||
		(attrs[RTA_DST] && !nl_attr_copy(attrs[RTA_DST], ret->dst, len)))
		return err_set(
			EBADMSG, "rtnetlink: a reply has a route with a malformed destination");
	if (attrs[RTA_MULTIPATH])
		return err_refuse_route(ret, "it has more than one next hop, expected one");
	if (attrs[RTA_ENCAP])
		return err_refuse_route(ret, "it is encapsulated, expected a plain one");
	if (m->rtm_src_len)
		return err_refuse_route(ret, "it depends on the source address");
	ret->has_source = nl_attr_copy(attrs[RTA_PREFSRC], ret->source, len);
	r = read_gateway(attrs, ret);
	if (r >= 0)
		r = read_metrics(attrs[RTA_METRICS], ret);
	/*
	 * Ignores the interface of a reject route, because the kernel reports lo for IPv6 routes of
	 * this kind.
	 */
	if (r < 0 || is_reject(ret->type))
		return r;
	if (ret->type != RTN_UNICAST && ret->type != RTN_LOCAL && ret->type != RTN_BROADCAST)
		return err_refuse_route(ret,
			"its type is none of unicast, local, broadcast, blackhole, "
			"unreachable, prohibit and throw");
	ret->interface = interface_of(reader, (int)nl_attr_u32(attrs[RTA_OIF], 0));
	return ret->interface == NET_NONE
		       ? err_refuse_route(
				 ret, "it leads through an interface that is not given to it")
		       : 0;
}

static int read_route(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[RTA_ENCAP + 1];
	const struct rtmsg *m = nl_payload(h);
	struct route_reader *reader = arg;
	struct net_route route;

	int r = nl_attrs(h, sizeof(*m), attrs, RTA_ENCAP);
	if (r < 0)
		return r;
	uint32_t table = nl_attr_u32(attrs[RTA_TABLE], m->rtm_table);
	if (!net_family_len(m->rtm_family) || table == RT_TABLE_LOCAL || is_implied(m))
		return 0;
	if (table != RT_TABLE_MAIN) {
		reader->other_tables = true;
		return 0;
	}
	/* The padding is zeroed too, because callers compare arrays of routes with memcmp(). */
	memset(&route, 0, sizeof(route));
	route.family = m->rtm_family;
	route.prefix = m->rtm_dst_len;
	route.tos = m->rtm_tos;
	route.scope = m->rtm_scope;
	route.type = m->rtm_type;
	route.protocol = m->rtm_protocol;
	route.onlink = m->rtm_flags & RTNH_F_ONLINK;
	route.interface = NET_NONE;
	route.metric = nl_attr_u32(attrs[RTA_PRIORITY], 0);
	r = fill_route(reader, m, attrs, &route);
	if (r < 0)
		return r;
	if (reader->found.len / sizeof(route) == NET_ROUTES_MAX)
		return err_set(E2BIG, "there are more than %d routes", NET_ROUTES_MAX);
	return strbuf_add(&reader->found, &route, sizeof(route));
}

static int read_neighbour(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[NDA_LLADDR + 1];
	const struct ndmsg *m = nl_payload(h);
	struct route_reader *reader = arg;
	struct net_neighbour n;

	int r = nl_attrs(h, sizeof(*m), attrs, NDA_LLADDR);
	if (r < 0)
		return r;
	memset(&n, 0, sizeof(n));
	n.family = m->ndm_family;
	n.interface = interface_of(reader, m->ndm_ifindex);
	if (!(m->ndm_state & NUD_PERMANENT) || n.interface < 0 || !net_family_len(n.family) ||
		!nl_attr_copy(attrs[NDA_DST], n.address, net_family_len(n.family)) ||
		!nl_attr_copy(attrs[NDA_LLADDR], n.mac, sizeof(n.mac)))
		return 0;
	if (reader->found.len / sizeof(n) == NET_NEIGHBOURS_MAX)
		return err_set(
			E2BIG, "there are more than %d permanent neighbours", NET_NEIGHBOURS_MAX);
	return strbuf_add(&reader->found, &n, sizeof(n));
}

static int read_rule(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[FRA_TABLE + 1];
	const struct fib_rule_hdr *m = nl_payload(h);
	bool *other = arg;

	int r = nl_attrs(h, sizeof(*m), attrs, FRA_TABLE);
	if (r < 0)
		return r;
	uint32_t table = nl_attr_u32(attrs[FRA_TABLE], m->table);
	*other |= m->action != FR_ACT_TO_TBL || m->src_len || m->dst_len ||
		  (table != RT_TABLE_LOCAL && table != RT_TABLE_MAIN && table != RT_TABLE_DEFAULT);
	return 0;
}

/*
 * Returns whether the namespace has policy rules besides the default ones. A kernel without policy
 * routing refuses the request, and the function then returns false.
 */
static bool has_other_rules(struct nl *nl)
{
	_cleanup_strbuf_ struct strbuf none = {0};
	struct fib_rule_hdr m = {0};
	bool other = false;
	struct nl_req q;

	nl_req_init(&q, RTM_GETRULE, NLM_F_DUMP, &m, sizeof(m));
	if (net_dump(nl, &q, read_rule, &other, &none) < 0)
		err_clear();
	return other;
}

int net_read_routes(
	struct nl *nl, struct arena *a, const struct net_indexes *at, struct net_config *ret)
{
	struct route_reader reader = {.at = at, .interface_count = ret->interface_count};
	struct rtmsg m = {0};
	struct ndmsg n = {0};
	const void *kept = NULL;
	struct nl_req q;

	nl_req_init(&q, RTM_GETROUTE, NLM_F_DUMP, &m, sizeof(m));
	int r = net_dump(nl, &q, read_route, &reader, &reader.found);
	if (r >= 0)
		r = net_keep(a, &reader.found, sizeof(*ret->routes), &kept, &ret->route_count);
	ret->routes = kept;
	if (r >= 0) {
		nl_req_init(&q, RTM_GETNEIGH, NLM_F_DUMP, &n, sizeof(n));
		r = net_dump(nl, &q, read_neighbour, &reader, &reader.found);
	}
	if (r >= 0)
		r = net_keep(
			a, &reader.found, sizeof(*ret->neighbours), &kept, &ret->neighbour_count);
	ret->neighbours = kept;
	strbuf_release(&reader.found);
	if (r < 0)
		return err_ctx(r, "read routes and neighbours");
	if (reader.other_tables || has_other_rules(nl))
		log_warn("network: routing rules, and routes of other tables than main, are not "
			 "carried into the virtual machine");
	return 0;
}
