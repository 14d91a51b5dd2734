/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the nftables table "inet caisson" as text. Chains never change. Networks and attachments
 * are elements of sets and maps, so that a packet costs the same beside 500 containers.
 *
 *	bridges      bridges of all networks
 *	isolated     bridges whose containers reach no other network, and are reached by none
 *	internal     bridges whose containers reach nothing but the host and each other
 *	natted       bridges whose containers have the host's address outside
 *	same         bridge . bridge: traffic that stays in one network
 *	local4/6     bridge . subnet: where a container's own addresses are
 *	any4/6       protocol . port -> container: published on all addresses of the host
 *	bound4/6     address . protocol . port -> container: published on one address
 *
 * The chains prerouting and output translate published ports, but only in packets to the host
 * itself (fib daddr type local), because packets that the host merely forwards are meant for
 * another machine. ::1 is left out, because Linux routes no packet from ::1 to another interface,
 * so the connection would hang. Without the translation the connection is refused, and the client
 * goes on to 127.0.0.1.
 *
 * The chain postrouting replaces source addresses to which a container could not answer: those of
 * 127.0.0.0/8, and those of containers of the same network, because the answer would go there
 * directly and untranslated. The rule for the same network looks at the source address and not at
 * the incoming interface, because packets have no incoming interface there if the bridge itself
 * calls the hooks (br_netfilter, which docker loads).
 *
 * The chain guard drops packets of containers to 127.0.0.0/8, which route_localnet of the bridge
 * would let in.
 */
#include <stdio.h>

#include "netsetup/host/host_internal.h"

static const char chains[] =
	"	chain guard {\n"
	"		type filter hook prerouting priority -300;\n"
	"		iifname @bridges ip daddr 127.0.0.0/8 drop\n"
	"	}\n"
	"	chain ports {\n"
	"		ip6 daddr ::1 return\n"
	"		meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . "
	"meta l4proto . th dport map @bound4\n"
	"		meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to "
	"meta l4proto . th dport map @any4\n"
	"		meta nfproto ipv6 meta l4proto { tcp, udp, sctp } dnat ip6 to ip6 daddr . "
	"meta l4proto . th dport map @bound6\n"
	"		meta nfproto ipv6 meta l4proto { tcp, udp, sctp } dnat ip6 to "
	"meta l4proto . th dport map @any6\n"
	"	}\n"
	"	chain prerouting {\n"
	"		type nat hook prerouting priority -100;\n"
	"		fib daddr type local jump ports\n"
	"	}\n"
	"	chain output {\n"
	"		type nat hook output priority -100;\n"
	"		fib daddr type local jump ports\n"
	"	}\n"
	"	chain postrouting {\n"
	"		type nat hook postrouting priority 100;\n"
	"		oifname @bridges ip saddr 127.0.0.0/8 masquerade\n"
	"		ct status dnat oifname . ip saddr @local4 masquerade\n"
	"		ct status dnat oifname . ip6 saddr @local6 masquerade\n"
	"		oifname @bridges accept\n"
	"		ip daddr 224.0.0.0/4 accept\n"
	"		ip6 daddr ff00::/8 accept\n"
	"		iifname @natted masquerade\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority 0;\n"
	"		iifname . oifname @same accept\n"
	"		iifname @internal drop\n"
	"		oifname @internal drop\n"
	"		ct state established,related accept\n"
	"		ct status dnat accept\n"
	"		iifname @isolated oifname @bridges drop\n"
	"		iifname @bridges oifname @isolated drop\n"
	"		iifname @bridges accept\n"
	"		oifname @natted drop\n"
	"	}\n"
	"}\n";

