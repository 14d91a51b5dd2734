/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes a network's file. It is JSON, which caisson or an administrator writes.
 *
 *	{"kind": "bridge", "interface": "caisson0", "mtu": 1500, "isolated": true,
 *	 "internal": false, "masquerade": true, "dns": true,
 *	 "pools": [{"subnet": "10.90.0.0/24", "gateway": "10.90.0.1", "first": "10.90.0.2",
 *		"last": "10.90.0.254"}]}
 *
 * Only "kind", "interface" and the pools' "subnet" are required. The network's name is the file's.
 */
#include <stdio.h>

#include "netsetup/host/host_internal.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

static bool has_plain_characters(const char *name)
{
	return name[0] && name[strspn(name, NAME_CHARACTERS)] == '\0' && name[0] != '.' &&
	       name[0] != '-';
}

int network_check_name(const char *name)
{
	if (streq(name, "none") || streq(name, "host"))
		return err_set(EINVAL,
			"network \"%s\": the name stands for a container %s, expected another name",
			name,
			name[0] == 'n' ? "without a network" : "in the host's network namespace");
	if (!has_plain_characters(name) || strlen(name) > NETWORK_NAME_MAX)
		return err_set(EINVAL,
			"network \"%.100s\": expected a name of 1 to %d letters, digits and "
			"\"_.-\", which does not start with \".\" or \"-\"",
			name, NETWORK_NAME_MAX);
	return 0;
}

/* The kernel itself refuses "all" and "default", because they are directories of sysctls. */
static int check_interface(const char *name)
{
	if (!has_plain_characters(name) || strlen(name) >= IFNAMSIZ || streq(name, "all") ||
		streq(name, "default") || streq(name, "lo"))
		return err_set(EINVAL,
			"interface: found \"%.100s\", expected a name of 1 to %d letters, digits "
			"and \"_.-\", and not all, default or lo",
			name, IFNAMSIZ - 1);
	return 0;
}

/* --- reading a network's file --- */

static int check_type(const struct json *j, enum json_type type)
{
	if (j->type == type)
		return 0;
	return err_set(EINVAL, "%s: found %s, expected %s", j->key, json_type_name(j->type),
		json_type_name(type));
}

static int read_address(const struct json *j, struct ip *ret)
{
	int r = check_type(j, JSON_STRING);

	if (r >= 0 && ip_parse(j->text, ret) < 0)
		return err_set(EINVAL, "%s: found \"%.100s\", expected an IPv4 or IPv6 address",
			j->key, j->text);
	return r;
}

static int read_pool(const struct json *j, struct pool *ret)
{
	struct pool p = {0};
	int r = 0;

	if (j->type != JSON_OBJECT)
		return err_set(EINVAL, "found %s, expected an object", json_type_name(j->type));
	for (const struct json *m = j->first; r >= 0 && m; m = m->next) {
		if (streq(m->key, "gateway"))
			r = read_address(m, &p.gateway);
		else if (streq(m->key, "first"))
			r = read_address(m, &p.first);
		else if (streq(m->key, "last"))
			r = read_address(m, &p.last);
		else if (!streq(m->key, "subnet"))
			r = err_set(EINVAL,
				"%.100s: unknown, expected subnet, gateway, first or last", m->key);
		else if (check_type(m, JSON_STRING) < 0)
			return -EINVAL;
		else if (ip_parse_subnet(m->text, &p.base, &p.prefix) < 0)
			r = err_set(EINVAL,
				"subnet: found \"%.100s\", expected one such as 10.90.0.0/24",
				m->text);
	}
	if (r >= 0 && !p.base.family)
		r = err_set(EINVAL, "subnet: missing");
	if (r >= 0)
		r = pool_complete(&p);
	*ret = p;
	return r;
}

static int read_pools(const struct json *j, struct network *n)
{
	int r = check_type(j, JSON_ARRAY);

	for (const struct json *p = r < 0 ? NULL : j->first; p; p = p->next) {
		if (n->pool_count == ARRAY_SIZE(n->pools))
			return err_set(
				EINVAL, "pools: expected at most two, one of IPv4 and one of IPv6");
		r = read_pool(p, &n->pools[n->pool_count]);
		if (r < 0)
			return err_ctx(r, "pools[%zu]", n->pool_count);
		if (++n->pool_count == 2 && n->pools[0].base.family == n->pools[1].base.family)
			return err_set(EINVAL,
				"pools: both are of IPv%d, expected one of IPv4 and one of IPv6",
				n->pools[0].base.family == AF_INET ? 4 : 6);
	}
	return r;
}

