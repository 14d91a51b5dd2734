/* SPDX-License-Identifier: Apache-2.0 */
#include "network/files.h"

#include <stdio.h>
#include <unistd.h>

#define RESOLV_CONF "/etc/resolv.conf"
/* file in which systemd-resolved lists the name servers that it asks */
#define RESOLVED_CONF "/run/systemd/resolve/resolv.conf"
#define RESOLV_CONF_MAX (1u << 20)
#define HOST_NAME "host.containers.internal"
/* value for ADDRESS in --add-host that stands for the host's address */
#define HOST_GATEWAY "host-gateway"

static int write_in_place(const struct container_files *f, const char *name, struct strbuf *text)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_sys("open %s", path);
	int r = fd_write_all(fd, strbuf_str(text), text->len);
	return r < 0 ? err_set(-r, "write %s: %s", path, err_text(-r)) : 0;
}

/* --- writing the container's file hosts --- */

/*
 * Adds a line to hosts for NAME:ADDRESS, a value of --add-host. An IPv6 address may be in brackets.
 */
static int add_host(struct strbuf *out, const char *text, const struct attachment *first)
{
	const char *colon = strchr(text, ':');
	char name[256], address[IP_TEXT];
	struct ip ip;
	int r;

	snprintf(name, sizeof(name), "%.*s", colon ? (int)(colon - text) : 0, text);
	if (!colon || names_check(name, "") < 0)
		return err_set(EINVAL, "--add-host %.200s: expected NAME:ADDRESS", text);
	if (streq(colon + 1, HOST_GATEWAY) && !first)
		return err_set(EINVAL,
			"--add-host %.200s: an ordinary user's container has no gateway that is "
			"the host: expected an address",
			text);
	if (streq(colon + 1, HOST_GATEWAY)) {
		r = 0;
		for (size_t i = 0; r >= 0 && i < first->address_count && first->gateways[i].family;
			i++)
			r = strbuf_addf(
				out, "%s\t%s\n", ip_text(&first->gateways[i], address), name);
		return r;
	}
	size_t len = strlen(colon + 1);
	bool brackets = len > 2 && colon[1] == '[' && colon[len] == ']';
	snprintf(address, sizeof(address), "%.*s", (int)(brackets ? len - 2 : len),
		colon + 1 + brackets);
	if (len >= sizeof(address) || ip_parse(address, &ip) < 0)
		return err_set(EINVAL,
			"--add-host %.200s: expected an address or " HOST_GATEWAY
			" behind the colon",
			text);
	return strbuf_addf(out, "%s\t%s\n", address, name);
}

static int add_own(struct strbuf *out, const struct container_files *f, const struct attachment *a)
{
	char text[IP_TEXT];
	int r = 0;

	for (size_t i = 0; r >= 0 && f->hostname && i < a->address_count; i++)
		r = strbuf_addf(out, "%s\t%s\n", ip_text(&a->addresses[i], text), f->hostname);
	return r;
}

/*
 * Returns the first of the attachments whose gateway is the host, or NULL if the host is the
 * gateway of none of them.
 */
static const struct attachment *way_to_host(const struct attachment *const *made, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (made[i]->kind == NETWORK_BRIDGE && made[i]->gateways[0].family)
			return made[i];
	return NULL;
}

static int write_hosts(
	const struct container_files *f, const struct attachment *const *made, size_t n)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	char text[IP_TEXT];
	int r = strbuf_addf(
		&out, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");

	/*
	 * The lines of --add-host are written first, because the resolver uses the first line that
	 * has a name.
	 */
	for (size_t i = 0; r >= 0 && i < f->hosts.n; i++)
		r = add_host(&out, f->hosts.v[i], way_to_host(made, n));
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = add_own(&out, f, made[i]);
	/*
	 * If the container has no attachment, its network is one of user mode (pasta or
	 * slirp4netns), and its address is not known. So its host name gets an address of the
	 * loopback interface.
	 */
	if (r >= 0 && !n && f->hostname)
		r = strbuf_addf(&out, "127.0.1.1\t%s\n", f->hostname);
	const struct attachment *way = way_to_host(made, n);
	for (size_t i = 0; r >= 0 && way && i < way->address_count && way->gateways[i].family; i++)
		r = strbuf_addf(&out, "%s\t" HOST_NAME "\n", ip_text(&way->gateways[i], text));
	return r < 0 ? r : write_in_place(f, "hosts", &out);
}

/* --- writing the container's file resolv.conf --- */

static bool is_loopback(const char *address)
{
	return str_starts(address, "127.") || streq(address, "::1");
}