static const struct {
	const char *name, *type;
} sets[] = {
	{"set bridges", "type ifname;"},
	{"set isolated", "type ifname;"},
	{"set internal", "type ifname;"},
	{"set natted", "type ifname;"},
	{"set same", "type ifname . ifname;"},
	{"set local4", "type ifname . ipv4_addr; flags interval;"},
	{"set local6", "type ifname . ipv6_addr; flags interval;"},
	{"map any4", "type inet_proto . inet_service : ipv4_addr . inet_service;"},
	{"map any6", "type inet_proto . inet_service : ipv6_addr . inet_service;"},
	{"map bound4", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;"},
	{"map bound6", "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;"},
};

static int add_element(struct strbuf *out, const char *set, const char *text)
{
	return strbuf_addf(out, "add element " RULES_TABLE " %s { %s }\n", set, text);
}

/*
 * Writes the elements of a network in the sets. The names of bridges need no escapes, because they
 * have only letters, digits and "_.-".
 */
static int add_network(struct strbuf *out, const struct network *n)
{
	char text[IP_TEXT + 2 * IFNAMSIZ + 8], subnet[IP_TEXT];
	int r;

	snprintf(text, sizeof(text), "\"%s\"", n->interface);
	r = add_element(out, "bridges", text);
	if (r >= 0 && n->isolated)
		r = add_element(out, "isolated", text);
	if (r >= 0 && n->internal)
		r = add_element(out, "internal", text);
	if (r >= 0 && n->masquerade)
		r = add_element(out, "natted", text);
	snprintf(text, sizeof(text), "\"%s\" . \"%s\"", n->interface, n->interface);
	if (r >= 0)
		r = add_element(out, "same", text);
	for (size_t i = 0; r >= 0 && i < n->pool_count; i++) {
		const struct pool *p = &n->pools[i];

		snprintf(text, sizeof(text), "\"%s\" . %s", n->interface,
			ip_subnet_text(&p->base, p->prefix, subnet));
		r = add_element(out, p->base.family == AF_INET ? "local4" : "local6", text);
	}
	return r;
}

/*
 * Writes the command `verb` ("add" or "delete") for the elements of one published port in the maps
 * of the family of the container's address.
 */
static int port_elements(
	struct strbuf *out, const char *verb, const struct port *p, const struct ip *to)
{
	const char *protocol = port_protocol(p->protocol),
		   *digit = to->family == AF_INET ? "4" : "6";
	char host[IP_TEXT] = "", container[IP_TEXT];
	int r;

	if (p->host.family && !ip_is_any(&p->host))
		ip_text(&p->host, host);
	r = strbuf_addf(
		out, "%s element " RULES_TABLE " %s%s {", verb, host[0] ? "bound" : "any", digit);
	for (unsigned i = 0; r >= 0 && i < p->count; i++)
		r = strbuf_addf(out, "%s %s%s%s . %u : %s . %u", i ? "," : "", host,
			host[0] ? " . " : "", protocol, p->host_port + i, ip_text(to, container),
			p->port + i);
	return r < 0 ? r : strbuf_addf(out, " }\n");
}

static int attachment_elements(struct strbuf *out, const char *verb, const struct attachment *a)
{
	int r = 0;

	for (size_t i = 0; i < a->port_count; i++)
		for (size_t k = 0; r >= 0 && k < a->address_count; k++)
			if (!a->ports[i].host.family ||
				a->ports[i].host.family == a->addresses[k].family)
				r = port_elements(out, verb, &a->ports[i], &a->addresses[k]);
	return r;
}

int rules_all(struct strbuf *out, const struct network *networks, size_t n,
	const struct attachment *const *attachments, size_t count)
{
	size_t bridges = 0;

	for (size_t i = 0; i < n; i++)
		bridges += kind_has(networks[i].kind, KIND_RULES);
	/*
	 * Makes the table before deleting it, because nftables cannot delete a table that does not
	 * exist.
	 */
	int r = strbuf_addf(out, "add table " RULES_TABLE "\ndelete table " RULES_TABLE "\n");

	if (r < 0 || bridges == 0)
		return r;
	r = strbuf_addf(out, "table " RULES_TABLE " {\n");
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(sets); i++)
		r = strbuf_addf(out, "\t%s { %s }\n", sets[i].name, sets[i].type);
	if (r >= 0)
		r = strbuf_add(out, chains, sizeof(chains) - 1);
	for (size_t i = 0; r >= 0 && i < n; i++)
		if (kind_has(networks[i].kind, KIND_RULES))
			r = add_network(out, &networks[i]);
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = attachment_elements(out, "add", attachments[i]);
	return r;
}

int rules_add(struct strbuf *out, const struct network *n, const struct attachment *a)
{
	char text[IFNAMSIZ + 3];
	int r;

	/*
	 * Adds the network's bridge to the set `bridges` once more. The bridge is in the set
	 * already, so this changes nothing, but it makes the transaction fail if the table does not
	 * exist.
	 */
	snprintf(text, sizeof(text), "\"%s\"", n->interface);
	r = add_element(out, "bridges", text);
	return r < 0 ? r : attachment_elements(out, "add", a);
}

int rules_remove(struct strbuf *out, const struct attachment *a)
{
	/*
	 * Elements are added before they are deleted, because nftables cannot delete an element
	 * that does not exist. Adding an element twice is no error.
	 */
	int r = attachment_elements(out, "add", a);

	return r < 0 ? r : attachment_elements(out, "delete", a);
}
