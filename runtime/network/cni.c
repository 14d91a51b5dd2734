/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-cni: a plug-in of the Container Network Interface (CNI 1.1), by which containerd, CRI-O
 * and nerdctl attach containers to the networks of `caisson net`. Its configuration is
 *
 *	{"cniVersion": "1.1.0", "name": NAME, "type": "caisson-cni", "network": NETWORK,
 *	 "capabilities": {"portMappings": true, "ips": true, "mac": true}}
 *
 * where NETWORK is the name of a network; without it, that is NAME. The command is in
 * CNI_COMMAND, the container in CNI_CONTAINERID, CNI_NETNS and CNI_IFNAME, and the answer is
 * JSON on standard output.
 *
 * An attachment's key is "cni:ID". No container of caisson has such an ID, so that GC, which is
 * told which attachments to keep, does not touch theirs.
 */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "network/tool.h"

#define CONF_MAX (4u << 20)
#define KEY_PREFIX "cni:"

/* Error codes of the specification. From 100 on they are the plug-in's. */
enum {
	CNI_VERSION = 1,
	CNI_ENVIRONMENT = 4,
	CNI_IO = 5,
	CNI_DECODE = 6,
	CNI_CONFIG = 7,
	CNI_UNAVAILABLE = 50,
	CNI_FAILED = 100
};

static const char *const versions[] = {"0.3.1", "0.4.0", "1.0.0", "1.1.0"};

struct call {
	struct host h;
	const struct json *conf;
	const char *version; /* of the configuration, and so of the answer */
	const char *network, *id, *netns, *interface;
	int code; /* what an error that comes now is called */
};

/* --- the request --- */

static int read_conf(struct call *c)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *j;

	c->code = CNI_DECODE;
	int r = fd_read_all(STDIN_FILENO, &text, CONF_MAX, "standard input");
	if (r >= 0)
		r = json_parse(&c->h.arena, strbuf_str(&text), text.len, "standard input", &j);
	if (r >= 0 && j->type != JSON_OBJECT)
		r = err_set(EINVAL, "standard input: expected an object");
	if (r < 0)
		return r;
	c->conf = j;
	const char *version = json_get_str(j, "cniVersion");
	for (size_t i = 0; version && i < ARRAY_SIZE(versions); i++)
		if (streq(version, versions[i]))
			c->version = versions[i];
	c->network = json_get_str(j, "network");
	if (!c->network)
		c->network = json_get_str(j, "name");
	return 0;
}

static int check_conf(struct call *c)
{
	c->code = CNI_VERSION;
	if (!c->version)
		return err_set(EINVAL, "cniVersion: expected 0.3.1, 0.4.0, 1.0.0 or 1.1.0");
	c->code = CNI_CONFIG;
	return c->network ? 0 : err_set(EINVAL, "name, network: missing: which network is meant?");
}

static int get_variable(struct call *c, const char *name, const char **ret)
{
	c->code = CNI_ENVIRONMENT;
	*ret = getenv(name);
	return *ret && **ret ? 0 : err_set(EINVAL, "%s is not set", name);
}

static int get_container(struct call *c, bool netns)
{
	const char *id;
	int r = get_variable(c, "CNI_CONTAINERID", &id);

	if (r >= 0)
		r = get_variable(c, "CNI_IFNAME", &c->interface);
	if (r >= 0 && netns)
		r = get_variable(c, "CNI_NETNS", &c->netns);
	if (r < 0)
		return r;
	if (strlen(c->interface) >= IFNAMSIZ || strchr(c->interface, '/'))
		return err_set(
			EINVAL, "CNI_IFNAME=%.100s: expected an interface's name", c->interface);
	c->id = arena_printf(&c->h.arena, KEY_PREFIX "%s", id);
	return c->id ? 0 : -ENOMEM;
}

static int wish_address(struct attach_request *q, const char *text)
{
	char copy[IP_TEXT];
	struct ip ip;

	/* An address may have a prefix behind it, which is the network's anyway. */
	snprintf(copy, sizeof(copy), "%.*s", (int)strcspn(text, "/"), text);
	if (ip_parse(copy, &ip) < 0)
		return err_set(EINVAL, "ips: %.100s: expected an address", text);
	q->addresses[ip.family == AF_INET6] = ip;
	return 0;
}

