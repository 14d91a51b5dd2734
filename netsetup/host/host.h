/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of the host, and containers that are attached to them. The program caisson-net is the
 * only caller, because netsetup/host/nft.c needs libnftables.
 *
 *	_cleanup_host_ struct host h = HOST_INIT;
 *	r = host_open(&h, &options);              locks the state; one process at a time
 *	r = network_create(&h, &network);         writes the file, makes the bridge and the rules
 *	r = attachment_make(&h, &request, &a);    container -> interface, addresses, ports
 *	r = attachment_undo(&h, a);               also if the namespace has gone already
 *	r = network_remove(&h, name, force);
 *
 * What is where:
 *
 *	CONFIG/NAME.json               a network, as an administrator may write it too
 *	STATE/lock                     locked (flock) by the one process that reads or changes
 *	STATE/containers/KEY/IF.json   an attachment: what detach has to undo
 *	STATE/leases/NETWORK/ADDRESS   symbolic link to the attachment that has the address
 *	STATE/leases/NETWORK/MAC       the same for its MAC address, so that every one has a lease
 *	STATE/ports/PROTO:PORT:ADDRESS the same for a published port
 *
 * Theory of operation. An attachment is made in this order: leases, record, veth pair, rules. It
 * is undone in the opposite order. A process that is killed at any point leaves one of two things.
 * Leases without a record are symbolic links to nothing, and count as free. A record without
 * an interface of the host is stale: its creator was killed, or the container's namespace has gone
 * and took the veth pair along. Whoever finds a stale record in its way undoes it. The links tell
 * who has an address without a look into the records, so that an attachment costs the same beside
 * 500 others. STATE is in /run, which no crash of the machine outlives, so nothing is synced.
 *
 * nftables. All rules are in one table of caisson's own. It has sets and maps, and an attachment
 * adds elements for its ports in one transaction. If that fails, for example because a firewall was
 * reloaded and flushed all tables, the whole table is written again from the files.
 */
#pragma once
#include <net/if.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/json.h"
#include "netsetup/host/ip.h"
#include "netsetup/host/state.h"
#include "netsetup/rtnl/netlink.h"

#define HOST_CONFIG "/etc/caisson/net"
#define NETWORK_NAME_MAX 64
#define CONTAINER_KEY_MAX 200
#define NETWORK_FILE_MAX 65536 /* bytes of a network's file */
#define PORTS_MAX 4096         /* ports of one attachment, ranges expanded */

struct host_options {
	const char *config, *state; /* NULL: the default */
	bool read_only;             /* for commands that change nothing; works without STATE */
	/* nothing is changed; `changes` gets a line for each change that would have been made */
	bool dry_run;
};

struct host {
	struct arena arena; /* what the functions below return lives here */
	struct nl nl;       /* rtnetlink in the host's namespace */
	int config_dir, state_dir, lock;
	bool dry_run;
	struct strbuf changes; /* lines that end in \n */
};

#define HOST_INIT \
	{ \
		.nl = NL_INIT, .config_dir = -EBADF, .state_dir = -EBADF, .lock = -EBADF \
	}

int host_open(struct host *h, const struct host_options *o) must_check;
void host_close(struct host *h);
#define _cleanup_host_ __attribute__((cleanup(host_close), unused))

/*
 * Removes files that killed processes left: leases without a record, files that were to be renamed.
 * They are in nobody's way, so commands do this only when they have nothing else to undo.
 */
int host_tidy(struct host *h) must_check;

/* --- networks --- */

struct network {
	char name[NETWORK_NAME_MAX + 1];
	char interface[IFNAMSIZ]; /* the bridge */
	struct pool pools[2];     /* at most one of each family */
	size_t pool_count;
	uint32_t mtu;    /* 0: that of the default route's interface */
	bool isolated;   /* no traffic to and from other networks, except published ports */
	bool internal;   /* no traffic to and from anything but the host and the same network */
	bool masquerade; /* outside, containers have the host's address */
};

/* -EINVAL with a message unless name may name a network. */
int network_check_name(const char *name) must_check;

