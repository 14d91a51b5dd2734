/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `caisson net create`, `ls`, `inspect`, `rm` and `reload`. */
#include <stdio.h>

#include "network/tool.h"

/* --- caisson net create --- */

struct create_options {
	struct option_list subnets, gateways, ranges, members;
	const char *kind, *interface, *parent, *mode, *vlan, *mtu;
	bool functions, internal, no_isolation, no_masquerade, no_dns, json, dry_run;
};

static struct pool *pool_of(struct network *n, const struct ip *ip)
{
	for (size_t i = 0; i < n->pool_count; i++)
		if (n->pools[i].base.family == ip->family)
			return &n->pools[i];
	return NULL;
}

static int add_subnet(struct network *n, const char *text)
{
	struct pool p = {0};

	if (ip_parse_subnet(text, &p.base, &p.prefix) < 0)
		return err_set(EINVAL, "--subnet %.100s: expected one such as 10.1.0.0/24", text);
	if (pool_of(n, &p.base))
		return err_set(EINVAL, "--subnet %.100s: there is one of IPv%d already", text,
			p.base.family == AF_INET ? 4 : 6);
	n->pools[n->pool_count++] = p;
	return 0;
}

static int set_gateway(struct network *n, const char *text)
{
	struct pool *p;
	struct ip ip;

	if (ip_parse(text, &ip) < 0)
		return err_set(EINVAL, "--gateway %.100s: expected an address", text);
	p = pool_of(n, &ip);
	if (!p)
		return err_set(EINVAL, "--gateway %.100s: there is no --subnet of IPv%d", text,
			ip.family == AF_INET ? 4 : 6);
	p->gateway = ip;
	return 0;
}

static int set_range(struct network *n, const char *text)
{
	const char *dash = strchr(text, '-');
	char first[INET6_ADDRSTRLEN];
	struct ip from, to;
	struct pool *p;

	snprintf(first, sizeof(first), "%.*s", dash ? (int)(dash - text) : 0, text);
	if (!dash || ip_parse(first, &from) < 0 || ip_parse(dash + 1, &to) < 0 ||
		from.family != to.family)
		return err_set(
			EINVAL, "--range %.100s: expected one such as 10.1.0.100-10.1.0.199", text);
	p = pool_of(n, &from);
	if (!p)
		return err_set(EINVAL, "--range %.100s: there is no --subnet of its family", text);
	p->first = from;
	p->last = to;
	return 0;
}

static int parse_pools(const struct create_options *o, struct network *n)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < o->subnets.n; i++)
		r = add_subnet(n, o->subnets.v[i]);
	for (size_t i = 0; r >= 0 && i < o->gateways.n; i++)
		r = set_gateway(n, o->gateways.v[i]);
	for (size_t i = 0; r >= 0 && i < o->ranges.n; i++)
		r = set_range(n, o->ranges.v[i]);
	for (size_t i = 0; r >= 0 && i < n->pool_count; i++)
		r = pool_complete(&n->pools[i]);
	return r;
}

static int add_members(const struct create_options *o, struct network *n)
{
	if (o->members.n > NETWORK_MEMBERS_MAX)
		return err_set(E2BIG, "--member: found %zu, expected at most %d", o->members.n,
			NETWORK_MEMBERS_MAX);
	for (size_t i = 0; i < o->members.n; i++) {
		if (strlen(o->members.v[i]) >= IFNAMSIZ)
			return err_set(EINVAL, "--member %.100s: expected at most %d letters",
				o->members.v[i], IFNAMSIZ - 1);
		snprintf(n->members[n->member_count++], IFNAMSIZ, "%s", o->members.v[i]);
	}
	return 0;
}

static int copy_interface(const char *option, const char *text, char ret[IFNAMSIZ])
{
	if (text && strlen(text) >= IFNAMSIZ)
		return err_set(EINVAL, "--%s %.100s: expected at most %d letters", option, text,
			IFNAMSIZ - 1);
	if (text)
		snprintf(ret, IFNAMSIZ, "%s", text);
	return 0;
}