/*
 * Returns whether a line of resolv.conf names a name server. *ret_loopback tells whether the server
 * has a loopback address, so that only the host itself can reach it.
 */
static bool is_name_server(const char *line, bool *ret_loopback)
{
	char address[IP_TEXT] = "";

	if (sscanf(line, " nameserver %49s", address) != 1)
		return false;
	*ret_loopback = is_loopback(address);
	return true;
}

/*
 * Copies lines of the host's resolv.conf. Leaves out comments, the lines of name servers that the
 * container cannot reach, because they have a loopback address of the host, and, if `servers` is
 * not set, the lines of all name servers. Counts the name servers in the file: those with another
 * address in kept[0], those with a loopback address in kept[1].
 */
static int copy_lines(struct strbuf *out, char *text, bool servers, size_t kept[2])
{
	char *save;
	int r = 0;

	for (char *line = strtok_r(text, "\n", &save); r >= 0 && line;
		line = strtok_r(NULL, "\n", &save)) {
		bool loopback, server = is_name_server(line, &loopback);

		if (server)
			kept[loopback]++;
		if (!server ? line[0] != '#' && line[0] != ';' : servers && !loopback)
			r = strbuf_addf(out, "%s\n", line);
	}
	return r;
}

static int copy_file(struct strbuf *out, const char *path, bool servers, size_t kept[2])
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = fd_read_file(AT_FDCWD, path, &text, RESOLV_CONF_MAX);

	kept[0] = kept[1] = 0;
	if (r < 0) {
		/*
		 * If the host has no resolv.conf at `path`, no lines are copied into the
		 * container's resolv.conf, which is no error.
		 */
		err_clear();
		return 0;
	}
	return copy_lines(out, strbuf_str(&text)[0] ? text.s : (char[]){""}, servers, kept);
}

static int add_servers(struct strbuf *out, const struct container_files *f)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < f->dns.n; i++) {
		struct ip ip;

		if (ip_parse(f->dns.v[i], &ip) < 0 || !ip_is_machine(&ip))
			return err_set(EINVAL, "--dns %.100s: expected the address of a machine",
				f->dns.v[i]);
		r = strbuf_addf(out, "nameserver %s\n", f->dns.v[i]);
	}
	return r;
}

/*
 * Adds, as name servers, the gateways of the first network that has a DNS server, because that
 * server, a dnsmasq, listens at the addresses of the gateways.
 */
static int add_gateways(struct host *h, struct strbuf *out, const struct attachment *const *made,
	size_t n, bool *found)
{
	char text[IP_TEXT];
	int r = 0;

	for (size_t i = 0; r >= 0 && !*found && i < n; i++) {
		struct network network;

		/* a list of CNI plug-ins, which has no dnsmasq of caisson */
		if (strchr(made[i]->network, ':'))
			continue;
		r = network_read(h, made[i]->network, &network);
		*found = r >= 0 && names_served(&network);
		for (size_t k = 0; r >= 0 && *found && k < made[i]->address_count; k++)
			r = strbuf_addf(
				out, "nameserver %s\n", ip_text(&made[i]->gateways[k], text));
	}
	return r;
}

static int write_resolv_conf(struct host *h, const struct container_files *f,
	const struct attachment *const *made, size_t n)
{
	_cleanup_strbuf_ struct strbuf out = {0}, other = {0};
	bool known = f->dns.n > 0;
	size_t kept[2];

	int r = add_servers(&out, f);
	if (r >= 0 && !known && f->server) {
		known = true;
		r = strbuf_addf(&out, "nameserver %s\n", f->server);
	}
	if (r >= 0 && !known)
		r = add_gateways(h, &out, made, n, &known);
	if (r >= 0)
		r = copy_file(&out, RESOLV_CONF, !known, kept);
	/*
	 * The host asks only a resolver on its own loopback interface, which the container cannot
	 * reach. If that is systemd-resolved, the container gets the name servers that
	 * systemd-resolved asks.
	 */
	if (r >= 0 && !known && !kept[0] && kept[1]) {
		r = copy_file(&other, RESOLVED_CONF, true, kept);
		if (r >= 0 && kept[0])
			return write_in_place(f, "resolv.conf", &other);
	}
	return r < 0 ? r : write_in_place(f, "resolv.conf", &out);
}

int container_files_write(struct host *h, const struct container_files *f,
	const struct attachment *const *made, size_t n)
{
	int r = write_hosts(f, made, n);

	return r < 0 ? r : write_resolv_conf(h, f, made, n);
}
