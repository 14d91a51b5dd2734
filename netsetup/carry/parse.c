/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the JSON form of a struct net_config (json.c) in the guest. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

#include "netsetup/carry/carry_internal.h"
#include "netsetup/rtnl/link.h"

/*
 * A JSON object that is being read. Holds the number of members that have been read, and the first
 * failure, after which all further reads do nothing.
 */
struct object {
	const struct json *json;
	size_t taken; /* number of members that have been read */
	int r;
};

static struct object object_of(const struct json *v)
{
	struct object o = {.json = v};

	if (!v || v->type != JSON_OBJECT)
		o.r = err_set(EINVAL, "found %s, expected an object",
			v ? json_type_name(v->type) : "nothing");
	return o;
}

/*
 * Returns the member `key` if it has the type `type`, or NULL if it is absent. If `must` is set, an
 * absent member is a failure.
 */
static const struct json *take_member(
	struct object *o, const char *key, enum json_type type, bool must)
{
	const struct json *v = o->r < 0 ? NULL : json_get(o->json, key);

	if (o->r < 0)
		return NULL;
	if (v && v->type == type) {
		o->taken++;
		return v;
	}
	if (v || must)
		o->r = err_set(EINVAL, "%s: found %s, expected %s", key,
			v ? json_type_name(v->type) : "nothing", json_type_name(type));
	return NULL;
}

static uint64_t take_number(struct object *o, const char *key, uint64_t max, bool must)
{
	const struct json *v = take_member(o, key, JSON_NUMBER, must);
	uint64_t n = 0;

	if (v && (str_to_u64(v->text, &n) < 0 || n > max))
		o->r = err_set(EINVAL, "%s: found %.40s, expected a number from 0 to %" PRIu64, key,
			v->text, max);
	return n;
}

static bool take_bool(struct object *o, const char *key, bool must)
{
	const struct json *v = take_member(o, key, JSON_BOOL, must);

	return v && v->boolean;
}

/*
 * Reads an address. Returns the family of the address, or 0 if the member is absent. If the
 * argument `family` is 0, both IPv4 and IPv6 are accepted.
 */
static uint8_t take_address(
	struct object *o, const char *key, unsigned family, bool must, uint8_t ret[16])
{
	const struct json *v = take_member(o, key, JSON_STRING, must);

	if (!v)
		return 0;
	unsigned found = strchr(v->text, ':') ? AF_INET6 : AF_INET;
	if ((family && found != family) || inet_pton((int)found, v->text, ret) != 1) {
		o->r = err_set(EINVAL, "%s: found \"%.60s\", expected an %s address", key, v->text,
			!family              ? "IP"
			: family == AF_INET6 ? "IPv6"
					     : "IPv4");
		return 0;
	}
	return (uint8_t)found;
}

static int parse_mac(const char *text, uint8_t ret[6])
{
	unsigned m[6];
	char back[18];

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		ret[i] = (uint8_t)m[i];
	/*
	 * Writes the MAC address back as text and compares the texts, because sscanf() accepts
	 * bytes of one digit and text behind the last byte, and only the spelling that the monitor
	 * writes is valid.
	 */
	snprintf(back, sizeof(back), STR_MAC_FORMAT, STR_MAC_ARGS(ret));
	return streq(text, back) ? 0 : -EINVAL;
}

static void take_mac(struct object *o, uint8_t ret[6])
{
	const struct json *v = take_member(o, "mac", JSON_STRING, true);

	if (v && parse_mac(v->text, ret) < 0)
		o->r = err_set(EINVAL,
			"mac: found \"%.40s\", expected six bytes as 02:00:00:00:00:01", v->text);
}

/*
 * Returns the index of the interface that the member "device" names, or NET_NONE if the member is
 * absent.
 */
static int take_device(struct object *o, const struct net_config *c, bool must)
{
	const struct json *v = take_member(o, "device", JSON_STRING, must);

	if (!v)
		return NET_NONE;
	for (size_t i = 0; i < c->interface_count; i++)
		if (streq(c->interfaces[i].name, v->text))
			return (int)i;
	if (!streq(v->text, "lo"))
		o->r = err_set(EINVAL,
			"device: found \"%.40s\", expected the name of one of the interfaces",
			v->text);
	return NET_LO;
}

/* Returns the first failure, or an error if the object has a member that was not read, or 0. */
static int object_end(const struct object *o)
{
	if (o->r < 0 || o->taken == o->json->count)
		return o->r;
	return err_set(EINVAL, "found %zu unknown members among %u", o->json->count - o->taken,
		o->json->count);
}

/*
 * Reads a member that is an array of at most max elements. Returns 0 and puts the array into the
 * arena as *ret_list, or returns -errno.
 */