static int parse_number(const char *option, const char *text, uint64_t max, uint64_t *ret)
{
	if (text && (str_to_u64(text, ret) < 0 || !*ret || *ret > max))
		return err_set(EINVAL, "--%s %.40s: expected a number from 1 to %llu", option, text,
			(unsigned long long)max);
	return 0;
}

/*
 * Refuses an option that has no meaning for this kind of network, because the file of such a
 * network would have no member for it.
 */
static int check_options(const struct create_options *o, enum network_kind kind)
{
	const struct {
		const char *member;
		bool given;
	} options[] = {{"interface", o->interface}, {"parent", o->parent},
		{"members", o->members.n}, {"mode", o->mode}, {"vlan", o->vlan}, {"mtu", o->mtu},
		{"functions", o->functions}, {"pools", o->subnets.n}, {"internal", o->internal},
		{"isolated", o->no_isolation}, {"masquerade", o->no_masquerade},
		{"dns", o->no_dns}};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(options); i++)
		if (options[i].given)
			r = network_check_member(kind, options[i].member);
	return r;
}

/*
 * Chooses the name of the network's interface if --interface is not given. For a network that is no
 * VLAN the name only has to be valid, because the host replaces it by a free name later.
 */
static void default_interface(struct network *n)
{
	if (n->kind != NETWORK_VLAN || !n->parent[0] ||
		snprintf(n->interface, IFNAMSIZ, "%s.%u", n->parent, n->vlan) >= IFNAMSIZ)
		snprintf(n->interface, IFNAMSIZ, "caisson0");
}

static int parse_options(const struct create_options *o, struct network *n)
{
	uint64_t mtu = 0, vlan = 0;
	int r = o->kind ? network_kind_parse(o->kind) : NETWORK_BRIDGE;

	if (r < 0)
		return r;
	n->kind = (enum network_kind)r;
	n->mode = network_mode_default(n->kind);
	r = check_options(o, n->kind);
	if (r >= 0)
		r = parse_pools(o, n);
	if (r >= 0)
		r = add_members(o, n);
	if (r >= 0)
		r = parse_number("mtu", o->mtu, UINT16_MAX, &mtu);
	if (r >= 0)
		r = parse_number("vlan", o->vlan, 4094, &vlan);
	if (r >= 0)
		r = copy_interface("parent", o->parent, n->parent);
	if (r >= 0)
		r = copy_interface("interface", o->interface, n->interface);
	if (r >= 0 && o->mode) {
		r = network_mode_parse(n->kind, o->mode);
		n->mode = (uint8_t)r;
	}
	n->mtu = (uint32_t)mtu;
	n->vlan = (uint16_t)vlan;
	if (!o->interface)
		default_interface(n);
	return r;
}

/*
 * Turns the options into the text of a network's file and parses the text, so that the same code
 * checks the options and the files.
 */
static int parse_network(
	struct host *h, const struct create_options *o, const char *name, struct network *ret)
{
	_cleanup_json_out_ struct json_out out = {0};
	struct network n = {.isolated = !o->no_isolation,
		.internal = o->internal,
		.masquerade = !o->no_masquerade,
		.dns = !o->no_dns,
		.functions = o->functions};
	const char *text;
	size_t len;

	int r = network_check_name(name);
	if (r >= 0)
		r = parse_options(o, &n);
	if (r >= 0)
		r = json_out_init(&out, false);
	if (r < 0)
		return r;
	network_json(&out, &n);
	r = json_out_text(&out, &text, &len);
	if (r >= 0)
		r = network_parse(&h->arena, text, len, name, ret);
	if (r < 0)
		return r;
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	if (!o->interface && n.kind != NETWORK_VLAN)
		ret->interface[0] = '\0';
	return 0;
}

