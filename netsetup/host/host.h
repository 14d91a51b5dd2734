/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of the host, and containers that are attached to them. The program caisson-net is the
 * only caller, because netsetup/host/nft.c needs libnftables.
 *
 *	_cleanup_host_ struct host h = HOST_INIT;
 *	r = host_open(&h, &options);              locks the state; one process at a time
 *	r = network_create(&h, &network);         writes the file, makes the bridge and the rules
 *	r = attachment_make(&h, &request, &a);    container -> interface, addresses, ports
 *	r = attachment_undo(&h, a);               works also if the namespace has gone already
 *	r = network_remove(&h, name, force);
 *
 * What is where:
 *
 *	CONFIG/NAME.json               a network, which an administrator may write too
 *	STATE/lock                     locked (flock) by the one process that reads or changes
 *	STATE/containers/KEY/IF.json   an attachment: what detach has to undo
 *	STATE/leases/NETWORK/ADDRESS   symbolic link to the attachment that has the address
 *	STATE/leases/NETWORK/MAC       symbolic link to the attachment that has the MAC address,
 *	                               because an attachment without an address needs a lease too
 *	STATE/leases/NETWORK/MARK      the lease of an ipvlan or a moved interface instead of MAC
 *	STATE/ports/PROTO:PORT:ADDRESS symbolic link to the attachment that publishes the port
 *	STATE/names/NETWORK            what the network's dnsmasq reads: see names.c
 *	STATE/members/INTERFACE        whether an interface was up before networks used it: member.c
 *	STATE/pins/MARK                mount of a namespace with an interface of the host: see pin.c
 *
 * Theory of operation. An attachment is made in this order: leases, record, veth pair, rules,
 * names. The parts are undone in the opposite order, except for the names, which go before the veth
 * pair. A process that is killed at any point leaves one of two things. Leases without a record are
 * symbolic links to nothing, and count as free. A record without an interface of the host is stale:
 * its creator was killed, or the container's namespace has gone and took the veth pair along. A
 * process that finds a stale record in its way undoes it. The links tell who has an address without
 * a look into the records, so that an attachment costs the same beside 500 others. STATE is in
 * /run, which no crash of the machine outlives, so nothing is synced.
 *
 * nftables. All rules are in one table of caisson's own. The table has sets and maps, and an
 * attachment adds elements for its ports in one transaction. If the transaction fails, for example
 * because a firewall was reloaded and flushed all tables, the whole table is written again from the
 * files.
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
#define NETWORK_FILE_MAX 65536 /* largest file of a network, in bytes */
/* how many ports one attachment may have; each port of a range counts */
#define PORTS_MAX 4096

struct host_options {
	const char *config, *state; /* directories CONFIG and STATE; NULL: the default */
	bool read_only; /* set by commands that change nothing; STATE need not exist then */
	/*
	 * nothing is changed, and `changes` gets a line for each change that would have been made
	 */
	bool dry_run;
};

struct host {
	struct arena arena; /* memory of what the functions below return */
	struct nl nl;       /* socket for rtnetlink in the host's network namespace */
	int config_dir, state_dir, lock;
	struct nft_ctx *nft; /* libnftables context of the last nft_run(), or NULL */
	bool dry_run;
	bool skip_damaged;     /* network_list() leaves out the networks whose file is damaged */
	struct strbuf changes; /* one line for each change of a dry run */
};

#define HOST_INIT \
	{ \
		.nl = NL_INIT, .config_dir = -EBADF, .state_dir = -EBADF, .lock = -EBADF \
	}

int host_open(struct host *h, const struct host_options *o) must_check;
void host_close(struct host *h);
#define _cleanup_host_ __attribute__((cleanup(host_close), unused))

/*
 * host_pause() lets other processes work with the state until host_resume(). What the caller has
 * read before may be different by then.
 */
void host_pause(struct host *h);
int host_resume(struct host *h) must_check;

/*
 * Removes files that killed processes left: leases without a record, and temporary files. Such
 * files do no harm, so a command calls this function only if it has nothing else to undo.
 */
int host_tidy(struct host *h) must_check;

/* --- Networks: what they are, and the functions that make, list and remove them --- */

enum network_kind {
	NETWORK_BRIDGE,
	NETWORK_VLAN,
	NETWORK_BOND,
	NETWORK_MACVLAN,
	NETWORK_IPVLAN,
	NETWORK_DEVICE, /* an interface of the host moves into the container */
};

#define NETWORK_MEMBERS_MAX 16

