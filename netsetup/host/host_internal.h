/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of netsetup/host/ share. */
#pragma once
#include <limits.h>

#include "netsetup/host/host.h"
#include "netsetup/rtnl/device.h"

/*
 * Returns true in a dry run, after noting the change in h->changes, and the caller must then not
 * make the change. Returns true too if there is no memory for the note, because the list of changes
 * would be incomplete.
 */
bool host_skips(struct host *h, const char *fmt, ...) printf_like(2, 3);

/* --- kind.c: the kinds of networks --- */

/* Flags that say what the networks of a kind have. */
enum {
	KIND_INTERFACE = 1, /* an interface on the host that caisson makes */
	KIND_PARENT = 2,    /* an interface of the host on which the network is built */
	/* interfaces of the host that become ports of the network's own interface */
	KIND_MEMBERS = 4,
	KIND_CONTAINERS = 8, /* attached containers, and therefore pools of addresses */
	KIND_RULES = 16,     /* nftables rules, and names that a dnsmasq serves */
	KIND_MODES = 32,
};

bool kind_has(enum network_kind kind, unsigned what);
/*
 * Returns whether the interface of a container in the network has the MAC address of the interface
 * of the host on which the network is built.
 */
bool kind_keeps_mac(const struct network *n);
/* Returns the name of a mode. `mode` is a number that network_mode_parse() has returned. */
const char *network_mode_name(enum network_kind kind, uint8_t mode);
/* Checks rules that concern several members of a network's file. */
int kind_check_whole(const struct network *n) must_check;
/*
 * Returns -EOPNOTSUPP, with a message which says that this kernel has no interfaces of the kind
 * `kind`.
 */
int kind_not_supported(enum network_kind kind);

/* --- interface.c: the interfaces of VLANs and bonds --- */

int interface_apply(struct host *h, const struct network *n) must_check;
int interface_remove(struct host *h, const struct network *n) must_check;
/* Writes the name that an interface of the network has while it is being made. */
void interface_temporary_name(const char *network, char ret[IFNAMSIZ]);

/* --- member.c: interfaces of the host that networks use --- */

/*
 * Notes whether the interface, a parent or a member of the network, is up, and then sets it up.
 * Returns -ENODEV with a message if the interface does not exist.
 */
int member_use(struct host *h, const struct network *n, const char *name, struct device *ret)
	must_check;
/*
 * Makes all members ports of the bridge or bond. `master` is the index of the bridge or bond, or 0
 * in a dry run.
 */
int members_apply(struct host *h, const struct network *n, int master) must_check;
/* Undoes member_use() and members_apply() after the network's own interface was removed. */
int members_release(struct host *h, const struct network *n) must_check;
/*
 * Fails if another network already uses an interface that the network n wants, unless both can
 * share the interface.
 */
int members_check(const struct network *n, const struct network *all, size_t count) must_check;
bool network_uses(const struct network *n, const char *interface);

/* --- config.c: makes, applies and removes networks --- */

/*
 * Makes what is missing of the network, and of the networks on which it is built. Returns -EEXIST,
 * and changes nothing, if another program's interface has the name of the network's interface.
 */
int network_apply(struct host *h, const struct network *n) must_check;

/* --- child.c: macvlan and ipvlan interfaces, and those that are moved --- */

/*
 * Fills in the members of *a that describe the interface of the attachment. Changes nothing on the
 * host.
 */
int child_choose(struct host *h, const struct network *n, struct attachment *a) must_check;
int child_make(struct host *h, const struct network *n, const struct attachment *a) must_check;
int child_remove(struct host *h, const struct attachment *a) must_check;
/* Returns 1 if the attachment's interface is in its namespace, else 0. */
int child_lives(struct host *h, const struct attachment *a) must_check;
/* Returns the MTU that the interface inside the container should have. */
int child_mtu(struct host *h, const struct network *n, const struct attachment *a) must_check;

