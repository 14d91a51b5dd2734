/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what a caller of caisson-cni wants, from the environment and from standard input. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "network/cni.h"

#define CONF_MAX (4u << 20)

const char *const cni_versions[] = {"0.3.1", "0.4.0", "1.0.0", "1.1.0", NULL};

int cni_read_conf(struct call *c)
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
	for (size_t i = 0; version && i < ARRAY_SIZE(cni_versions) - 1; i++)
		if (streq(version, cni_versions[i]))
			c->version = cni_versions[i];
	c->network = json_get_str(j, "network");
	if (!c->network)
		c->network = json_get_str(j, "name");
	return 0;
}

int cni_check_conf(struct call *c)
{
	c->code = CNI_VERSION;
	if (!c->version)
		return err_set(EINVAL, "cniVersion: expected 0.3.1, 0.4.0, 1.0.0 or 1.1.0");
	c->code = CNI_CONFIG;
	return c->network ? 0 : err_set(EINVAL, "name, network: missing: which network is meant?");
}

int cni_get_variable(struct call *c, const char *name, const char **ret)
{
	c->code = CNI_ENVIRONMENT;
	*ret = getenv(name);
	return *ret && **ret ? 0 : err_set(EINVAL, "%s is not set", name);
}

int cni_get_container(struct call *c, bool netns)
{
	const char *id;
	int r = cni_get_variable(c, "CNI_CONTAINERID", &id);

	if (r >= 0)
		r = cni_get_variable(c, "CNI_IFNAME", &c->interface);
	if (r >= 0 && netns)
		r = cni_get_variable(c, "CNI_NETNS", &c->netns);
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

	/* A prefix behind the address is ignored, because the network decides the prefix. */
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

/*
 * Reads CNI_ARGS from the environment, of which IP=... and MAC=... are for caisson-cni. Other
 * arguments are ignored, because they are for other plug-ins.
 */
static int read_args(struct call *c, struct attach_request *q)
{
	const char *args;
	char *copy, *save;
	int r = 0;

	if (cni_get_variable(c, "CNI_ARGS", &args) < 0) {
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

/*
 * Returns a member of a port mapping by its name, whatever letters of the name are capitals.
 * containerd writes "HostPort" where the specification says "hostPort", which plug-ins in Go do not
 * notice.
 */
static const char *port_member(const struct json *j, const char *name, enum json_type type)
{
	for (const struct json *m = j->type == JSON_OBJECT ? j->first : NULL; m; m = m->next)
		if (strcasecmp(m->key, name) == 0 && m->type == type)
			return m->text;
	return NULL;
}

static bool read_number(const struct json *j, const char *name, uint16_t *ret)
{
	const char *text = port_member(j, name, JSON_NUMBER);
	uint64_t number;

	if (!text || str_to_u64(text, &number) < 0 || !number || number > UINT16_MAX)
		return false;
	*ret = (uint16_t)number;
	return true;
}

static int read_port(const struct json *j, struct port *ret)
{
	const char *protocol = port_member(j, "protocol", JSON_STRING),
		   *host = port_member(j, "hostIP", JSON_STRING);

	*ret = (struct port){.protocol = IPPROTO_TCP, .count = 1};
	if (protocol && strcasecmp(protocol, "udp") == 0)
		ret->protocol = IPPROTO_UDP;
	else if (protocol && strcasecmp(protocol, "sctp") == 0)
		ret->protocol = IPPROTO_SCTP;
	else if (protocol && strcasecmp(protocol, "tcp") != 0)
		return err_set(EINVAL, "portMappings: protocol %.20s: expected tcp, udp or sctp",
			protocol);
	if (!read_number(j, "hostPort", &ret->host_port) ||
		!read_number(j, "containerPort", &ret->port))
		return err_set(EINVAL,
			"portMappings: hostPort and containerPort: expected numbers from 1 to "
			"65535");
	if (host && *host && ip_parse(host, &ret->host) < 0)
		return err_set(EINVAL, "portMappings: hostIP %.100s: expected an address", host);
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

int cni_read_wishes(struct call *c, struct attach_request *q)
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