static int take_array(struct object *o, struct arena *a, const char *key, size_t max, size_t size,
	const struct json **ret_first, void **ret_list)
{
	const struct json *v = take_member(o, key, JSON_ARRAY, true);

	*ret_first = NULL;
	*ret_list = NULL;
	if (!v)
		return o->r;
	if (v->count > max)
		return o->r = err_set(EINVAL, "%s: found %u elements, expected %zu at most", key,
			       v->count, max);
	*ret_first = v->first;
	if (v->count == 0)
		return 0;
	*ret_list = arena_array(a, v->count, size);
	return *ret_list ? 0 : (o->r = -ENOMEM);
}

static int parse_address(const struct json *v, struct net_address *ret)
{
	struct object o = object_of(v);

	ret->family = take_address(&o, "local", 0, true, ret->local);
	ret->prefix = (uint8_t)take_number(&o, "prefix", 8 * net_family_len(ret->family), true);
	ret->has_peer = take_address(&o, "peer", ret->family, false, ret->peer);
	ret->has_broadcast = take_address(&o, "broadcast", ret->family, false, ret->broadcast);
	const struct json *label = take_member(&o, "label", JSON_STRING, false);
	if (label && strlen(label->text) >= sizeof(ret->label))
		return err_set(EINVAL, "label: \"%s\": expected at most %zu characters",
			label->text, sizeof(ret->label) - 1);
	if (label)
		memcpy(ret->label, label->text, strlen(label->text) + 1);
	ret->scope = (uint8_t)take_number(&o, "scope", UINT8_MAX, false);
	ret->flags = (uint32_t)take_number(&o, "flags", UINT32_MAX, false);
	ret->metric = (uint32_t)take_number(&o, "metric", UINT32_MAX, false);
	ret->protocol = (uint8_t)take_number(&o, "protocol", UINT8_MAX, false);
	if (o.r == 0 && (ret->flags & ~(uint32_t)NET_ADDRESS_FLAGS))
		return err_set(EINVAL, "flags: found 0x%x, expected flags of 0x%x", ret->flags,
			NET_ADDRESS_FLAGS);
	return object_end(&o);
}

static int parse_ipv6(const struct json *v, struct net_ipv6 *ret)
{
	struct object o = object_of(v);

	ret->disabled = take_bool(&o, "disabled", true);
	ret->addr_gen_mode = (uint8_t)take_number(&o, "addrGenMode", 3, false);
	ret->accept_ra = (uint8_t)take_number(&o, "acceptRa", 2, false);
	ret->autoconf = (uint8_t)take_number(&o, "autoconf", 1, false);
	return object_end(&o);
}

static int parse_sysctls(const struct json *v, struct net_sysctls *ret)
{
	struct object o = object_of(v);

	for (unsigned i = 0; net_sysctl_name(i); i++) {
		const char *name = net_sysctl_name(i);
		const struct json *number = take_member(&o, name, JSON_NUMBER, false);
		int64_t n = 0;

		if (!number)
			continue;
		if (str_to_i64(number->text, &n) < 0 || n < INT32_MIN || n > INT32_MAX)
			return err_set(EINVAL, "%s: found %.40s, expected a number of 32 bits",
				name, number->text);
		ret->set[i] = true;
		ret->value[i] = (int32_t)n;
	}
	return object_end(&o);
}

static int parse_interface(struct arena *a, const struct json *v, struct net_interface *ret)
{
	struct object o = object_of(v);
	struct net_address *list;
	const struct json *at;
	void *memory;
	int r;

	const struct json *name = take_member(&o, "name", JSON_STRING, true);
	if (name) {
		o.r = link_check_name(name->text, false);
		if (o.r == 0)
			memcpy(ret->name, name->text, strlen(name->text) + 1);
	}
	take_mac(&o, ret->mac);
	ret->mtu = (uint32_t)take_number(&o, "mtu", 65535, true);
	ret->up = take_bool(&o, "up", true);
	ret->has_tx_queue = json_get(v, "txQueue");
	ret->tx_queue = (uint32_t)take_number(&o, "txQueue", UINT32_MAX, false);
	const struct json *ipv6 = take_member(&o, "ipv6", JSON_OBJECT, true);
	if (ipv6) {
		o.r = parse_ipv6(ipv6, &ret->ipv6);
		if (o.r < 0)
			return err_ctx(o.r, "ipv6");
	}
	const struct json *sysctls = take_member(&o, "sysctls", JSON_OBJECT, true);
	if (sysctls) {
		o.r = parse_sysctls(sysctls, &ret->sysctls);
		if (o.r < 0)
			return err_ctx(o.r, "sysctls");
	}
	r = take_array(&o, a, "addresses", NET_ADDRESSES_MAX, sizeof(*list), &at, &memory);
	ret->addresses = list = memory;
	for (; r >= 0 && at; at = at->next) {
		r = parse_address(at, &list[ret->address_count]);
		if (r < 0)
			return err_ctx(r, "addresses[%zu]", ret->address_count);
		ret->address_count++;
	}
	return r < 0 ? r : object_end(&o);
}