static int read_mtu(const struct json *j, uint32_t *ret)
{
	uint64_t mtu;
	int r = check_type(j, JSON_NUMBER);

	if (r < 0)
		return r;
	if (str_to_u64(j->text, &mtu) < 0 || mtu < DEVICE_MTU_MIN || mtu > DEVICE_MTU_MAX)
		return err_set(EINVAL, "mtu: found %.40s, expected a number from %d to %d", j->text,
			DEVICE_MTU_MIN, DEVICE_MTU_MAX);
	*ret = (uint32_t)mtu;
	return 0;
}

static int read_flag(const struct json *j, bool *ret)
{
	int r = check_type(j, JSON_BOOL);

	if (r >= 0)
		*ret = j->boolean;
	return r;
}

static int read_member(const struct json *m, struct network *n)
{
	int r;

	if (streq(m->key, "kind")) {
		r = check_type(m, JSON_STRING);
		if (r >= 0 && !streq(m->text, "bridge"))
			r = err_set(EINVAL, "kind: found \"%.100s\", expected bridge", m->text);
		return r;
	}
	if (streq(m->key, "interface")) {
		r = check_type(m, JSON_STRING);
		if (r >= 0)
			r = check_interface(m->text);
		if (r >= 0)
			snprintf(n->interface, sizeof(n->interface), "%s", m->text);
		return r;
	}
	if (streq(m->key, "pools"))
		return read_pools(m, n);
	if (streq(m->key, "mtu"))
		return read_mtu(m, &n->mtu);
	if (streq(m->key, "isolated"))
		return read_flag(m, &n->isolated);
	if (streq(m->key, "internal"))
		return read_flag(m, &n->internal);
	if (streq(m->key, "masquerade"))
		return read_flag(m, &n->masquerade);
	if (streq(m->key, "dns"))
		return read_flag(m, &n->dns);
	return err_set(EINVAL,
		"%.100s: unknown, expected kind, interface, pools, mtu, isolated, internal, "
		"masquerade or dns",
		m->key);
}

/* Checks rules that concern several members. */
static int check_whole(const struct network *n)
{
	bool six = false;

	for (size_t i = 0; i < n->pool_count; i++)
		six = six || n->pools[i].base.family == AF_INET6;
	/*
	 * RFC 8200, section 5, requires an MTU of 1280 for IPv6, and the kernel gives an interface
	 * no IPv6 if its MTU is smaller.
	 */
	if (six && n->mtu && n->mtu < 1280)
		return err_set(EINVAL, "mtu: found %u, expected at least 1280 with a pool of IPv6",
			n->mtu);
	return 0;
}

int network_parse(
	struct arena *a, const char *text, size_t len, const char *what, struct network *ret)
{
	struct network n = {.isolated = true, .masquerade = true, .dns = true};
	struct json *j;

	int r = json_parse(a, text, len, what, &j);
	if (r < 0)
		return r;
	if (j->type != JSON_OBJECT)
		return err_set(
			EINVAL, "%s: found %s, expected an object", what, json_type_name(j->type));
	for (const struct json *m = j->first; r >= 0 && m; m = m->next)
		r = read_member(m, &n);
	if (r >= 0 && !json_get(j, "kind"))
		r = err_set(EINVAL, "kind: missing, expected bridge");
	if (r >= 0 && !n.interface[0])
		r = err_set(EINVAL, "interface: missing, expected the bridge's name");
	if (r >= 0)
		r = check_whole(&n);
	if (r < 0)
		return err_ctx(r, "%s", what);
	*ret = n;
	return 0;
}

/* --- writing a network's file --- */

void network_members_json(struct json_out *o, const struct network *n)
{
	char text[IP_TEXT];

	json_out_str(o, "kind", "bridge");
	json_out_str(o, "interface", n->interface);
	if (n->mtu)
		json_out_u64(o, "mtu", n->mtu);
	json_out_bool(o, "isolated", n->isolated);
	json_out_bool(o, "internal", n->internal);
	json_out_bool(o, "masquerade", n->masquerade);
	json_out_bool(o, "dns", n->dns);
	json_out_array(o, "pools");
	for (size_t i = 0; i < n->pool_count; i++) {
		const struct pool *p = &n->pools[i];

		json_out_object(o, NULL);
		json_out_str(o, "subnet", ip_subnet_text(&p->base, p->prefix, text));
		json_out_str(o, "gateway", ip_text(&p->gateway, text));
		json_out_str(o, "first", ip_text(&p->first, text));
		json_out_str(o, "last", ip_text(&p->last, text));
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

void network_json(struct json_out *o, const struct network *n)
{
	json_out_object(o, NULL);
	network_members_json(o, n);
	json_out_end_object(o);
}
