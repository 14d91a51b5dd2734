/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds the kinds of networks, what the networks of each kind have, and the names of their modes.
 */
#include <linux/if_link.h>
#include <stdio.h>

#include "netsetup/host/host_internal.h"

struct mode {
	const char *name; /* name of the kind, which `ip link` uses too */
	uint8_t number;
};

static const struct mode bond_modes[] = {{"balance-rr", 0}, {"active-backup", 1},
	{"balance-xor", 2}, {"broadcast", 3}, {"802.3ad", 4}, {"balance-tlb", 5},
	{"balance-alb", 6}, {NULL, 0}};
static const struct mode macvlan_modes[] = {{"bridge", MACVLAN_MODE_BRIDGE},
	{"private", MACVLAN_MODE_PRIVATE}, {"vepa", MACVLAN_MODE_VEPA},
	{"passthru", MACVLAN_MODE_PASSTHRU}, {NULL, 0}};
static const struct mode ipvlan_modes[] = {
	{"l2", IPVLAN_MODE_L2}, {"l3", IPVLAN_MODE_L3}, {"l3s", IPVLAN_MODE_L3S}, {NULL, 0}};

static const struct kind {
	const char *name;
	unsigned has;
	uint8_t default_mode;
	const struct mode *modes;
	/*
	 * what the kernel needs for interfaces of the kind: a module, or the option with which the
	 * kernel was built
	 */
	const char *module, *option;
} kinds[] = {
	[NETWORK_BRIDGE] = {"bridge", KIND_INTERFACE | KIND_MEMBERS | KIND_CONTAINERS | KIND_RULES,
		0, NULL, "bridge", "CONFIG_BRIDGE"},
	[NETWORK_VLAN] = {"vlan", KIND_INTERFACE | KIND_PARENT, 0, NULL, "8021q",
		"CONFIG_VLAN_8021Q"},
	/*
	 * The default mode of a bond is active-backup, because this mode works with any switch. For
	 * most other modes the switch has to be configured.
	 */
	[NETWORK_BOND] = {"bond", KIND_INTERFACE | KIND_MEMBERS | KIND_MODES, 1, bond_modes,
		"bonding", "CONFIG_BONDING"},
	[NETWORK_MACVLAN] = {"macvlan", KIND_PARENT | KIND_CONTAINERS | KIND_MODES,
		MACVLAN_MODE_BRIDGE, macvlan_modes, "macvlan", "CONFIG_MACVLAN"},
	[NETWORK_IPVLAN] = {"ipvlan", KIND_PARENT | KIND_CONTAINERS | KIND_MODES, IPVLAN_MODE_L2,
		ipvlan_modes, "ipvlan", "CONFIG_IPVLAN"},
	[NETWORK_DEVICE] = {"device", KIND_PARENT | KIND_CONTAINERS, 0, NULL, "", ""},
};

bool kind_has(enum network_kind kind, unsigned what)
{
	return (kinds[kind].has & what) == what;
}

bool kind_keeps_mac(const struct network *n)
{
	return n->kind == NETWORK_IPVLAN || n->kind == NETWORK_DEVICE ||
	       (n->kind == NETWORK_MACVLAN && n->mode == MACVLAN_MODE_PASSTHRU);
}

const char *network_kind_name(enum network_kind kind)
{
	return kinds[kind].name;
}

int network_kind_parse(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (streq(kinds[i].name, text))
			return (int)i;
	return err_set(EINVAL,
		"kind: found \"%.100s\", expected bridge, vlan, bond, macvlan, ipvlan or device",
		text);
}

int network_mode_parse(enum network_kind kind, const char *text)
{
	char names[128] = "";

	for (const struct mode *m = kinds[kind].modes; m && m->name; m++) {
		if (streq(m->name, text))
			return m->number;
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			names[0] ? ", " : "", m->name);
	}
	if (!kinds[kind].modes)
		return network_check_member(kind, "mode");
	return err_set(EINVAL, "mode: found \"%.100s\", expected one of %s", text, names);
}

const char *network_mode_name(enum network_kind kind, uint8_t mode)
{
	for (const struct mode *m = kinds[kind].modes; m && m->name; m++)
		if (m->number == mode)
			return m->name;
	return "?";
}

uint8_t network_mode_default(enum network_kind kind)
{
	return kinds[kind].default_mode;
}

int network_check_member(enum network_kind kind, const char *member)
{
	static const struct {
		const char *name;
		unsigned needs;
	} members[] = {{"interface", KIND_INTERFACE}, {"parent", KIND_PARENT},
		{"members", KIND_MEMBERS}, {"mode", KIND_MODES}, {"pools", KIND_CONTAINERS},
		{"internal", KIND_CONTAINERS}, {"isolated", KIND_RULES}, {"masquerade", KIND_RULES},
		{"dns", KIND_RULES}};
	bool allowed = true;

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (streq(member, members[i].name))
			allowed = kind_has(kind, members[i].needs);
	if (streq(member, "vlan"))
		allowed = kind == NETWORK_VLAN;
	if (streq(member, "functions"))
		allowed = kind == NETWORK_DEVICE;
	/* A network of kind device sets no MTU, because the interface that moves keeps its own. */
	if (streq(member, "mtu"))
		allowed = kind != NETWORK_DEVICE;
	return allowed ? 0
		       : err_set(EINVAL,
				 "%s: a network of kind %s has no such property, expected "
				 "another kind, or no %s",
				 member, kinds[kind].name, member);
}

int kind_check_whole(const struct network *n)
{
	if (kind_has(n->kind, KIND_INTERFACE) && !n->interface[0])
		return err_set(EINVAL, "interface: missing, expected the name of the %s",
			kinds[n->kind].name);
	if (kind_has(n->kind, KIND_PARENT) && !n->parent[0])
		return err_set(EINVAL, "parent: missing, expected the name of an interface%s",
			n->kind == NETWORK_DEVICE ? "" : ", on which the network is made");
	if (n->kind == NETWORK_VLAN && !n->vlan)
		return err_set(EINVAL, "vlan: missing, expected a number from 1 to 4094");
	if (n->kind == NETWORK_BOND && !n->member_count)
		return err_set(EINVAL, "members: missing, expected the interfaces of the bond");
	for (size_t i = 0; i < n->member_count; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(n->members[i], n->members[k]))
				return err_set(EINVAL, "members: %s is there twice", n->members[i]);
	if (network_uses(n, n->interface))
		return err_set(EINVAL,
			"interface: %s is its own parent or member, expected another name",
			n->interface);
	return 0;
}

int kind_not_supported(enum network_kind kind)
{
	return err_set(EOPNOTSUPP,
		"this kernel has no interfaces of kind %s: load the module %s, or build the kernel "
		"with %s",
		kinds[kind].name, kinds[kind].module, kinds[kind].option);
}