/* --- pin.c: a mount that keeps a network namespace while an interface of the host is in it --- */

int pin_make(struct host *h, const struct attachment *a, int netns) must_check;
/*
 * Opens the namespace that pin_make() has kept. Returns -ENODEV without a message if there is none.
 */
int pin_open(struct host *h, const struct attachment *a) must_check;
int pin_remove(struct host *h, const struct attachment *a) must_check;

/* --- function.c: SR-IOV virtual functions --- */

/* Finds a virtual function of the interface `parent` that no container has. */
int function_pick(const char *parent, char ret[IFNAMSIZ]) must_check;

/* --- bridge.c: the bridge of a network --- */

/*
 * Returns the MTU of the network: the MTU in the network's file, or that of the default route's
 * interface.
 */
int bridge_mtu(struct host *h, const struct network *n) must_check;
/*
 * Finds the bridge. Returns -ENODEV if it does not exist, and -EEXIST if the interface is not this
 * network's bridge.
 */
int bridge_find(struct host *h, const struct network *n, struct device *ret) must_check;
/* --- program.c --- */

/* Finds a program in the usual directories, and not in $PATH. */
bool program_find(const char *name, char ret[PATH_MAX]);
/*
 * Runs the program argv[0]. Returns 1 if its exit code is 0, else 0 with the last line that it has
 * written to standard error.
 */
int program_run(const char *const *argv, char *line, size_t size) must_check;

/* --- docker.c --- */

/*
 * docker_add() adds rules to docker's chain DOCKER-USER that accept the packets from and to the
 * bridge of a network, and docker_remove() removes these rules. Both do nothing if the chain does
 * not exist, or if the network has no bridge.
 */
int docker_add(struct host *h, const struct network *n) must_check;
int docker_remove(struct host *h, const struct network *n) must_check;

/* --- firewalld.c --- */

/*
 * firewalld_add() puts the bridge of a network into firewalld's zone "trusted", and
 * firewalld_remove() takes the bridge out of the zone. Both do nothing if firewalld does not run,
 * or if the network has no bridge.
 */
int firewalld_add(struct host *h, const struct network *n) must_check;
int firewalld_remove(struct host *h, const struct network *n) must_check;

int bridge_apply(struct host *h, const struct network *n) must_check;
int bridge_remove(struct host *h, const struct network *n) must_check;

/* --- veth.c: the pair of interfaces that connects a container with a bridge --- */

int veth_make(struct host *h, const struct attachment *a, int bridge, uint32_t mtu) must_check;
int veth_remove(struct host *h, const struct attachment *a) must_check;
/* Returns 1 if the host's end of the attachment's veth pair exists, else 0. */
int veth_lives(struct host *h, const struct attachment *a) must_check;
/* Gives the interface in the container's namespace its addresses and routes, and sets it up. */
int inside_set_up(struct host *h, const struct attachment *a, int netns) must_check;
/*
 * Opens a network namespace. Returns -EINVAL with a message if the file at `path` is no network
 * namespace.
 */
int netns_open(const char *path) must_check;
/* Returns whether the two descriptors refer to the same namespace. */
bool netns_same(int a, int b);

/* --- sysctl.c: files below /proc/sys, of the network namespace of the calling thread --- */

/*
 * Sets a sysctl. A sysctl that the kernel does not have, for example because it has no IPv6, is no
 * error, and the function returns 0.
 */
int sysctl_set(struct host *h, const char *value, const char *fmt, ...)
	must_check printf_like(3, 4);
/* Lets the host forward packets of IPv4 and IPv6. */
int sysctl_forwarding(struct host *h) must_check;

/* --- store.c: leases and records in the directory STATE --- */

/* Makes a lease. The caller has checked that no other attachment has this lease. */
int store_lease(struct host *h, const char *folder, const char *name, const struct attachment *a)
	must_check;
