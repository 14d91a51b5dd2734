/* SPDX-License-Identifier: Apache-2.0 */
/* Attaches containers to networks, and detaches them. The theory of operation is in host.h. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "netsetup/host/host_internal.h"
#include "netsetup/net.h"

/* --- Choosing the addresses of a new attachment --- */

static int add_used(struct host *h, const char *name, const char *record, void *arg)
{
	struct ip ip;

	/* Skips the leases of MAC addresses, because they take no address of a pool. */
	return ip_parse(name, &ip) < 0 ? 0 : strbuf_add(arg, &ip, sizeof(ip));
}

static void leases_folder(const char *network, char ret[NETWORK_NAME_MAX + 16])
{
	snprintf(ret, NETWORK_NAME_MAX + 16, "leases/%s", network);
}

static int sweep_lease(struct host *h, const char *name, const char *record, void *arg)
{
	int r = attachment_sweep(h, record);

	*(int *)arg += r > 0;
	return r < 0 ? r : 0;
}

static int all_are_used(const struct pool *p)
{
	char text[IP_TEXT];

	return err_set(EADDRNOTAVAIL,
		"subnet %s: all its addresses are used: detach a container, or make another "
		"network with a larger --subnet",
		ip_subnet_text(&p->base, p->prefix, text));
}

/*
 * Picks a free address of the pool. If the pool has none, undoes the attachments whose interface no
 * longer exists, and tries again.
 */
static int pick_address(struct host *h, const char *network, const struct pool *p, struct ip *ret)
{
	char folder[NETWORK_NAME_MAX + 16];
	int r;

	leases_folder(network, folder);
	for (int tries = 0;; tries++) {
		_cleanup_strbuf_ struct strbuf used = {0};
		int swept = 0;

		r = store_each(h, folder, add_used, &used);
		if (r >= 0)
			r = pool_pick(
				p, (struct ip *)(void *)used.s, used.len / sizeof(struct ip), ret);
		if (r != -EADDRNOTAVAIL)
			return r;
		r = tries || h->dry_run ? 0 : store_each(h, folder, sweep_lease, &swept);
		if (r < 0 || !swept)
			return r < 0 ? r : all_are_used(p);
	}
}

struct holder {
	const struct ip *wanted;
	/*
	 * path of the record of the attachment that has the address; "": no attachment has the
	 * address
	 */
	char record[CONTAINER_KEY_MAX + IFNAMSIZ + 8];
};

static int find_holder(struct host *h, const char *name, const char *record, void *arg)
{
	struct holder *holder = arg;
	struct ip ip;

	if (ip_parse(name, &ip) < 0 || ip_compare(&ip, holder->wanted) != 0)
		return 0;
	snprintf(holder->record, sizeof(holder->record), "%s", record);
	return 1;
}

static int take_wanted(
	struct host *h, const char *network, const struct pool *p, const struct ip *wanted)
{
	struct holder holder = {.wanted = wanted};
	char folder[NETWORK_NAME_MAX + 16], text[IP_TEXT];
	int r = pool_check(p, wanted);

	leases_folder(network, folder);
	if (r >= 0)
		r = store_each(h, folder, find_holder, &holder);
	if (r <= 0)
		return r;
	r = attachment_sweep(h, holder.record);
	if (r != 0)
		return r < 0 ? r : 0;
	return err_set(EEXIST, "address %s: %.*s has it already: expected another one",
		ip_text(wanted, text), (int)strcspn(holder.record, "/"), holder.record);
}

