/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the seed of a foreign guest: a disk from which cloud-init in the guest configures the
 * guest. The files user-data, meta-data and vendor-data come from a directory of the host.
 * network-config comes from there too, or else the monitor writes it, because only the monitor
 * knows what networks the container has joined. The monitor writes network-config as JSON, because
 * JSON is YAML too, and quotes every text.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "images/guest/seed.h"
#include "monitor/monitor_internal.h"

#define NETWORK_CONFIG "network-config"
#define RESOLV_MAX (64u << 10)
#define WORD_MAX 256

static void put_address(
	struct json_out *o, const char *key, int family, const uint8_t *address, int prefix)
{
	char text[INET6_ADDRSTRLEN], full[INET6_ADDRSTRLEN + 8];

	inet_ntop(family, address, text, sizeof(text));
	snprintf(full, sizeof(full), prefix < 0 ? "%s" : "%s/%d", text, prefix);
	json_out_str(o, key, full);
}

static void put_routes(struct json_out *o, const struct net_config *c, int interface)
{
	json_out_array(o, "routes");
	for (size_t i = 0; i < c->route_count; i++) {
		const struct net_route *r = &c->routes[i];
		if (r->interface != interface || r->type != RTN_UNICAST || !r->gateway_family)
			continue;
		json_out_object(o, NULL);
		put_address(o, "to", r->family, r->dst, r->prefix);
		put_address(o, "via", r->gateway_family, r->gateway, -1);
		if (r->onlink)
			json_out_bool(o, "on-link", true);
		if (r->metric)
			json_out_u64(o, "metric", r->metric);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

/*
 * Writes an array of the words that follow `word`, such as "nameserver", in the lines of `text`, a
 * resolv.conf.
 */
static void put_resolver(struct json_out *o, const char *key, const char *text, const char *word)
{
	char name[WORD_MAX];

	json_out_array(o, key);
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		size_t len = strlen(word), end = strcspn(line, "\n");
		if (!str_starts(line, word) || (line[len] != ' ' && line[len] != '\t'))
			continue;
		while (len < end) {
			len += strspn(line + len, " \t");
			size_t n = strcspn(line + len, " \t\n");
			if (n > 0 && n < sizeof(name)) {
				snprintf(name, sizeof(name), "%.*s", (int)n, line + len);
				json_out_str(o, NULL, name);
			}
			len += n;
		}
	}
	json_out_end_array(o);
}

static void put_interface(
	struct json_out *o, const struct net_config *c, size_t index, const char *resolv)
{
	const struct net_interface *n = &c->interfaces[index];
	char name[32], mac[18];

	snprintf(name, sizeof(name), "nic%zu", index);
	snprintf(mac, sizeof(mac), STR_MAC_FORMAT, STR_MAC_ARGS(n->mac));
	json_out_object(o, name);
	json_out_object(o, "match");
	json_out_str(o, "macaddress", mac);
	json_out_end_object(o);
	if (n->mtu)
		json_out_u64(o, "mtu", n->mtu);
	/*
	 * The guest asks by DHCP for the address of an interface without addresses, because the
	 * host knows none.
	 */
	if (!n->address_count)
		json_out_bool(o, "dhcp4", true);
	json_out_array(o, "addresses");
	for (size_t i = 0; i < n->address_count; i++)
		if (n->addresses[i].scope != RT_SCOPE_LINK)
			put_address(o, NULL, n->addresses[i].family, n->addresses[i].local,
				n->addresses[i].prefix);
	json_out_end_array(o);
	put_routes(o, c, (int)index);
	if (*resolv) {
		json_out_object(o, "nameservers");
		put_resolver(o, "addresses", resolv, "nameserver");
		put_resolver(o, "search", resolv, "search");
		json_out_end_object(o);
	}
	json_out_end_object(o);
}

/* Writes network-config, version 2 of cloud-init's format. */
static int write_network(struct monitor *m, struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf resolv = {0};
	const char *dir = m->a->env->names_dir;
	const struct net_config *c = &m->boot.net;

	_cleanup_fd_ int names = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -EBADF;
	if (names >= 0 && fd_read_file(names, PLAN_RESOLV_CONF, &resolv, RESOLV_MAX) < 0)
		return err_ctx(-EIO, "the networks' name servers");
	json_out_object(o, NULL);
	json_out_u64(o, "version", 2);
	json_out_object(o, "ethernets");
	for (size_t i = 0; i < c->interface_count; i++)
		put_interface(o, c, i, i == 0 ? strbuf_str(&resolv) : "");
	json_out_end_object(o);
	json_out_end_object(o);
	return 0;
}

static int read_seed_file(struct monitor *m, int dir, const char *name, struct seed_file *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = fd_read_regular(dir, name, &text, SEED_FILE_MAX);

	if (r < 0)
		return r;
	*ret = (struct seed_file){.name = name,
		.data = arena_strndup(m->a->arena, strbuf_str(&text), text.len),
		.len = text.len};
	return ret->data ? 1 : -ENOMEM;
}

static int add_network(struct monitor *m, struct json_out *o, struct seed_file *ret)
{
	const char *text = NULL;
	int r = write_network(m, o);

	if (r >= 0)
		r = json_out_text(o, &text, &ret->len);
	ret->name = NETWORK_CONFIG;
	ret->data = text;
	return r;
}

int monitor_make_seed(struct monitor *m, int *ret)
{
	static const char *const names[] = {
		"meta-data", "user-data", "vendor-data", NETWORK_CONFIG};
	const char *path = m->a->machine->seed;
	_cleanup_json_out_ struct json_out network = {0};
	struct seed_file files[SEED_FILES_MAX];
	bool has_network = false;
	char self[32];
	size_t n = 0;

	*ret = -EBADF;
	if (!path)
		return 0;
	_cleanup_fd_ int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = memfd_create("seed", MFD_CLOEXEC);
	if (dir < 0 || fd < 0)
		return err_sys("annotation io.caisson.vm.seed: %s", path);
	int r = json_out_init(&network, false);
	for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++) {
		if (faccessat(dir, names[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			continue;
		r = read_seed_file(m, dir, names[i], &files[n]);
		has_network |= streq(names[i], NETWORK_CONFIG);
		n += r > 0;
	}
	if (r >= 0 && !has_network && m->boot.net.interface_count)
		r = add_network(m, &network, &files[n++]);
	if (r >= 0)
		r = seed_write(fd, files, n);
	if (r < 0)
		return err_ctx(r, "annotation io.caisson.vm.seed");
	/*
	 * The seed is opened again, because QEMU takes a descriptor for a read-only disk only if
	 * the descriptor is read-only too.
	 */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	*ret = open(self, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? err_sys("annotation io.caisson.vm.seed: open the seed") : 0;
}
