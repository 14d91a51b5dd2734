/* SPDX-License-Identifier: Apache-2.0 */
/* Makes, finds and removes the networks of the host. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/dir.h"
#include "netsetup/host/host_internal.h"

#define FILE_NAME_MAX (NETWORK_NAME_MAX + 6)

static const char *file_name(const char *network, char buf[FILE_NAME_MAX])
{
	snprintf(buf, FILE_NAME_MAX, "%s.json", network);
	return buf;
}

int network_read(struct host *h, const char *name, struct network *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char file[FILE_NAME_MAX], what[FILE_NAME_MAX + 20];

	int r = network_check_name(name);
	if (r < 0)
		return r;
	r = h->config_dir < 0 ? -ENOENT
			      : fd_read_regular(h->config_dir, file_name(name, file), &text,
					NETWORK_FILE_MAX);
	if (r == -ENOENT)
		return err_set(
			ENOENT, "network \"%s\" does not exist: `caisson net ls` lists them", name);
	snprintf(what, sizeof(what), "network %s", name);
	if (r >= 0)
		r = network_parse(&h->arena, strbuf_str(&text), text.len, what, ret);
	if (r >= 0)
		snprintf(ret->name, sizeof(ret->name), "%s", name);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct network *)a)->name, ((const struct network *)b)->name);
}

static int read_all(struct host *h, DIR *d, struct strbuf *found)
{
	struct dirent *e;
	int r = 0;

	while (r >= 0 && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		char name[NETWORK_NAME_MAX + 1];
		struct network n;

		if (len <= 5 || len - 5 > NETWORK_NAME_MAX || e->d_name[0] == '.' ||
			!streq(e->d_name + len - 5, ".json"))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(len - 5), e->d_name);
		r = network_read(h, name, &n);
		if (r >= 0) {
			r = strbuf_add(found, &n, sizeof(n));
		} else if (h->skip_damaged && r != -ENOMEM) {
			err_clear();
			r = 0;
		}
	}
	return r;
}

int network_list(struct host *h, struct network **ret, size_t *ret_n)
{
	_cleanup_strbuf_ struct strbuf found = {0};
	int r = 0, again = h->config_dir < 0
				   ? -EBADF
				   : openat(h->config_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = dir_take_fd(again);

	*ret = NULL;
	*ret_n = 0;
	if (!d && h->config_dir >= 0)
		return err_sys("list the networks");
	if (d) {
		r = read_all(h, d, &found);
		closedir(d);
	}
	if (r < 0 || found.len == 0)
		return r;
	*ret = arena_alloc(&h->arena, found.len);
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, found.s, found.len);
	*ret_n = found.len / sizeof(**ret);
	qsort(*ret, *ret_n, sizeof(**ret), compare_names);
	return 0;
}

/* --- Choosing subnets that no network and no route of the host uses --- */

struct overlap {
	const struct pool *pool;
	/* the network's own interface, whose routes are not compared with the pool */
	const char *own;
	bool bridge; /* whether the network is a bridge */
	struct host *h;
	char text[128]; /* the route, address or network with which the pool overlaps */
};

static int find_route(uint8_t family, const uint8_t *raw, uint8_t prefix, int index, void *arg)
{
	struct overlap *o = arg;
	struct ip route = {.family = family};
	char name[IFNAMSIZ] = "?", text[IP_TEXT];

	memcpy(route.bytes, raw, ip_len(family));
	if (!pool_overlaps(&o->pool->base, o->pool->prefix, &route, prefix))
		return 0;
	(void)if_indextoname((unsigned)index, name);
	if (streq(name, o->own))
		return 0;
	snprintf(o->text, sizeof(o->text), "the host's route to %s through %s",
		ip_subnet_text(&route, prefix, text), name);
	return 1;
}

/*
 * Returns 1, with a text in o->text, if an address of the pool is already used on the host or in
 * another network.
 */
static int find_overlap(struct overlap *o, const struct network *all, size_t count)
{
	char text[IP_TEXT];

	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < all[i].pool_count; k++) {
			const struct pool *p = &all[i].pools[k];

			if (!pool_overlaps(&o->pool->base, o->pool->prefix, &p->base, p->prefix))
				continue;
			snprintf(o->text, sizeof(o->text), "%s of network %s",
				ip_subnet_text(&p->base, p->prefix, text), all[i].name);
			return 1;
		}
	/*
	 * Compares only the pools of bridges with the host's routes, because a network of another
	 * kind has addresses of a network to which the host itself has a route.
	 */
	return o->bridge ? device_each_route(&o->h->nl, find_route, o) : 0;
}