static int parse_metrics(const struct json *v, uint32_t ret[RTAX_QUICKACK + 1])
{
	struct object o = object_of(v);

	for (unsigned i = 0; i <= RTAX_QUICKACK; i++)
		if (net_metric_name(i))
			ret[i] = (uint32_t)take_number(&o, net_metric_name(i), UINT32_MAX, false);
	return object_end(&o);
}

static int parse_route(const struct net_config *c, const struct json *v, struct net_route *ret)
{
	struct object o = object_of(v);

	ret->family = take_address(&o, "dst", 0, true, ret->dst);
	ret->prefix = (uint8_t)take_number(&o, "prefix", 8 * net_family_len(ret->family), true);
	ret->interface = take_device(&o, c, false);
	ret->gateway_family = take_address(&o, "gateway", 0, false, ret->gateway);
	ret->has_source = take_address(&o, "source", ret->family, false, ret->source);
	ret->metric = (uint32_t)take_number(&o, "metric", UINT32_MAX, false);
	ret->tos = (uint8_t)take_number(&o, "tos", UINT8_MAX, false);
	ret->scope = (uint8_t)take_number(&o, "scope", UINT8_MAX, false);
	ret->type = (uint8_t)take_number(&o, "type", RTN_MAX, true);
	ret->protocol = (uint8_t)take_number(&o, "protocol", UINT8_MAX, true);
	ret->onlink = take_bool(&o, "onlink", false);
	const struct json *metrics = take_member(&o, "metrics", JSON_OBJECT, true);
	if (metrics) {
		o.r = parse_metrics(metrics, ret->metrics);
		if (o.r < 0)
			return err_ctx(o.r, "metrics");
	}
	return object_end(&o);
}

static int parse_neighbour(
	const struct net_config *c, const struct json *v, struct net_neighbour *ret)
{
	struct object o = object_of(v);

	ret->interface = take_device(&o, c, true);
	ret->family = take_address(&o, "address", 0, true, ret->address);
	take_mac(&o, ret->mac);
	if (o.r == 0 && ret->interface < 0)
		return err_set(EINVAL, "device: found \"lo\", expected another interface");
	return object_end(&o);
}

/*
 * Refuses two interfaces with one name or one MAC address, because the guest could not tell these
 * from each other.
 */
static int check_unique(const struct net_interface *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(list[i].name, list[k].name) ||
				memcmp(list[i].mac, list[k].mac, 6) == 0)
				return err_set(EINVAL,
					"interfaces[%zu]: found the name or MAC of interfaces[%zu] "
					"(%s, " STR_MAC_FORMAT "), expected others",
					i, k, list[k].name, STR_MAC_ARGS(list[k].mac));
	return 0;
}

int net_config_parse(struct arena *a, const struct json *v, struct net_config *ret)
{
	struct object o = object_of(v);
	struct net_config c = {0};
	const struct json *at;
	void *list;

	int r = take_array(
		&o, a, "interfaces", NET_INTERFACES_MAX, sizeof(struct net_interface), &at, &list);
	c.interfaces = list;
	for (; r >= 0 && at; at = at->next, c.interface_count++) {
		r = parse_interface(a, at, (struct net_interface *)list + c.interface_count);
		if (r < 0)
			return err_ctx(r, "interfaces[%zu]", c.interface_count);
	}
	if (r >= 0)
		r = check_unique(c.interfaces, c.interface_count);
	if (r >= 0)
		r = take_array(
			&o, a, "routes", NET_ROUTES_MAX, sizeof(struct net_route), &at, &list);
	c.routes = list;
	for (; r >= 0 && at; at = at->next, c.route_count++) {
		r = parse_route(&c, at, (struct net_route *)list + c.route_count);
		if (r < 0)
			return err_ctx(r, "routes[%zu]", c.route_count);
	}
	if (r >= 0)
		r = take_array(&o, a, "neighbours", NET_NEIGHBOURS_MAX,
			sizeof(struct net_neighbour), &at, &list);
	c.neighbours = list;
	for (; r >= 0 && at; at = at->next, c.neighbour_count++) {
		r = parse_neighbour(&c, at, (struct net_neighbour *)list + c.neighbour_count);
		if (r < 0)
			return err_ctx(r, "neighbours[%zu]", c.neighbour_count);
	}
	if (r >= 0)
		r = object_end(&o);
	if (r >= 0)
		*ret = c;
	return r;
}