static int choose_addresses(struct host *h, const struct network *n, const struct attach_request *q,
	struct attachment *a)
{
	char text[IP_TEXT];
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n->pool_count; i++) {
		const struct pool *p = &n->pools[i];
		const struct ip *wanted = NULL;

		for (size_t k = 0; k < ARRAY_SIZE(q->addresses); k++)
			if (q->addresses[k].family == p->base.family)
				wanted = &q->addresses[k];
		a->prefixes[i] = (uint8_t)p->prefix;
		a->gateways[i] = p->gateway;
		r = wanted ? take_wanted(h, n->name, p, wanted)
			   : pick_address(h, n->name, p, &a->addresses[i]);
		if (wanted)
			a->addresses[i] = *wanted;
	}
	a->address_count = n->pool_count;
	for (size_t k = 0; r >= 0 && k < ARRAY_SIZE(q->addresses); k++) {
		bool found = !q->addresses[k].family;

		for (size_t i = 0; i < n->pool_count; i++)
			found = found || q->addresses[k].family == n->pools[i].base.family;
		if (!found)
			r = err_set(EINVAL, "address %s: network %s has no pool of its family",
				ip_text(&q->addresses[k], text), n->name);
	}
	return r;
}

static int find_mac(struct host *h, const char *name, const char *record, void *arg)
{
	if (!streq(name, arg) || attachment_sweep(h, record) > 0)
		return 0;
	return err_set(EEXIST, "MAC address %s: %.*s has it already: expected another one", name,
		(int)strcspn(record, "/"), record);
}

const char *mac_text(const uint8_t mac[6], char ret[IP_TEXT])
{
	snprintf(ret, IP_TEXT, STR_MAC_FORMAT, STR_MAC_ARGS(mac));
	return ret;
}

static int take_mac(struct host *h, const struct attach_request *q, struct attachment *a)
{
	static const uint8_t zeros[6];
	char folder[NETWORK_NAME_MAX + 16], text[IP_TEXT];

	mac_text(q->mac, text);
	if ((q->mac[0] & 1) || memcmp(q->mac, zeros, sizeof(zeros)) == 0)
		return err_set(EINVAL,
			"MAC address %s: expected one of an interface: not zero, and its first "
			"byte even",
			text);
	leases_folder(q->network, folder);
	memcpy(a->mac, q->mac, sizeof(a->mac));
	return store_each(h, folder, find_mac, text);
}

/*
 * Makes the MAC address from the IP address, unless the user has given a MAC address. So an IP
 * address always has the same MAC address, and the ARP caches of other machines stay valid.
 */
static int choose_mac(struct host *h, const struct network *n, const struct attach_request *q,
	struct attachment *a)
{
	if (q->mac && kind_keeps_mac(n))
		return err_set(EINVAL,
			"MAC address: an interface of kind %s%s keeps that of the host's "
			"interface, expected none",
			network_kind_name(a->kind),
			a->kind == NETWORK_MACVLAN ? " and mode passthru" : "");
	if (q->mac)
		return take_mac(h, q, a);
	/* 0x0a is the first byte of a MAC address that is locally administered and not a group */
	a->mac[0] = 0x0a;
	if (a->address_count && a->addresses[0].family == AF_INET) {
		a->mac[1] = 0x58;
		memcpy(a->mac + 2, a->addresses[0].bytes, 4);
		return 0;
	}
	return getrandom(a->mac + 1, 5, 0) == 5 ? 0 : err_sys("get random numbers");
}

/* --- Attaching a container to a network --- */

static int check_key(const char *key)
{
	if (!key[0] || key[0] == '.' || strchr(key, '/') || strlen(key) > CONTAINER_KEY_MAX)
		return err_set(EINVAL,
			"container \"%.100s\": expected a name of 1 to %d characters without "
			"\"/\", "
			"which does not start with \".\"",
			key, CONTAINER_KEY_MAX);
	return 0;
}

/*
 * Chooses the name that the interface gets in the container, and opens the container's namespace to
 * see which names are taken.
 */
static int choose_interface(struct host *h, const struct attach_request *q, struct attachment *a)
{
	_cleanup_fd_ int netns = netns_open(q->netns);
	_cleanup_fd_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	const char *name = q->interface ? q->interface : "eth%d";
	char record[CONTAINER_KEY_MAX + IFNAMSIZ + 8];
	struct attachment old;
	uint8_t random[6];

	if (netns < 0)
		return netns;
	if (here >= 0 && netns_same(netns, here))
		return err_set(EINVAL,
			"%s is the host's own network namespace, expected a container's", q->netns);
	int r = net_pick_name(name, netns, a->interface);
	if (r < 0)
		return r;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random numbers");
	snprintf(a->host, sizeof(a->host), "cn%02x%02x%02x%02x%02x%02x", random[0], random[1],
		random[2], random[3], random[4], random[5]);
	snprintf(record, sizeof(record), "%s/%s.json", q->key, a->interface);
	r = store_read_record(h, record, &old);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = attachment_sweep(h, record);
	return r != 0 ? (r < 0 ? r : 0)
		      : err_set(EEXIST, "%s: its interface %s is attached to network %s already",
				q->key, a->interface, old.network);
}