static int check_pools(
	struct host *h, const struct network *n, const struct network *all, size_t count)
{
	for (size_t i = 0; i < n->pool_count; i++) {
		struct overlap o = {.pool = &n->pools[i],
			.own = n->interface,
			.bridge = n->kind == NETWORK_BRIDGE,
			.h = h};
		char text[IP_TEXT];
		int r = find_overlap(&o, all, count);

		if (r < 0)
			return r;
		if (r > 0)
			return err_set(EEXIST,
				"subnet %s overlaps with %s: expected a free one (--subnet)",
				ip_subnet_text(&n->pools[i].base, n->pools[i].prefix, text),
				o.text);
	}
	return 0;
}

/* Finds the first free subnet of 256 addresses in private ranges (RFC 1918). */
static int choose_ipv4(struct host *h, struct network *n, const struct network *all, size_t count)
{
	static const uint8_t ranges[][2] = {{10, 90}, {10, 91}, {172, 29}, {192, 168}};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		for (unsigned third = 0; third < 256; third++) {
			struct pool p = {.prefix = 24,
				.base = {AF_INET, {ranges[i][0], ranges[i][1], (uint8_t)third}}};
			struct overlap o = {
				.pool = &p, .own = n->interface, .bridge = true, .h = h};
			int r = find_overlap(&o, all, count);

			if (r == 0)
				r = pool_complete(&p);
			else if (r > 0)
				continue;
			if (r >= 0)
				n->pools[n->pool_count++] = p;
			return r;
		}
	return err_set(EADDRNOTAVAIL, "no private subnet is free: name one with --subnet");
}

/* Makes a unique local subnet of random bits (RFC 4193). */
static int choose_ipv6(struct network *n)
{
	struct pool p = {.prefix = 64, .base = {AF_INET6, {0xfd}}};

	if (access("/proc/sys/net/ipv6", F_OK) < 0)
		return 0;
	if (getrandom(p.base.bytes + 1, 5, 0) != 5)
		return err_sys("get random numbers");
	int r = pool_complete(&p);
	if (r >= 0)
		n->pools[n->pool_count++] = p;
	return r;
}

/* Chooses a free name for the network's own interface, or checks the name that the user wants. */
static int choose_interface(
	struct host *h, struct network *n, const struct network *all, size_t count)
{
	bool wanted = n->interface[0];
	struct link link;

	if (!kind_has(n->kind, KIND_INTERFACE))
		return 0;
	for (unsigned i = 0; i < 10000; i++) {
		bool taken = false;
		int r;

		if (!wanted)
			snprintf(n->interface, sizeof(n->interface), "caisson%u", i);
		for (size_t k = 0; k < count; k++)
			taken = taken || streq(all[k].interface, n->interface);
		r = taken ? 0 : link_get(&h->nl, n->interface, 0, &link);
		if (r == -ENODEV) {
			err_clear();
			return 0;
		}
		if (r < 0)
			return r;
		if (wanted)
			return err_set(EEXIST,
				"interface %s exists already: expected a name that is free, or no "
				"--interface",
				n->interface);
	}
	return err_set(EEXIST, "no name is free for the interface: name one with --interface");
}

static int write_file(struct host *h, const struct network *n)
{
	_cleanup_json_out_ struct json_out o = {0};
	char file[FILE_NAME_MAX];
	const char *text;
	size_t len;

	int r = json_out_init(&o, true);
	if (r < 0)
		return r;
	network_json(&o, n);
	r = json_out_text(&o, &text, &len);
	if (r < 0 || host_skips(h, "network %s: write its file", n->name))
		return r;
	return fd_replace_file(h->config_dir, file_name(n->name, file), text, len, 0644);
}

static int remove_file(struct host *h, const char *name)
{
	char file[FILE_NAME_MAX];

	if (!host_skips(h, "network %s: remove its file", name) &&
		unlinkat(h->config_dir, file_name(name, file), 0) < 0 && errno != ENOENT)
		return err_sys("remove %s", file);
	return 0;
}

/*
 * Writes the rules of all networks. In a dry run only the rules of n are tried, because the file of
 * n does not exist then.
 */
static int write_rules(struct host *h, const struct network *n)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r;

	if (!kind_has(n->kind, KIND_RULES))
		return 0;
	if (!h->dry_run)
		return nft_write_all(h, NULL, NULL);
	r = rules_all(&text, n, 1, NULL, 0);
	return r < 0 ? r : nft_run(h, strbuf_str(&text));
}

/* --- Applying a network and the networks that it is built on --- */

#define DEPTH_MAX \
	8 /* how many networks may be built on each other, such as a bridge on a VLAN on a bond */

static int apply_one(struct host *h, const struct network *n)
{
	struct device parent;

	if (n->kind == NETWORK_BRIDGE)
		return bridge_apply(h, n);
	if (kind_has(n->kind, KIND_INTERFACE))
		return interface_apply(h, n);
	/*
	 * An interface that moves as a whole is not touched here, because it may be in a container
	 * that is attached now.
	 */
	if (n->kind == NETWORK_DEVICE && !n->functions)
		return 0;
	int r = member_use(h, n, n->parent, &parent);
	return r < 0 ? err_ctx(r, "network %s", n->name) : 0;
}

