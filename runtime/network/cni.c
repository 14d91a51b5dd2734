/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-cni: a plug-in of the Container Network Interface (CNI 1.1), by which containerd, CRI-O
 * and nerdctl attach containers to the networks of `caisson net`. Its configuration is
 *
 * 	{"cniVersion": "1.1.0", "name": NAME, "type": "caisson-cni", "network": NETWORK,
 * 	 "capabilities": {"portMappings": true, "ips": true, "mac": true}}
 *
 * where NETWORK is the name of a network of `caisson net`. If "network" is missing, NAME is that
 * name. The command is in CNI_COMMAND, the container in CNI_CONTAINERID, CNI_NETNS and CNI_IFNAME,
 * and the answer is JSON on standard output.
 *
 * The key of an attachment that caisson-cni makes is "cni:ID". No container of caisson has such an
 * ID, so the command GC, which is told the attachments of CNI to keep, does not undo the
 * attachments of caisson's own containers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "network/cni.h"

#define NEWEST "1.1.0"

/* --- the answer to the caller of the plug-in --- */

static void put_interfaces(struct json_out *o, const struct attachment *a, const char *netns)
{
	char mac[IP_TEXT];

	json_out_array(o, "interfaces");
	for (int inside = a->kind != NETWORK_BRIDGE; inside < 2; inside++) {
		json_out_object(o, NULL);
		json_out_str(o, "name", inside ? a->interface : a->host);
		/*
		 * The end of the veth pair on the host has the same MAC address as the end in the
		 * container, except for the first byte.
		 */
		snprintf(mac, sizeof(mac), STR_MAC_FORMAT, inside ? a->mac[0] : 0xfe, a->mac[1],
			a->mac[2], a->mac[3], a->mac[4], a->mac[5]);
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
		/*
		 * In versions of CNI before 1.0.0 each address also has the version of its
		 * protocol, 4 or 6.
		 */
		if (old)
			json_out_str(o, "version", a->addresses[i].family == AF_INET ? "4" : "6");
		json_out_str(o, "address", ip_subnet_text(&a->addresses[i], a->prefixes[i], text));
		json_out_str(o, "gateway", ip_text(&a->gateways[i], text));
		json_out_u64(o, "interface", a->kind == NETWORK_BRIDGE);
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

/* --- the commands of CNI: ADD, DEL, CHECK, GC and STATUS --- */

static int cni_add(struct call *c)
{
	const char *names[2] = {NULL, NULL};
	struct attach_request q = {.network = c->network, .names = names};
	const struct attachment *a;
	int r = cni_get_container(c, true);

	if (r < 0)
		return r;
	c->code = CNI_CONFIG;
	r = cni_read_wishes(c, &q);
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

/*
 * Calls fn for each attachment of the container to the network by the interface of this call.
 * Returns how many attachments there are.
 */
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
	int r = cni_get_container(c, false);

	if (r < 0)
		return r;
	c->code = CNI_FAILED;
	return each_own(c, attachment_undo);
}

static int cni_check(struct call *c)
{
	int r = cni_get_container(c, true);

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
	for (const struct json *j = valid->type == JSON_ARRAY ? valid->first : NULL; j;
		j = j->next) {
		const char *id = json_get_str(j, "containerID"), *name = json_get_str(j, "ifname");

		if (id && name && streq(id, a->key + strlen(KEY_PREFIX)) &&
			streq(name, a->interface))
			return true;
	}
	return false;
}

/*
 * Implements the command GC: undoes the attachments to this network that were made by CNI and are
 * not in the caller's list of attachments to keep.
 */
static int cni_gc(struct call *c)
{
	const struct json *valid = json_get(c->conf, "cni.dev/valid-attachments");
	const struct attachment **all;
	size_t n;

	c->code = CNI_CONFIG;
	/*
	 * null counts as an empty list, because the library of the CNI project writes an empty list
	 * as null.
	 */
	if (!valid || (valid->type != JSON_ARRAY && valid->type != JSON_NULL))
		return err_set(EINVAL, "cni.dev/valid-attachments: expected an array");
	c->code = CNI_FAILED;
	int r = attachment_list(&c->h, NULL, c->network, &all, &n);
	for (size_t i = 0; r >= 0 && i < n; i++)
		if (str_starts(all[i]->key, KEY_PREFIX) && !is_valid(valid, all[i]))
			r = attachment_undo(&c->h, all[i]);
	return r;
}

/*
 * Implements the command STATUS: returns 0 if ADD could attach a container to the network, or else
 * the error with which ADD would end.
 */
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
	json_out_str(&o, "cniVersion", NEWEST);
	json_out_array(&o, "supportedVersions");
	for (size_t i = 0; cni_versions[i]; i++)
		json_out_str(&o, NULL, cni_versions[i]);
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
	int r = cni_get_variable(c, "CNI_COMMAND", &command);

	if (r >= 0 && streq(command, "VERSION"))
		return print_versions();
	if (r >= 0)
		r = cni_read_conf(c);
	if (r >= 0)
		r = cni_check_conf(c);
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
	json_out_str(&o, "cniVersion", c->version ? c->version : NEWEST);
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
	fd_survive_size_limit();
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