/* Writes a network as --json prints it: its name, and then the members of the network's file. */
static void put_network(struct json_out *o, const struct network *n)
{
	json_out_object(o, NULL);
	json_out_str(o, "name", n->name);
	network_members_json(o, n);
	json_out_end_object(o);
}

int tool_create(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_json_out_ struct json_out out = {0};
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 1, .max = 1};
	struct host_options host = g->host;
	struct create_options o = {0};
	struct network n;
	const struct option_def defs[] = {
		{"kind", 0, OPTION_STRING, &o.kind, "KIND",
			"bridge (the default), vlan, bond, macvlan, ipvlan or device"},
		{"parent", 0, OPTION_STRING, &o.parent, "INTERFACE",
			"the host's interface below a vlan, macvlan or ipvlan, or that moves"},
		{"vlan", 0, OPTION_STRING, &o.vlan, "ID", "number of the VLAN"},
		{"member", 0, OPTION_LIST, &o.members, "INTERFACE",
			"an interface of the host that becomes a port of the bridge or bond"},
		{"mode", 0, OPTION_STRING, &o.mode, "MODE", "mode of a bond, macvlan or ipvlan"},
		{"functions", 0, OPTION_FLAG, &o.functions, NULL,
			"with device: a free virtual function (SR-IOV) of the parent moves"},
		{"subnet", 0, OPTION_LIST, &o.subnets, "SUBNET",
			"addresses of the containers; once for IPv4 and once for IPv6"},
		{"gateway", 0, OPTION_LIST, &o.gateways, "ADDRESS",
			"the host's address (default: the first one of the subnet)"},
		{"range", 0, OPTION_LIST, &o.ranges, "FIRST-LAST",
			"take containers' addresses from this part of the subnet only"},
		{"interface", 0, OPTION_STRING, &o.interface, "NAME",
			"name of the bridge, vlan or bond (default: caisson0, caisson1, ...)"},
		{"mtu", 0, OPTION_STRING, &o.mtu, "BYTES",
			"MTU (default: that of the default route's interface, or of the parent)"},
		{"internal", 0, OPTION_FLAG, &o.internal, NULL,
			"containers reach only each other and the host"},
		{"no-isolation", 0, OPTION_FLAG, &o.no_isolation, NULL,
			"containers reach other networks that have this option too"},
		{"no-masquerade", 0, OPTION_FLAG, &o.no_masquerade, NULL,
			"containers keep their addresses outside, and are reached there"},
		{"no-dns", 0, OPTION_FLAG, &o.no_dns, NULL,
			"containers do not find each other by name"},
		TOOL_OPTION_JSON(o.json),
		TOOL_OPTION_DRY_RUN(o.dry_run),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	host.dry_run = o.dry_run;
	r = host_open(&h, &host);
	if (r >= 0)
		r = parse_network(&h, &o, args.v[0], &n);
	if (r >= 0)
		r = network_create(&h, &n);
	if (r < 0 || o.dry_run || !o.json)
		return r < 0 ? r : tool_finish(&h, o.json);
	r = json_out_init(&out, true);
	if (r < 0)
		return r;
	put_network(&out, &n);
	return program_print_json(&out);
}

/* --- caisson net ls and inspect --- */

static int add_line(struct strbuf *out, const struct network *n)
{
	char text[IP_TEXT];
	int r = strbuf_addf(out, "%-20s %-7s %-15s", n->name, network_kind_name(n->kind),
		n->interface[0] ? n->interface : n->parent);

	for (size_t i = 0; r >= 0 && i < n->pool_count; i++)
		r = strbuf_addf(
			out, " %s", ip_subnet_text(&n->pools[i].base, n->pools[i].prefix, text));
	return r < 0 ? r : strbuf_addf(out, "%s\n", n->internal ? " internal" : "");
}