static int apply_from(
	struct host *h, const struct network *n, const struct network *all, size_t count, int depth)
{
	int r = 0;

	if (depth == DEPTH_MAX)
		return err_set(ELOOP,
			"network %s: more than %d networks are built on each other, or in a circle",
			n->name, DEPTH_MAX);
	for (size_t i = 0; r >= 0 && i < count; i++)
		if (network_uses(n, all[i].interface) && !streq(n->name, all[i].name))
			r = apply_from(h, &all[i], all, count, depth + 1);
	return r < 0 ? r : apply_one(h, n);
}

int network_apply(struct host *h, const struct network *n)
{
	struct network *all;
	size_t count;
	int r;

	if (!n->parent[0] && !n->member_count)
		return apply_one(h, n);
	r = network_list(h, &all, &count);
	return r < 0 ? r : apply_from(h, n, all, count, 0);
}

/* Fails if another network is built on the network n. */
static int check_unused(struct host *h, const struct network *n)
{
	struct network *all;
	size_t count;
	int r = network_list(h, &all, &count);

	for (size_t i = 0; r >= 0 && i < count; i++)
		if (network_uses(&all[i], n->interface))
			return err_set(EBUSY,
				"network \"%s\": network %s is built on its interface %s: `caisson "
				"net rm %s` first",
				n->name, all[i].name, n->interface, all[i].name);
	return r;
}

/*
 * Removes the network's own interface, and gives back the interfaces of the host that the network
 * used.
 */
static int remove_interface(struct host *h, const struct network *n)
{
	if (n->kind == NETWORK_BRIDGE)
		return bridge_remove(h, n);
	if (kind_has(n->kind, KIND_INTERFACE))
		return interface_remove(h, n);
	return members_release(h, n);
}

/* --- Making and removing a network --- */

static int check_name_free(const struct network *n, const struct network *all, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (streq(all[i].name, n->name))
			return err_set(EEXIST,
				"network \"%s\" exists already: expected another name, or first "
				"`caisson net rm %s`",
				n->name, n->name);
	return 0;
}

int network_create(struct host *h, struct network *n)
{
	struct network *all;
	size_t count;

	int r = network_check_name(n->name);
	if (r >= 0)
		r = network_list(h, &all, &count);
	if (r < 0)
		return r;
	r = check_name_free(n, all, count);
	if (r >= 0)
		r = choose_interface(h, n, all, count);
	if (r >= 0)
		r = members_check(n, all, count);
	if (r >= 0 && n->pool_count == 0 && n->kind == NETWORK_BRIDGE) {
		r = choose_ipv4(h, n, all, count);
		/*
		 * Chooses no IPv6 subnet if the network's MTU is below 1280, because the kernel
		 * gives an interface with such an MTU no IPv6.
		 */
		if (r >= 0 && (!n->mtu || n->mtu >= 1280))
			r = choose_ipv6(n);
	}
	if (r >= 0)
		r = check_pools(h, n, all, count);
	if (r >= 0)
		r = write_file(h, n);
	if (r < 0)
		return r;
	r = network_apply(h, n);
	if (r >= 0)
		r = write_rules(h, n);
	if (r < 0 && !h->dry_run) {
		_cleanup_free_ char *message = strdup(err_msg());

		if (remove_interface(h, n) >= 0 && remove_file(h, n->name) >= 0)
			err_clear();
		return err_set(-r, "%s", message ? message : "no memory");
	}
	return r;
}

int network_make_default(struct host *h, const char *name)
{
	/*
	 * The default network has no name server, as the default networks of docker and podman have
	 * none.
	 */
	struct network n = {.isolated = true, .masquerade = true};

	if (!streq(name, JOIN_DEFAULT))
		return 0;
	int r = network_read(h, name, &n);
	if (r != -ENOENT)
		return r;
	err_clear();
	snprintf(n.name, sizeof(n.name), "%s", name);
	return network_create(h, &n);
}

int network_remove(struct host *h, const char *name, bool force)
{
	const struct attachment **all;
	struct network n;
	size_t count;

	int r = network_read(h, name, &n);
	if (r >= 0)
		r = check_unused(h, &n);
	if (r >= 0)
		r = attachment_list(h, NULL, name, &all, &count);
	if (r < 0)
		return r;
	if (count > 0 && !force)
		return err_set(EBUSY,
			"network \"%s\": %s is attached (%zu in all): detach first, or use --force",
			name, all[0]->key, count);
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = attachment_undo(h, all[i]);
	/*
	 * Removes the network's file last, so that the user can repeat `caisson net rm` until all
	 * is removed.
	 */
	if (r >= 0)
		r = names_stop(h, name);
	if (r >= 0 && kind_has(n.kind, KIND_RULES))
		r = nft_write_all(h, NULL, name);
	if (r >= 0)
		r = remove_interface(h, &n);
	return r < 0 ? r : remove_file(h, name);
}
