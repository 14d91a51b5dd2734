/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes a network's file. It is JSON, which caisson or an administrator writes.
 *
 *	{"kind": "bridge", "interface": "caisson0", "mtu": 1500, "isolated": true,
 *	 "internal": false, "masquerade": true, "dns": true,
 *	 "pools": [{"subnet": "10.90.0.0/24", "gateway": "10.90.0.1", "first": "10.90.0.2",
 *		"last": "10.90.0.254"}]}
 *
 *	{"kind": "vlan", "interface": "bond0.5", "parent": "bond0", "vlan": 5}
 *	{"kind": "bond", "interface": "bond0", "mode": "active-backup", "members": ["eth1", "eth2"]}
 *	{"kind": "macvlan", "parent": "eth0", "mode": "bridge", "pools": [...]}
 *	{"kind": "device", "parent": "eth3", "functions": true}
 *
 * Only "kind", what kind_check_whole() asks for, and the pools' "subnet" are required. A bridge may
 * have "members" too. The network's name is the file's.
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

/*
 * Checks the name of an interface. "all" and "default" are refused, because the kernel refuses them
 * too: they are directories of sysctls.
 */
static int check_interface(const char *member, const char *name)
{
	if (!has_plain_characters(name) || strlen(name) >= IFNAMSIZ || streq(name, "all") ||
		streq(name, "default") || streq(name, "lo"))
		return err_set(EINVAL,
			"%s: found \"%.100s\", expected a name of 1 to %d letters, digits "
			"and \"_.-\", and not all, default or lo",
			member, name, IFNAMSIZ - 1);
	return 0;
}

/* --- Reading a network's file --- */

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
		r = subnet_check(&p.base, p.prefix);
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

static int read_interface(const struct json *j, char ret[IFNAMSIZ])
{
	int r = check_type(j, JSON_STRING);

	if (r >= 0)
		r = check_interface(j->key ? j->key : "members", j->text);
	if (r >= 0)
		snprintf(ret, IFNAMSIZ, "%s", j->text);
	return r;
}

static int read_members(const struct json *j, struct network *n)
{
	int r = check_type(j, JSON_ARRAY);

	if (r >= 0 && j->count > NETWORK_MEMBERS_MAX)
		return err_set(EINVAL, "members: found %u, expected at most %d", j->count,
			NETWORK_MEMBERS_MAX);
	for (const struct json *m = r < 0 ? NULL : j->first; r >= 0 && m; m = m->next) {
		if (m->type != JSON_STRING)
			return err_set(EINVAL,
				"members: found %s, expected the names of interfaces",
				json_type_name(m->type));
		r = read_interface(m, n->members[n->member_count++]);
	}
	return r;
}

static int read_vlan(const struct json *j, uint16_t *ret)
{
	uint64_t id;
	int r = check_type(j, JSON_NUMBER);

	if (r < 0)
		return r;
	if (str_to_u64(j->text, &id) < 0 || id < 1 || id > 4094)
		return err_set(
			EINVAL, "vlan: found %.40s, expected a number from 1 to 4094", j->text);
	*ret = (uint16_t)id;
	return 0;
}

static int read_mode(const struct json *j, struct network *n)
{
	int r = check_type(j, JSON_STRING);

	if (r >= 0)
		r = network_mode_parse(n->kind, j->text);
	if (r >= 0)
		n->mode = (uint8_t)r;
	return r;
}

static int read_member(const struct json *m, struct network *n)
{
	int r = network_check_member(n->kind, m->key);

	if (r < 0 || streq(m->key, "kind"))
		return r;
	if (streq(m->key, "interface"))
		return read_interface(m, n->interface);
	if (streq(m->key, "parent"))
		return read_interface(m, n->parent);
	if (streq(m->key, "members"))
		return read_members(m, n);
	if (streq(m->key, "mode"))
		return read_mode(m, n);
	if (streq(m->key, "vlan"))
		return read_vlan(m, &n->vlan);
	if (streq(m->key, "functions"))
		return read_flag(m, &n->functions);
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
		"%.100s: unknown, expected kind, interface, parent, members, mode, vlan, "
		"functions, "
		"pools, mtu, isolated, internal, masquerade or dns",
		m->key);
}

static int read_kind(const struct json *j, enum network_kind *ret)
{
	const struct json *kind = json_get(j, "kind");
	int r = kind ? check_type(kind, JSON_STRING)
		     : err_set(EINVAL, "kind: missing, expected bridge or another one");

	if (r >= 0)
		r = network_kind_parse(kind->text);
	if (r >= 0)
		*ret = (enum network_kind)r;
	return r;
}

/* Checks rules that concern several members of a network's file together. */
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
	return kind_check_whole(n);
}

int network_parse(
	struct arena *a, const char *text, size_t len, const char *what, struct network *ret)
{
	struct network n = {0};
	struct json *j;

	int r = json_parse(a, text, len, what, &j);
	if (r < 0)
		return r;
	if (j->type != JSON_OBJECT)
		return err_set(
			EINVAL, "%s: found %s, expected an object", what, json_type_name(j->type));
	r = read_kind(j, &n.kind);
	n.isolated = n.masquerade = n.dns = kind_has(n.kind, KIND_RULES);
	n.mode = network_mode_default(n.kind);
	for (const struct json *m = j->first; r >= 0 && m; m = m->next)
		r = read_member(m, &n);
	if (r >= 0)
		r = check_whole(&n);
	if (r < 0)
		return err_ctx(r, "%s", what);
	*ret = n;
	return 0;
}

/* --- Writing a network's file --- */

static void put_pools(struct json_out *o, const struct network *n)
{
	char text[IP_TEXT];

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

void network_members_json(struct json_out *o, const struct network *n)
{
	json_out_str(o, "kind", network_kind_name(n->kind));
	if (kind_has(n->kind, KIND_INTERFACE))
		json_out_str(o, "interface", n->interface);
	if (n->parent[0])
		json_out_str(o, "parent", n->parent);
	if (n->vlan)
		json_out_u64(o, "vlan", n->vlan);
	if (n->kind == NETWORK_DEVICE)
		json_out_bool(o, "functions", n->functions);
	if (kind_has(n->kind, KIND_MODES))
		json_out_str(o, "mode", network_mode_name(n->kind, n->mode));
	if (n->member_count) {
		json_out_array(o, "members");
		for (size_t i = 0; i < n->member_count; i++)
			json_out_str(o, NULL, n->members[i]);
		json_out_end_array(o);
	}
	if (n->mtu)
		json_out_u64(o, "mtu", n->mtu);
	if (kind_has(n->kind, KIND_RULES))
		json_out_bool(o, "isolated", n->isolated);
	if (kind_has(n->kind, KIND_CONTAINERS))
		json_out_bool(o, "internal", n->internal);
	if (kind_has(n->kind, KIND_RULES)) {
		json_out_bool(o, "masquerade", n->masquerade);
		json_out_bool(o, "dns", n->dns);
	}
	if (kind_has(n->kind, KIND_CONTAINERS))
		put_pools(o, n);
}

void network_json(struct json_out *o, const struct network *n)
{
	json_out_object(o, NULL);
	network_members_json(o, n);
	json_out_end_object(o);
}