/* Removes a lease if it belongs to the attachment a. */
int store_release(struct host *h, const char *folder, const char *name, const struct attachment *a)
	must_check;
/*
 * The function that store_each() calls for each lease of the folder. If the function returns
 * another value than 0, store_each() stops and returns that value. store_each() removes a lease
 * whose record no longer exists.
 */
typedef int store_fn(struct host *h, const char *name, const char *record, void *arg);
int store_each(struct host *h, const char *folder, store_fn *fn, void *arg) must_check;
int store_write_record(struct host *h, const struct attachment *a) must_check;
int store_remove_record(struct host *h, const struct attachment *a) must_check;
/*
 * Reads a record by its path below STATE/containers. Returns -ENOENT without a message if the
 * record no longer exists.
 */
int store_read_record(struct host *h, const char *record, struct attachment *ret) must_check;

/* --- publish.c: published ports of the host --- */

/*
 * Fails if a port of the request is published already, or if a process of the host uses it. Undoes
 * an attachment with such a port if the interface of the attachment no longer exists.
 */
int ports_check(struct host *h, const struct attachment *a) must_check;
/*
 * ports_lease() takes the leases of all ports of an attachment, and ports_release() releases them.
 */
int ports_lease(struct host *h, const struct attachment *a) must_check;
int ports_release(struct host *h, const struct attachment *a) must_check;
/*
 * Undoes the attachment that `record` describes if the interface of the attachment no longer
 * exists. Returns 1 if it did so, else 0.
 */
int attachment_sweep(struct host *h, const char *record) must_check;
int attachment_sweep_one(struct host *h, const struct attachment *a) must_check;

/* --- names.c: the dnsmasq that serves the names of a network's containers --- */

/*
 * Adds the attachment's names, and makes dnsmasq read them. If dnsmasq does not run, starts it.
 * `more` lists names besides the key, with NULL at its end, and may be NULL.
 */
int names_add(struct host *h, const struct network *n, const struct attachment *a,
	const char *const *more) must_check;
/* Removes the names of an attachment. If this was the network's last attachment, ends dnsmasq. */
int names_remove(struct host *h, const struct attachment *a) must_check;
/*
 * Makes the network's dnsmasq read the files with the names again. If dnsmasq should run and does
 * not, starts it.
 */
int names_reload(struct host *h, const struct network *n) must_check;
int names_stop(struct host *h, const char *network) must_check;

/* --- attach.c: attaches and detaches containers --- */

/* Writes the address as aa:bb:cc:dd:ee:ff to ret, and returns ret. */
const char *mac_text(const uint8_t mac[6], char ret[IP_TEXT]);

/* --- rules.c: nftables rules as text --- */

#define RULES_TABLE "inet caisson"
/*
 * Writes commands that replace the whole table. If there are no networks, the commands remove the
 * table.
 */
int rules_all(struct strbuf *out, const struct network *networks, size_t n,
	const struct attachment *const *attachments, size_t count) must_check;
/*
 * rules_add() writes the nft commands that add an attachment's ports and addresses to the maps and
 * sets of the table. rules_remove() writes the commands that remove them; these commands succeed
 * even if the table does not have the ports and addresses.
 */
int rules_add(struct strbuf *out, const struct network *n, const struct attachment *a) must_check;
int rules_remove(struct strbuf *out, const struct attachment *a) must_check;

/* --- nft.c: runs nftables commands --- */

/*
 * Runs the commands as one transaction. If the transaction fails, returns -EIO with the first line
 * of the message of nftables.
 */
int nft_run(struct host *h, const char *commands) must_check;
/* Closes the socket of the last nft_run(). */
void nft_close(struct host *h);
/* Returns whether the host has this table, such as "inet firewalld". */
bool nft_has_table(const char *table);
/*
 * Writes the whole table again, from the files, without the given attachment or network. If both
 * are NULL, nothing is left out.
 */
int nft_write_all(struct host *h, const struct attachment *attachment, const char *network)
	must_check;