/*
 * Refuses a second attachment of a container to the same network if the user names no interface,
 * because the command was probably repeated by mistake.
 */
static int check_twice(struct host *h, const struct attach_request *q)
{
	const struct attachment **all;
	size_t n;
	int r = q->interface ? 0 : attachment_list(h, q->key, q->network, &all, &n);

	for (size_t i = 0; !q->interface && r >= 0 && i < n; i++) {
		char record[CONTAINER_KEY_MAX + IFNAMSIZ + 8];

		snprintf(record, sizeof(record), "%s/%s.json", all[i]->key, all[i]->interface);
		r = attachment_sweep(h, record);
		if (r == 0)
			return err_set(EEXIST,
				"%s is attached to network %s already, as %s: detach it first, or "
				"name another --interface",
				q->key, q->network, all[i]->interface);
	}
	return r < 0 ? r : 0;
}

/*
 * Returns the name of the lease that every attachment has, even one without an IP address. This
 * name is the MAC address. If the interface has the MAC address of an interface of the host, which
 * several attachments may have, the name is a->host, which is unique.
 */
static const char *own_lease(const struct attachment *a, char ret[IP_TEXT])
{
	if (a->kind == NETWORK_BRIDGE || a->kind == NETWORK_MACVLAN)
		return mac_text(a->mac, ret);
	snprintf(ret, IP_TEXT, "%s", a->host);
	return ret;
}

/*
 * Takes the attachment's leases and writes its record. From then on another command can undo the
 * attachment.
 */
static int write_down(struct host *h, const struct attachment *a)
{
	char folder[NETWORK_NAME_MAX + 16], text[IP_TEXT];
	int r = 0;

	leases_folder(a->network, folder);
	for (size_t i = 0; r >= 0 && i < a->address_count; i++)
		r = store_lease(h, folder, ip_text(&a->addresses[i], text), a);
	if (r >= 0)
		r = store_lease(h, folder, own_lease(a, text), a);
	if (r >= 0)
		r = ports_lease(h, a);
	return r < 0 ? r : store_write_record(h, a);
}

/*
 * Adds the rules of one attachment. If that fails, writes the rules of all attachments again, from
 * the records.
 */
static int add_rules(struct host *h, const struct network *n, const struct attachment *a)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = rules_add(&text, n, a);

	if (r < 0 || nft_run(h, strbuf_str(&text)) >= 0)
		return r;
	err_clear();
	return nft_write_all(h, NULL, NULL);
}

static int make_on_bridge(struct host *h, const struct network *n, const struct attachment *a,
	const char *const *names)
{
	struct device bridge = {0};
	int r = h->dry_run ? 0 : bridge_find(h, n, &bridge);

	if (r >= 0)
		r = veth_make(h, a, bridge.link.index, bridge.mtu);
	if (r >= 0)
		r = add_rules(h, n, a);
	return r < 0 ? r : names_add(h, n, a, names);
}

static int make(struct host *h, const struct network *n, const struct attachment *a,
	const char *const *names)
{
	int r = write_down(h, a);

	if (r < 0)
		return r;
	return n->kind == NETWORK_BRIDGE ? make_on_bridge(h, n, a, names) : child_make(h, n, a);
}

