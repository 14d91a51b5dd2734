/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes the record of an attachment, a JSON file that only caisson writes.
 *
 *	{"network", "kind", "container", "root", "netns", "interface", "host", "mac",
 *	 "defaultRoute", "microVM",
 *	 "before": {"name", "mtu", "up", "addresses": [ADDRESS/PREFIX]},
 *	 "addresses": [{"address", "gateway"}],
 *	 "ports": [{"protocol", "host", "hostPort", "port", "count"}]}
 */
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>

#include "netsetup/host/host_internal.h"

static void put_before(struct json_out *o, const struct device_before *b)
{
	char text[IP_TEXT];

	json_out_object(o, "before");
	json_out_str(o, "name", b->name);
	json_out_u64(o, "mtu", b->mtu);
	json_out_bool(o, "up", b->up);
	json_out_array(o, "addresses");
	for (size_t i = 0; i < b->address_count; i++)
		json_out_str(o, NULL, ip_subnet_text(&b->addresses[i], b->prefixes[i], text));
	json_out_end_array(o);
	json_out_end_object(o);
}

void attachment_json(struct json_out *o, const char *key, const struct attachment *a)
{
	char text[IP_TEXT];

	json_out_object(o, key);
	json_out_str(o, "network", a->network);
	json_out_str(o, "kind", network_kind_name(a->kind));
	json_out_str(o, "container", a->key);
	if (a->root)
		json_out_str(o, "root", a->root);
	json_out_str(o, "netns", a->netns);
	json_out_str(o, "interface", a->interface);
	json_out_str(o, "host", a->host);
	snprintf(text, sizeof(text), STR_MAC_FORMAT, STR_MAC_ARGS(a->mac));
	json_out_str(o, "mac", text);
	json_out_bool(o, "defaultRoute", a->default_route);
	if (a->microvm)
		json_out_bool(o, "microVM", true);
	if (a->kind == NETWORK_DEVICE)
		put_before(o, &a->before);
	json_out_array(o, "addresses");
	for (size_t i = 0; i < a->address_count; i++) {
		json_out_object(o, NULL);
		json_out_str(o, "address", ip_subnet_text(&a->addresses[i], a->prefixes[i], text));
		json_out_str(o, "gateway", ip_text(&a->gateways[i], text));
		json_out_end_object(o);
	}
	json_out_end_array(o);
	json_out_array(o, "ports");
	for (size_t i = 0; i < a->port_count; i++) {
		const struct port *p = &a->ports[i];

		json_out_object(o, NULL);
		json_out_str(o, "protocol", port_protocol(p->protocol));
		if (p->host.family)
			json_out_str(o, "host", ip_text(&p->host, text));
		json_out_u64(o, "hostPort", p->host_port);
		json_out_u64(o, "port", p->port);
		json_out_u64(o, "count", p->count);
		json_out_end_object(o);
	}
	json_out_end_array(o);
	json_out_end_object(o);
}

static int damaged(const char *what, const char *member)
{
	return err_set(EINVAL, "%s: %s is missing or malformed: the file is damaged", what, member);
}

static bool copy_name(const struct json *j, const char *key, char ret[IFNAMSIZ])
{
	const char *text = json_get_str(j, key);

	if (!text || !text[0] || strlen(text) >= IFNAMSIZ || strchr(text, '/'))
		return false;
	memcpy(ret, text, strlen(text) + 1);
	return true;
}

bool mac_parse(const char *text, uint8_t ret[6])
{
	return text && strlen(text) == 17 &&
	       sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &ret[0], &ret[1], &ret[2],
		       &ret[3], &ret[4], &ret[5]) == 6;
}

static bool read_addresses(const struct json *j, struct attachment *a)
{
	if (!j || j->type != JSON_ARRAY || j->count > ARRAY_SIZE(a->addresses))
		return false;
	for (const struct json *e = j->first; e; e = e->next) {
		const char *address = json_get_str(e, "address"),
			   *gateway = json_get_str(e, "gateway");
		size_t i = a->address_count++;
		unsigned prefix;

		if (!address || !gateway ||
			ip_parse_subnet(address, &a->addresses[i], &prefix) < 0 ||
			ip_parse(gateway, &a->gateways[i]) < 0 ||
			a->gateways[i].family != a->addresses[i].family)
			return false;
		a->prefixes[i] = (uint8_t)prefix;
	}
	return true;
}