/* Parses and checks a network's file. `what` names the file in messages. */
int network_parse(struct arena *a, const char *text, size_t len, const char *what,
	struct network *ret) must_check;
/* Writes the file's object; and its members only, for a caller that adds others. */
void network_json(struct json_out *o, const struct network *n);
void network_members_json(struct json_out *o, const struct network *n);

/* -ENOENT with a message: there is no such network. */
int network_read(struct host *h, const char *name, struct network *ret) must_check;
/* All networks, ordered by name. A file that is damaged is an error that names it. */
int network_list(struct host *h, struct network **ret, size_t *ret_n) must_check;

/*
 * Fills in what is missing: the pools if there is none, an interface name. Writes the file, and
 * makes the network. -EEXIST: the name, the interface, or addresses of a pool are taken. After a
 * failure nothing is left.
 */
int network_create(struct host *h, struct network *n) must_check;

/*
 * Makes the bridge, or repairs what is missing or different. -EEXIST: an interface of that name is
 * not caisson's; it is not touched.
 */
int network_apply(struct host *h, const struct network *n) must_check;

/* Undoes network_create(). -EBUSY: containers are attached and `force` is not set. */
int network_remove(struct host *h, const char *name, bool force) must_check;

/*
 * Applies all networks, writes all rules again, and undoes stale attachments. For the time after a
 * reboot, or after another program has flushed the rules.
 */
int network_reload(struct host *h) must_check;

/* --- attachments --- */

struct port {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	struct ip host;   /* family 0: all addresses of the host */
	uint16_t host_port, port;
	uint16_t count; /* 1: one port; else a range of both */
};

/* Parses [HOST:]PORT[-PORT]:PORT[-PORT][/tcp|udp|sctp]; an IPv6 address of the host is in []. */
int port_parse(const char *text, struct port *ret) must_check;
const char *port_protocol(uint8_t protocol);

/* Parses aa:bb:cc:dd:ee:ff. */
bool mac_parse(const char *text, uint8_t ret[6]);

struct attachment {
	const char *network;
	const char *key;          /* the container's ID, or the namespace's path with '!' for '/' */
	const char *netns;        /* path of the namespace */
	const char *netns_now;    /* while it is made: by which path the namespace is there */
	char interface[IFNAMSIZ]; /* in the namespace */
	char host[IFNAMSIZ];      /* the host's end of the veth pair */
	uint8_t mac[6];
	struct ip addresses[2];
	uint8_t prefixes[2];
	struct ip gateways[2];
	size_t address_count;
	bool default_route; /* the container got default routes to the gateways */
	const struct port *ports;
	size_t port_count;
};

struct attach_request {
	const char *network;
	const char *key;
	const char *netns;
	const char *recorded;   /* the path that the record has; NULL: netns */
	const char *interface;  /* NULL: the first free one of eth0, eth1, ... */
	struct ip addresses[2]; /* wished addresses; family 0: one of the pool */
	const uint8_t *mac;     /* 6 bytes; NULL: one that follows from the address */
	const struct port *ports;
	size_t port_count;
};

/*
 * Attaches a namespace to a network. -EEXIST: the interface's name or an address is taken;
 * -EADDRINUSE: a port; -EADDRNOTAVAIL: the pool is exhausted. After a failure nothing is left.
 */
int attachment_make(struct host *h, const struct attach_request *q, const struct attachment **ret)
	must_check;

/* Undoes an attachment, as far as there is something to undo. */
int attachment_undo(struct host *h, const struct attachment *a) must_check;

/* The attachments of a container, or of all if key is NULL; and of one network unless NULL. */
int attachment_list(struct host *h, const char *key, const char *network,
	const struct attachment ***ret, size_t *ret_n) must_check;
/* Parses a record. `what` names it in messages. */
int attachment_parse(struct arena *a, const char *text, size_t len, const char *what,
	struct attachment *ret) must_check;
void attachment_json(struct json_out *o, const char *key, const struct attachment *a);

/*
 * Compares an attachment with what is there: interfaces, MTU, addresses, the bridge. 0, or -errno
 * with a message that says what is different.
 */
int attachment_check(struct host *h, const struct attachment *a) must_check;
