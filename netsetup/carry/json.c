/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a struct net_config as JSON in the monitor, for the guest; parse.c reads it there.
 * Addresses are text, numbers are the kernel's, and members that have their usual value are left
 * out.
 *
 *	{"interfaces": [{"name", "mac", "mtu", "up", "txQueue", "ipv6": {"disabled",
 *		"addrGenMode", "acceptRa", "autoconf"}, "sysctls": {"ipv4/rp_filter", ...},
 *		"addresses": [{"local", "prefix", "peer", "broadcast", "label", "scope", "flags",
 *		"metric", "protocol"}]}],
 *	 "routes": [{"dst", "prefix", "device", "gateway", "source", "metric", "tos", "scope",
 *		"type", "protocol", "onlink", "metrics": {"mtu", ...}}],
 *	 "neighbours": [{"device", "address", "mac"}]}
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "netsetup/carry/carry_internal.h"

const char *net_metric_name(unsigned rtax)
{
	static const char *const names[RTAX_QUICKACK + 1] = {
		[RTAX_LOCK] = "lock",
		[RTAX_MTU] = "mtu",
		[RTAX_WINDOW] = "window",
		[RTAX_RTT] = "rtt",
		[RTAX_RTTVAR] = "rttvar",
		[RTAX_SSTHRESH] = "ssthresh",
		[RTAX_CWND] = "cwnd",
		[RTAX_ADVMSS] = "advmss",
		[RTAX_REORDERING] = "reordering",
		[RTAX_HOPLIMIT] = "hoplimit",
		[RTAX_INITCWND] = "initcwnd",
		[RTAX_FEATURES] = "features",
		[RTAX_RTO_MIN] = "rto_min",
		[RTAX_INITRWND] = "initrwnd",
		[RTAX_QUICKACK] = "quickack",
	};

	return rtax < ARRAY_SIZE(names) ? names[rtax] : NULL;
}

static void put_address(struct json_out *o, const char *key, unsigned family, const uint8_t *raw)
{
	char text[INET6_ADDRSTRLEN] = "";

	(void)inet_ntop((int)family, raw, text, sizeof(text));
	json_out_str(o, key, text);
}

static void put_mac(struct json_out *o, const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), STR_MAC_FORMAT, STR_MAC_ARGS(mac));
	json_out_str(o, "mac", text);
}

static void put_number(struct json_out *o, const char *key, uint64_t value)
{
	if (value)
		json_out_u64(o, key, value);
}

static void put_sysctls(struct json_out *o, const struct net_sysctls *s)
{
	json_out_object(o, "sysctls");
	for (unsigned i = 0; net_sysctl_name(i); i++)
		if (s->set[i])
			json_out_i64(o, net_sysctl_name(i), s->value[i]);
	json_out_end_object(o);
}

static void put_interface(struct json_out *o, const struct net_interface *i)
{
	json_out_object(o, NULL);
	json_out_str(o, "name", i->name);
	put_mac(o, i->mac);
	json_out_u64(o, "mtu", i->mtu);
	json_out_bool(o, "up", i->up);
	if (i->has_tx_queue)
		json_out_u64(o, "txQueue", i->tx_queue);
	json_out_object(o, "ipv6");
	json_out_bool(o, "disabled", i->ipv6.disabled);
	put_number(o, "addrGenMode", i->ipv6.addr_gen_mode);
	put_number(o, "acceptRa", i->ipv6.accept_ra);
	put_number(o, "autoconf", i->ipv6.autoconf);
	json_out_end_object(o);
	put_sysctls(o, &i->sysctls);
	json_out_array(o, "addresses");
	for (size_t k = 0; k < i->address_count; k++) {
		const struct net_address *a = &i->addresses[k];

		json_out_object(o, NULL);
		put_address(o, "local", a->family, a->local);
		json_out_u64(o, "prefix", a->prefix);
		if (a->has_peer)
			put_address(o, "peer", a->family, a->peer);
		if (a->has_broadcast)
			put_address(o, "broadcast", a->family, a->broadcast);
		if (a->label[0])
			json_out_str(o, "label", a->label);
		put_number(o, "scope", a->scope);
		put_number(o, "flags", a->flags);
		put_number(o, "metric", a->metric);
		put_number(o, "protocol", a->protocol);
		json_out_end_object(o);
	}
	json_out_end_array(o);
	json_out_end_object(o);
}

static void put_device(struct json_out *o, const struct net_config *c, int interface)
{
	if (interface >= 0)
		json_out_str(o, "device", c->interfaces[interface].name);
	else if (interface == NET_LO)
		json_out_str(o, "device", "lo");
}

static void put_route(struct json_out *o, const struct net_config *c, const struct net_route *r)
{
	json_out_object(o, NULL);
	put_address(o, "dst", r->family, r->dst);
	json_out_u64(o, "prefix", r->prefix);
	put_device(o, c, r->interface);
	if (r->gateway_family)
		put_address(o, "gateway", r->gateway_family, r->gateway);
	if (r->has_source)
		put_address(o, "source", r->family, r->source);
	put_number(o, "metric", r->metric);
	put_number(o, "tos", r->tos);
	put_number(o, "scope", r->scope);
	json_out_u64(o, "type", r->type);
	json_out_u64(o, "protocol", r->protocol);
	if (r->onlink)
		json_out_bool(o, "onlink", true);
	json_out_object(o, "metrics");
	for (unsigned i = 0; i < ARRAY_SIZE(r->metrics); i++)
		if (net_metric_name(i))
			put_number(o, net_metric_name(i), r->metrics[i]);
	json_out_end_object(o);
	json_out_end_object(o);
}

void net_config_json(struct json_out *o, const char *key, const struct net_config *c)
{
	json_out_object(o, key);
	json_out_array(o, "interfaces");
	for (size_t i = 0; i < c->interface_count; i++)
		put_interface(o, &c->interfaces[i]);
	json_out_end_array(o);
	json_out_array(o, "routes");
	for (size_t i = 0; i < c->route_count; i++)
		put_route(o, c, &c->routes[i]);
	json_out_end_array(o);
	json_out_array(o, "neighbours");
	for (size_t i = 0; i < c->neighbour_count; i++) {
		const struct net_neighbour *n = &c->neighbours[i];

		json_out_object(o, NULL);
		put_device(o, c, n->interface);
		put_address(o, "address", n->family, n->address);
		put_mac(o, n->mac);
		json_out_end_object(o);
	}
	json_out_end_array(o);
	json_out_end_object(o);
}