struct network {
	char name[NETWORK_NAME_MAX + 1];
	enum network_kind kind;
	/*
	 * name of the bridge, VLAN or bond; "": a network of this kind has no interface on the host
	 */
	char interface[IFNAMSIZ];
	/*
	 * name of the interface on which a VLAN, macvlan or ipvlan is built, or of the interface
	 * that moves; "": a network of this kind has no such interface
	 */
	char parent[IFNAMSIZ];
	char members[NETWORK_MEMBERS_MAX][IFNAMSIZ]; /* names of the ports of the bridge or bond */
	size_t member_count;
	uint8_t mode;  /* mode of a bond, macvlan or ipvlan, as the kernel numbers modes */
	uint16_t vlan; /* VLAN ID, 1 to 4094 */
	/* whether a free SR-IOV virtual function of the parent moves instead of the parent */
	bool functions;
	struct pool pools[2]; /* pools of addresses, at most one of each family */
	size_t pool_count;
	/*
	 * MTU of the network; 0: the MTU of the default route's interface if the network is a
	 * bridge, else the MTU of the parent
	 */
	uint32_t mtu;
	/* whether traffic to and from other networks is dropped, except to published ports */
	bool isolated;
	/* whether all traffic is dropped, except with the host and within the network */
	bool internal;
	/* whether packets to other machines get the host's address as their source */
	bool masquerade;
	bool dns; /* whether containers find each other by name, if the host has dnsmasq */
};

/* Returns the name that the kind has in files and options. */
const char *network_kind_name(enum network_kind kind);
/*
 * network_kind_parse() returns the number of the kind with this name, and network_mode_parse() the
 * number of the mode. Both return -EINVAL with a message that lists the names if there is no such
 * name.
 */
int network_kind_parse(const char *text) must_check;
int network_mode_parse(enum network_kind kind, const char *text) must_check;
/* Returns the mode of a network whose file names no mode. */
uint8_t network_mode_default(enum network_kind kind);
/* Fails if the file of a network of the kind `kind` may not have the JSON member `member`. */
int network_check_member(enum network_kind kind, const char *member) must_check;

/* Returns 0 if a network may have the name `name`, else -EINVAL with a message. */
int network_check_name(const char *name) must_check;

/* Parses and checks a network's file. `what` names the file in messages. */
int network_parse(struct arena *a, const char *text, size_t len, const char *what,
	struct network *ret) must_check;
/*
 * network_json() writes a network's file as an object. network_members_json() writes only the
 * members of that object, for a caller that adds other members.
 */
void network_json(struct json_out *o, const struct network *n);
void network_members_json(struct json_out *o, const struct network *n);

/* Reads the network's file. Returns -ENOENT with a message if there is no such network. */
int network_read(struct host *h, const char *name, struct network *ret) must_check;
/*
 * Reads all networks, ordered by name. If a network's file is damaged, fails with a message that
 * names the file, unless h->skip_damaged is set.
 */
int network_list(struct host *h, struct network **ret, size_t *ret_n) must_check;

/*
 * Makes a network: fills in the pools and the interface's name if these are missing, writes the
 * file, and makes the bridge and the rules. Returns -EEXIST if the name, the interface, or
 * addresses of a pool are taken. After a failure everything is undone.
 */
int network_create(struct host *h, struct network *n) must_check;

/* Creates the network JOIN_DEFAULT if `name` is JOIN_DEFAULT and that network does not exist. */
int network_make_default(struct host *h, const char *name) must_check;

/* Undoes network_create(). Returns -EBUSY if containers are attached and `force` is not set. */
int network_remove(struct host *h, const char *name, bool force) must_check;

/*
 * Applies all networks, writes all rules again, and undoes the attachments whose interface no
 * longer exists. If one of these steps fails, does the others, and returns the first failure.
 * `caisson net reload` calls this function, after a reboot, or after another program has flushed
 * the rules.
 */
int network_reload(struct host *h) must_check;

/* --- Attachments of containers to networks --- */

struct port {
	uint8_t protocol; /* protocol of the port: IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP */
	/*
	 * address of the host on which the port is published; family 0: all addresses of the host
	 */
	struct ip host;
	uint16_t host_port, port;
	uint16_t count; /* number of ports in the range; 1: a single port */
};

/*
 * Parses a text [HOST:]PORT[-PORT]:PORT[-PORT][/tcp|udp|sctp]; an IPv6 address as HOST is in
 * brackets.
 */
int port_parse(const char *text, struct port *ret) must_check;
const char *port_protocol(uint8_t protocol);

/* Parses a MAC address such as aa:bb:cc:dd:ee:ff. Returns false if the text is no MAC address. */
bool mac_parse(const char *text, uint8_t ret[6]);

/*
 * The state that a moved interface had on the host. Undoing the attachment restores it, because an
 * administrator who moves the interface back by hand may leave it down, without addresses, and
 * under its name in the container.
 */