static int wish_mac(struct call *c, struct attach_request *q, const char *text)
{
	uint8_t *mac = arena_alloc(&c->h.arena, 8);

	if (!mac)
		return -ENOMEM;
	if (!mac_parse(text, mac))
		return err_set(EINVAL, "mac: %.100s: expected one such as 02:42:ac:11:00:02", text);
	q->mac = mac;
	return 0;
}

/* CNI_ARGS: IP=...;MAC=...; others are for other plug-ins. */
static int read_args(struct call *c, struct attach_request *q)
{
	const char *args;
	char *copy, *save;
	int r = 0;

	if (get_variable(c, "CNI_ARGS", &args) < 0) {
		err_clear();
		args = "";
	}
	c->code = CNI_CONFIG;
	copy = arena_strdup(&c->h.arena, args);
	if (!copy)
		return -ENOMEM;

	for (char *p = strtok_r(copy, ";", &save); r >= 0 && p; p = strtok_r(NULL, ";", &save)) {
		if (str_starts(p, "IP="))
			r = wish_address(q, p + 3);
		else if (str_starts(p, "MAC="))
			r = wish_mac(c, q, p + 4);
	}
	return r;
}

static int read_port(const struct json *j, struct port *ret)
{
	const char *protocol = json_get_str(j, "protocol"), *host = json_get_str(j, "hostIP");
	uint64_t from, to;

	*ret = (struct port){.protocol = IPPROTO_TCP, .count = 1};
	if (protocol && strcasecmp(protocol, "udp") == 0)
		ret->protocol = IPPROTO_UDP;
	else if (protocol && strcasecmp(protocol, "sctp") == 0)
		ret->protocol = IPPROTO_SCTP;
	else if (protocol && strcasecmp(protocol, "tcp") != 0)
		return err_set(EINVAL, "portMappings: protocol %.20s: expected tcp, udp or sctp",
			protocol);
	if (json_get_u64(j, "hostPort", &from) < 0 || json_get_u64(j, "containerPort", &to) < 0 ||
		!from || from > UINT16_MAX || !to || to > UINT16_MAX)
		return err_set(EINVAL,
			"portMappings: hostPort and containerPort: expected numbers from 1 to "
			"65535");
	if (host && *host && ip_parse(host, &ret->host) < 0)
		return err_set(EINVAL, "portMappings: hostIP %.100s: expected an address", host);
	ret->host_port = (uint16_t)from;
	ret->port = (uint16_t)to;
	return 0;
}

static int read_ports(struct call *c, const struct json *list, struct attach_request *q)
{
	struct port *ports;
	int r = 0;

	if (!list || list->type != JSON_ARRAY || !list->count)
		return 0;
	if (list->count > PORTS_MAX)
		return err_set(E2BIG, "portMappings: more than %d", PORTS_MAX);
	ports = arena_array(&c->h.arena, list->count, sizeof(*ports));
	q->ports = ports;
	for (const struct json *j = ports ? list->first : NULL; r >= 0 && j; j = j->next)
		r = read_port(j, &ports[q->port_count++]);
	return ports ? r : -ENOMEM;
}

/* What the caller wants of this attachment, in the environment and in runtimeConfig. */
static int read_wishes(struct call *c, struct attach_request *q)
{
	const struct json *run = json_get(c->conf, "runtimeConfig");
	const struct json *ips = run ? json_get(run, "ips") : NULL;
	const char *mac = run ? json_get_str(run, "mac") : NULL;
	int r = read_args(c, q);

	for (const struct json *j = ips ? ips->first : NULL; r >= 0 && j; j = j->next)
		r = j->type == JSON_STRING ? wish_address(q, j->text)
					   : err_set(EINVAL, "ips: expected an array of strings");
	if (r >= 0 && mac)
		r = wish_mac(c, q, mac);
	return r < 0 || !run ? r : read_ports(c, json_get(run, "portMappings"), q);
}

/* --- the answer --- */