/* Fails if the request has what a network of this kind cannot do. */
static int check_request(const struct network *n, const struct attach_request *q)
{
	if (!kind_has(n->kind, KIND_CONTAINERS))
		return err_set(EINVAL,
			"network %s is a %s, which containers do not join: make a bridge with "
			"--member %s, or a macvlan, ipvlan or device with --parent %s",
			n->name, network_kind_name(n->kind), n->interface, n->interface);
	if (q->port_count && !kind_has(n->kind, KIND_RULES))
		return err_set(EINVAL,
			"-p: network %s is of kind %s, whose containers are reached at their own "
			"addresses, so that no port of it can be published",
			n->name, network_kind_name(n->kind));
	if (n->internal && q->port_count)
		return err_set(EINVAL,
			"-p: network %s is internal, so that no port of it can be published",
			n->name);
	return 0;
}

int attachment_make(struct host *h, const struct attach_request *q, const struct attachment **ret)
{
	struct attachment *a = arena_alloc(&h->arena, sizeof(*a));
	struct network n;

	if (!a)
		return -ENOMEM;
	a->key = arena_strdup(&h->arena, q->key);
	a->netns = arena_strdup(&h->arena, q->recorded ? q->recorded : q->netns);
	a->netns_now = q->netns;
	a->network = arena_strdup(&h->arena, q->network);
	a->root = q->root ? arena_strdup(&h->arena, q->root) : NULL;
	if (!a->key || !a->netns || !a->network || (q->root && !a->root))
		return -ENOMEM;
	a->microvm = q->microvm;
	a->ports = q->ports;
	a->port_count = q->port_count;
	int r = check_key(q->key);
	if (r >= 0)
		r = network_read(h, q->network, &n);
	if (r >= 0)
		a->kind = n.kind;
	if (r >= 0)
		r = check_request(&n, q);
	if (r >= 0)
		r = check_twice(h, q);
	if (r >= 0)
		r = choose_interface(h, q, a);
	if (r >= 0)
		r = choose_addresses(h, &n, q, a);
	if (r >= 0)
		r = choose_mac(h, &n, q, a);
	if (r >= 0)
		r = ports_check(h, a);
	if (r >= 0)
		r = network_apply(h, &n);
	if (r >= 0 && n.kind != NETWORK_BRIDGE)
		r = child_choose(h, &n, a);
	if (r < 0)
		return r;
	a->default_route = !n.internal;
	*ret = a;
	r = make(h, &n, a, q->names);
	if (r < 0 && !h->dry_run) {
		_cleanup_free_ char *message = strdup(err_msg());

		if (attachment_undo(h, a) < 0)
			return err_ctx(r, "%s; undoing it failed too", message ? message : "?");
		return err_set(-r, "%s", message ? message : "no memory");
	}
	return r;
}

/* --- Detaching a container from a network --- */

static int remove_rules(struct host *h, const struct attachment *a)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (!a->port_count)
		return 0;
	int r = rules_remove(&text, a);
	if (r < 0 || nft_run(h, strbuf_str(&text)) >= 0)
		return r;
	err_clear();
	return nft_write_all(h, a, NULL);
}

int attachment_undo(struct host *h, const struct attachment *a)
{
	char folder[NETWORK_NAME_MAX + 16], text[IP_TEXT];

	int r = remove_rules(h, a);
	if (r >= 0)
		r = names_remove(h, a);
	if (r >= 0)
		r = a->kind == NETWORK_BRIDGE ? veth_remove(h, a) : child_remove(h, a);
	if (r >= 0)
		r = store_remove_record(h, a);
	if (r >= 0)
		r = ports_release(h, a);
	leases_folder(a->network, folder);
	for (size_t i = 0; r >= 0 && i < a->address_count; i++)
		r = store_release(h, folder, ip_text(&a->addresses[i], text), a);
	return r < 0 ? r : store_release(h, folder, own_lease(a, text), a);
}

int attachment_sweep_one(struct host *h, const struct attachment *a)
{
	int r = a->kind == NETWORK_BRIDGE ? veth_lives(h, a) : child_lives(h, a);

	if (r == 0)
		r = attachment_undo(h, a);
	else if (r > 0)
		return 0;
	return r < 0 ? r : 1;
}

int attachment_sweep(struct host *h, const char *record)
{
	struct attachment a;
	int r = store_read_record(h, record, &a);

	if (r == -ENOENT)
		return 1;
	return r < 0 ? r : attachment_sweep_one(h, &a);
}