#define DEVICE_ADDRESSES_MAX 8
struct device_before {
	char name[IFNAMSIZ];
	uint32_t mtu;
	bool up;
	struct ip addresses[DEVICE_ADDRESSES_MAX];
	uint8_t prefixes[DEVICE_ADDRESSES_MAX];
	size_t address_count;
};

struct attachment {
	const char *network;
	enum network_kind kind;
	const char *key; /* the container's ID, or the namespace's path with '!' for '/' */
	/*
	 * the directory of caisson's state directories in which the container's is, because
	 * containers in several of them may have the same ID; NULL: not known, as for the path of a
	 * namespace, or a record that an older caisson has written
	 */
	const char *root;
	const char *netns; /* path of the container's network namespace */
	/* path by which the namespace can be opened while the attachment is made */
	const char *netns_now;
	char interface[IFNAMSIZ]; /* name of the interface inside the namespace */
	/*
	 * The attachment's mark, a name by which caisson finds the attachment's interface. If the
	 * network is a bridge, it is the name of the veth pair's end on the host. Otherwise the
	 * interface in the container has the mark: as its alias if the interface was made for the
	 * container, as an alternative name if it was moved.
	 */
	char host[IFNAMSIZ];
	/* state of a moved interface before the move; set if kind is NETWORK_DEVICE */
	struct device_before before;
	uint8_t mac[6];
	struct ip addresses[2];
	uint8_t prefixes[2];
	struct ip gateways[2];
	size_t address_count;
	/*
	 * the container was a running microVM when it was attached, so its guest must stop using
	 * the interface before the interface is removed
	 */
	bool microvm;
	/* whether attaching gave the container default routes to the gateways */
	bool default_route;
	const struct port *ports;
	size_t port_count;
};

struct attach_request {
	const char *network;
	bool microvm; /* the container is a microVM that runs */
	const char *key;
	const char *root; /* as in struct attachment */
	const char *netns;
	/* path of the namespace that is written into the record; NULL: the same path as netns */
	const char *recorded;
	/* name of the interface in the container; NULL: the first free name of eth0, eth1, ... */
	const char *interface;
	/* addresses that the user wants; family 0: any free address of the pool */
	struct ip addresses[2];
	const uint8_t *mac; /* MAC address of 6 bytes; NULL: an address made from the IP address */
	/*
	 * names by which others find the container, besides its key, with NULL at the end; NULL:
	 * there are no such names
	 */
	const char *const *names;
	const struct port *ports;
	size_t port_count;
};

/*
 * Finds the name that an interface would get in the namespace with the path `netns`: the template
 * with the first free number in place of its "%d".
 */
int netns_pick_name(const char *netns, const char *template, char ret[IFNAMSIZ]) must_check;
/*
 * Reads the cookie of the namespace with the path `netns`. The kernel gives this number to no other
 * network namespace until the machine restarts (SO_NETNS_COOKIE). *ret is 0 if the kernel has no
 * cookies, as before Linux 5.14.
 */
int netns_cookie(const char *netns, uint64_t *ret) must_check;
/* Opens the namespace, reads its cookie, and returns the descriptor. */
int netns_open_cookie(const char *netns, uint64_t *ret) must_check;

/* Returns whether a dnsmasq answers on the network's gateways while a container is attached. */
bool names_served(const struct network *n);
/*
 * Returns -EINVAL if `name` cannot be the name of a container, else 0. The error message begins
 * with `what`.
 */
int names_check(const char *name, const char *what) must_check;

/*
 * Attaches a namespace to a network. Returns -EEXIST if the interface's name or an address is
 * taken, -EADDRINUSE if a port is taken, and -EADDRNOTAVAIL if the pool has no free address. After
 * a failure everything is undone.
 */
int attachment_make(struct host *h, const struct attach_request *q, const struct attachment **ret)
	must_check;

/* Undoes an attachment. A part of the attachment that no longer exists is no error. */
int attachment_undo(struct host *h, const struct attachment *a) must_check;

/*
 * Lists the attachments of a container to a network. NULL for key means all containers, NULL for
 * network means all networks.
 */
int attachment_list(struct host *h, const char *key, const char *network,
	const struct attachment ***ret, size_t *ret_n) must_check;
/* Parses a record. `what` is the name of the record in messages. */
int attachment_parse(struct arena *a, const char *text, size_t len, const char *what,
	struct attachment *ret) must_check;
void attachment_json(struct json_out *o, const char *key, const struct attachment *a);

/*
 * Compares an attachment with the interfaces, MTUs, addresses and the bridge that exist. Returns 0
 * if all is as recorded, or -errno with a message that says what is different.
 */
int attachment_check(struct host *h, const struct attachment *a) must_check;