static void put_interfaces(struct json_out *o, const struct attachment *a, const char *netns)
{
	char mac[IP_TEXT];

	json_out_array(o, "interfaces");
	for (int inside = 0; inside < 2; inside++) {
		json_out_object(o, NULL);
		json_out_str(o, "name", inside ? a->interface : a->host);
		/* The ends of the veth pair differ in the first byte. */
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x",
			inside ? a->mac[0] : 0xfe, a->mac[1], a->mac[2], a->mac[3], a->mac[4],
			a->mac[5]);
		json_out_str(o, "mac", mac);
		if (inside)
			json_out_str(o, "sandbox", netns);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_ips(struct json_out *o, const struct attachment *a, bool old)
{
	char text[IP_TEXT];

	json_out_array(o, "ips");
	for (size_t i = 0; i < a->address_count; i++) {
		json_out_object(o, NULL);
		/* Before 1.0.0 an address is said to be of IPv4 or IPv6. */
		if (old)
			json_out_str(o, "version", a->addresses[i].family == AF_INET ? "4" : "6");
		json_out_str(o, "address", ip_subnet_text(&a->addresses[i], a->prefixes[i], text));
		json_out_str(o, "gateway", ip_text(&a->gateways[i], text));
		json_out_u64(o, "interface", 1);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_routes(struct json_out *o, const struct attachment *a)
{
	char text[IP_TEXT];

	json_out_array(o, "routes");
	for (size_t i = 0; a->default_route && i < a->address_count; i++) {
		json_out_object(o, NULL);
		json_out_str(o, "dst", a->addresses[i].family == AF_INET ? "0.0.0.0/0" : "::/0");
		json_out_str(o, "gw", ip_text(&a->gateways[i], text));
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static int print(struct json_out *o)
{
	const char *text;
	size_t len;
	int r = json_out_text(o, &text, &len);

	return r < 0 ? r : fd_write_all(STDOUT_FILENO, text, len);
}

static int print_result(struct call *c, const struct attachment *a)
{
	_cleanup_json_out_ struct json_out o = {0};
	struct network n;
	char text[IP_TEXT];
	int r = network_read(&c->h, c->network, &n);

	if (r >= 0)
		r = json_out_init(&o, true);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "cniVersion", c->version);
	put_interfaces(&o, a, c->netns);
	put_ips(&o, a, c->version[0] == '0');
	put_routes(&o, a);
	json_out_object(&o, "dns");
	if (names_served(&n)) {
		json_out_array(&o, "nameservers");
		for (size_t i = 0; i < a->address_count; i++)
			json_out_str(&o, NULL, ip_text(&a->gateways[i], text));
		json_out_end_array(&o);
	}
	json_out_end_object(&o);
	json_out_end_object(&o);
	return print(&o);
}

/* --- the commands --- */

static int cni_add(struct call *c)
{
	const char *names[2] = {NULL, NULL};
	struct attach_request q = {.network = c->network, .names = names};
	const struct attachment *a;
	int r = get_container(c, true);

	if (r < 0)
		return r;
	c->code = CNI_CONFIG;
	r = read_wishes(c, &q);
	if (r >= 0)
		r = network_make_default(&c->h, c->network);
	if (r < 0)
		return r;
	c->code = CNI_FAILED;
	names[0] = c->id + strlen(KEY_PREFIX);
	q.key = c->id;
	q.netns = c->netns;
	q.interface = c->interface;
	r = attachment_make(&c->h, &q, &a);
	return r < 0 ? r : print_result(c, a);
}

/* Calls fn for the attachments of the container's interface. Returns how many there are. */
static int each_own(struct call *c, int (*fn)(struct host *h, const struct attachment *a))
{
	const struct attachment **all;
	size_t n;
	int found = 0, r = attachment_list(&c->h, c->id, c->network, &all, &n);

	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (!streq(all[i]->interface, c->interface))
			continue;
		found++;
		r = fn(&c->h, all[i]);
	}
	return r < 0 ? r : found;
}

static int cni_del(struct call *c)
{
	int r = get_container(c, false);

	if (r < 0)
		return r;
	c->code = CNI_FAILED;
	return each_own(c, attachment_undo);
}

static int cni_check(struct call *c)
{
	int r = get_container(c, true);

	if (r < 0)
		return r;
	c->code = CNI_FAILED;
	r = each_own(c, attachment_check);
	if (r != 0)
		return r;
	return err_set(ENOENT, "%s is not attached to network %s as %s", c->id + strlen(KEY_PREFIX),
		c->network, c->interface);
}

static bool is_valid(const struct json *valid, const struct attachment *a)
{
	for (const struct json *j = valid->first; j; j = j->next) {
		const char *id = json_get_str(j, "containerID"), *name = json_get_str(j, "ifname");

		if (id && name && streq(id, a->key + strlen(KEY_PREFIX)) &&
			streq(name, a->interface))
			return true;
	}
	return false;
}

/* Undoes the attachments of this network that CNI's callers made and do not know any more. */
static int cni_gc(struct call *c)
{
	const struct json *valid = json_get(c->conf, "cni.dev/valid-attachments");
	const struct attachment **all;
	size_t n;

	c->code = CNI_CONFIG;
	if (!valid || valid->type != JSON_ARRAY)
		return err_set(EINVAL, "cni.dev/valid-attachments: expected an array");
	c->code = CNI_FAILED;
	int r = attachment_list(&c->h, NULL, c->network, &all, &n);
	for (size_t i = 0; r >= 0 && i < n; i++)
		if (str_starts(all[i]->key, KEY_PREFIX) && !is_valid(valid, all[i]))
			r = attachment_undo(&c->h, all[i]);
	return r;
}

/* Whether ADD could work: 0, or the error that it would end with. */
static int cni_status(struct call *c)
{
	struct network n;

	c->code = CNI_UNAVAILABLE;
	return streq(c->network, JOIN_DEFAULT) ? 0 : network_read(&c->h, c->network, &n);
}

static int print_versions(void)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "cniVersion", versions[ARRAY_SIZE(versions) - 1]);
	json_out_array(&o, "supportedVersions");
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		json_out_str(&o, NULL, versions[i]);
	json_out_end_array(&o);
	json_out_end_object(&o);
	return print(&o);
}

static int run(struct call *c)
{
	static const struct {
		const char *name;
		int (*fn)(struct call *c);
	} commands[] = {{"ADD", cni_add}, {"DEL", cni_del}, {"CHECK", cni_check}, {"GC", cni_gc},
		{"STATUS", cni_status}};
	const struct host_options options = {0};
	const char *command;
	int r = get_variable(c, "CNI_COMMAND", &command);

	if (r >= 0 && streq(command, "VERSION"))
		return print_versions();
	if (r >= 0)
		r = read_conf(c);
	if (r >= 0)
		r = check_conf(c);
	if (r < 0)
		return r;
	c->code = CNI_IO;
	r = host_open(&c->h, &options);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(commands); i++)
		if (streq(commands[i].name, command))
			return commands[i].fn(c);
	c->code = CNI_ENVIRONMENT;
	return r < 0 ? r
		     : err_set(EINVAL,
			       "CNI_COMMAND=%.40s: expected ADD, DEL, CHECK, GC, STATUS or VERSION",
			       command);
}

static int print_error(const struct call *c, int r)
{
	_cleanup_json_out_ struct json_out o = {0};

	if (json_out_init(&o, true) < 0)
		return 1;
	json_out_object(&o, NULL);
	json_out_str(
		&o, "cniVersion", c->version ? c->version : versions[ARRAY_SIZE(versions) - 1]);
	json_out_u64(&o, "code", (uint64_t)c->code);
	json_out_str(&o, "msg", *err_msg() ? err_msg() : err_text(-r));
	json_out_end_object(&o);
	(void)!print(&o);
	return 1;
}

int main(int argc, char **argv)
{
	struct call c = {.h = HOST_INIT, .code = CNI_ENVIRONMENT};

	umask(022);
	if (argc > 1) {
		printf("caisson-cni is a CNI plug-in, which containerd, CRI-O and others execute: "
		       "see "
		       "caisson-net(8).\n");
		return streq(argv[1], "--help") ? 0 : 1;
	}
	int r = run(&c);
	int status = r < 0 ? print_error(&c, r) : 0;
	host_close(&c.h);
	return status;
}