static int print_names(const struct network *all, size_t n, bool quiet)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	int r = quiet ? 0
		      : strbuf_addf(
				&out, "%-20s %-7s %-15s SUBNETS\n", "NETWORK", "KIND", "INTERFACE");

	for (size_t i = 0; r >= 0 && i < n; i++)
		r = quiet ? strbuf_addf(&out, "%s\n", all[i].name) : add_line(&out, &all[i]);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

int tool_ls(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_json_out_ struct json_out out = {0};
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {0};
	struct host_options host = g->host;
	bool json = false, quiet = false;
	struct network *all;
	size_t n;
	const struct option_def defs[] = {
		{"quiet", 'q', OPTION_FLAG, &quiet, NULL, "print names only"},
		TOOL_OPTION_JSON(json),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	host.read_only = true;
	r = host_open(&h, &host);
	if (r >= 0)
		r = network_list(&h, &all, &n);
	if (r < 0 || !json)
		return r < 0 ? r : print_names(all, n, quiet);
	r = json_out_init(&out, true);
	if (r < 0)
		return r;
	json_out_array(&out, NULL);
	for (size_t i = 0; i < n; i++)
		put_network(&out, &all[i]);
	json_out_end_array(&out);
	return program_print_json(&out);
}

int tool_inspect(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_json_out_ struct json_out out = {0};
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 1, .max = 1};
	struct host_options host = g->host;
	const struct attachment **attached;
	bool json = false, check = false;
	struct network n;
	size_t count;
	const struct option_def defs[] = {
		{"check", 0, OPTION_FLAG, &check, NULL,
			"say too what of each attachment is missing or was changed"},
		TOOL_OPTION_JSON(json),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	host.read_only = true;
	r = host_open(&h, &host);
	if (r >= 0)
		r = network_read(&h, args.v[0], &n);
	if (r >= 0)
		r = attachment_list(&h, NULL, n.name, &attached, &count);
	if (r >= 0)
		r = json_out_init(&out, true);
	if (r < 0)
		return r;
	json_out_object(&out, NULL);
	json_out_str(&out, "name", n.name);
	network_members_json(&out, &n);
	json_out_array(&out, "attachments");
	for (size_t i = 0; i < count; i++)
		attachment_json(&out, NULL, attached[i]);
	json_out_end_array(&out);
	if (check) {
		json_out_array(&out, "faults");
		for (size_t i = 0; i < count; i++)
			if (attachment_check(&h, attached[i]) < 0)
				json_out_str(&out, NULL, err_msg());
		json_out_end_array(&out);
	}
	json_out_end_object(&out);
	return program_print_json(&out);
}

/* --- caisson net rm and reload --- */

int tool_rm(const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {.min = 1, .max = -1};
	struct host_options host = g->host;
	bool force = false, json = false, dry_run = false;
	const struct option_def defs[] = {
		{"force", 'f', OPTION_FLAG, &force, NULL, "detach the containers first"},
		TOOL_OPTION_JSON(json),
		TOOL_OPTION_DRY_RUN(dry_run),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	host.dry_run = dry_run;
	r = host_open(&h, &host);
	for (int i = 0; r >= 0 && i < args.n; i++)
		r = network_remove(&h, args.v[i], force);
	return r < 0 ? r : tool_finish(&h, json);
}

int tool_reload(
	const struct tool_command *self, const struct tool_globals *g, int argc, char **argv)
{
	_cleanup_host_ struct host h = HOST_INIT;
	struct tool_arguments args = {0};
	struct host_options host = g->host;
	bool json = false, dry_run = false;
	const struct option_def defs[] = {
		TOOL_OPTION_JSON(json),
		TOOL_OPTION_DRY_RUN(dry_run),
		{0},
	};

	int r = tool_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	host.dry_run = dry_run;
	r = host_open(&h, &host);
	if (r >= 0)
		r = network_reload(&h);
	return r < 0 ? r : tool_finish(&h, json);
}