static bool read_before(const struct json *j, struct device_before *b)
{
	const struct json *list = j ? json_get(j, "addresses") : NULL;
	uint64_t mtu;

	if (!list || list->type != JSON_ARRAY || list->count > DEVICE_ADDRESSES_MAX ||
		!copy_name(j, "name", b->name) || json_get_u64(j, "mtu", &mtu) < 0 ||
		mtu > UINT32_MAX)
		return false;
	b->mtu = (uint32_t)mtu;
	b->up = json_get_true(j, "up");
	for (const struct json *e = list->first; e; e = e->next) {
		size_t i = b->address_count++;
		unsigned prefix;

		if (e->type != JSON_STRING ||
			ip_parse_subnet(e->text, &b->addresses[i], &prefix) < 0)
			return false;
		b->prefixes[i] = (uint8_t)prefix;
	}
	return true;
}

/*
 * Reads the member "kind". If the record has none, the attachment is to a bridge, because older
 * versions of caisson knew only bridges.
 */
static bool read_kind(const struct json *j, struct attachment *a)
{
	const char *kind = json_get_str(j, "kind");
	int r = kind ? network_kind_parse(kind) : NETWORK_BRIDGE;

	if (r < 0 || !kind_has((enum network_kind)r, KIND_CONTAINERS))
		return false;
	a->kind = (enum network_kind)r;
	return r != NETWORK_DEVICE || read_before(json_get(j, "before"), &a->before);
}

/* Reads the member "root", which records of older versions of caisson do not have. */
static bool read_root(const struct json *j, struct attachment *a)
{
	const struct json *root = json_get(j, "root");

	if (!root)
		return true;
	a->root = json_get_str(j, "root");
	return a->root && a->root[0] == '/' && strlen(a->root) < PATH_MAX;
}

static bool read_number(const struct json *j, const char *key, uint16_t *ret)
{
	uint64_t v;

	if (json_get_u64(j, key, &v) < 0 || v == 0 || v > UINT16_MAX)
		return false;
	*ret = (uint16_t)v;
	return true;
}

static bool read_port(const struct json *e, struct port *ret)
{
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};
	const char *protocol = json_get_str(e, "protocol"), *host = json_get_str(e, "host");

	for (size_t i = 0; protocol && i < ARRAY_SIZE(protocols); i++)
		if (streq(protocol, port_protocol(protocols[i])))
			ret->protocol = protocols[i];
	if (!ret->protocol || (json_get(e, "host") && (!host || ip_parse(host, &ret->host) < 0)))
		return false;
	return read_number(e, "hostPort", &ret->host_port) && read_number(e, "port", &ret->port) &&
	       read_number(e, "count", &ret->count) &&
	       ret->host_port + ret->count - 1 <= UINT16_MAX &&
	       ret->port + ret->count - 1 <= UINT16_MAX;
}

int attachment_parse(
	struct arena *a, const char *text, size_t len, const char *what, struct attachment *ret)
{
	struct attachment found = {0};
	struct port *ports = NULL;
	struct json *j;

	int r = json_parse(a, text, len, what, &j);
	if (r < 0)
		return r;
	found.network = json_get_str(j, "network");
	found.key = json_get_str(j, "container");
	found.netns = json_get_str(j, "netns");
	found.default_route = json_get_true(j, "defaultRoute");
	found.microvm = json_get_true(j, "microVM");
	if (!found.network || network_check_name(found.network) < 0)
		return damaged(what, "network");
	if (!read_kind(j, &found))
		return damaged(what, "kind or before");
	if (!found.key || !found.netns || !found.key[0] || strchr(found.key, '/') ||
		strlen(found.key) > CONTAINER_KEY_MAX)
		return damaged(what, "container or netns");
	if (!read_root(j, &found))
		return damaged(what, "root");
	if (!copy_name(j, "interface", found.interface) || !copy_name(j, "host", found.host))
		return damaged(what, "interface or host");
	if (!mac_parse(json_get_str(j, "mac"), found.mac) ||
		!read_addresses(json_get(j, "addresses"), &found))
		return damaged(what, "mac or addresses");
	const struct json *list = json_get(j, "ports");
	if (!list || list->type != JSON_ARRAY || list->count > PORTS_MAX)
		return damaged(what, "ports");
	if (list->count && !(ports = arena_array(a, list->count, sizeof(*ports))))
		return -ENOMEM;
	found.ports = ports;
	for (const struct json *e = list->first; e; e = e->next)
		if (!read_port(e, &ports[found.port_count++]))
			return damaged(what, "ports");
	*ret = found;
	return 0;
}
