/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of netsetup/host/ share. */
#pragma once
#include "netsetup/host/host.h"
#include "netsetup/rtnl/device.h"

/*
 * Returns true in a dry run, after noting the change, and the caller must then not make it. Returns
 * true too if there is no memory for the note, because the list of changes would be incomplete.
 */
bool host_skips(struct host *h, const char *fmt, ...) printf_like(2, 3);

/* --- bridge.c --- */

/* Returns the MTU of the network: the one in its file, or that of the default route's interface. */
int bridge_mtu(struct host *h, const struct network *n) must_check;
/*
 * Finds the bridge. Returns -ENODEV if it does not exist, and -EEXIST if the interface is not this
 * network's bridge.
 */
int bridge_find(struct host *h, const struct network *n, struct device *ret) must_check;
int bridge_apply(struct host *h, const struct network *n, struct device *ret) must_check;
int bridge_remove(struct host *h, const struct network *n) must_check;

/* --- veth.c --- */

int veth_make(struct host *h, const struct attachment *a, int bridge, uint32_t mtu) must_check;
int veth_remove(struct host *h, const struct attachment *a) must_check;
/* Opens a network namespace. Returns -EINVAL with a message if the file is none. */
int netns_open(const char *path) must_check;
/* Returns whether the two descriptors refer to the same namespace. */
bool netns_same(int a, int b);

/* --- sysctl.c: files below /proc/sys, of the network namespace of the calling thread --- */

/*
 * Sets a sysctl. Returns 0 also if the kernel does not have the file, for example because it has no
 * IPv6.
 */
int sysctl_set(struct host *h, const char *value, const char *fmt, ...)
	must_check printf_like(3, 4);
/* Lets the host forward packets of both families. */
int sysctl_forwarding(struct host *h) must_check;

/* --- store.c --- */

/* Makes a lease. The caller has checked that no other attachment has it. */
int store_lease(struct host *h, const char *folder, const char *name, const struct attachment *a)
	must_check;
/* Removes a lease if it belongs to the attachment a. */
int store_release(struct host *h, const char *folder, const char *name, const struct attachment *a)
	must_check;
/*
 * Calls fn for each lease of the folder. If fn returns another value than 0, stops and returns it.
 * A lease whose record no longer exists is removed.
 */
typedef int store_fn(struct host *h, const char *name, const char *record, void *arg);
int store_each(struct host *h, const char *folder, store_fn *fn, void *arg) must_check;
int store_write_record(struct host *h, const struct attachment *a) must_check;
int store_remove_record(struct host *h, const struct attachment *a) must_check;
/*
 * Reads a record by its path below STATE/containers. Returns -ENOENT without a message if it no
 * longer exists.
 */
int store_read_record(struct host *h, const char *record, struct attachment *ret) must_check;

/* --- publish.c --- */

/*
 * Fails if a port of the request is published already, or if a process of the host uses it. Undoes
 * stale attachments that have such a port.
 */
int ports_check(struct host *h, const struct attachment *a) must_check;
/* Takes or releases the leases of all ports of an attachment. */
int ports_lease(struct host *h, const struct attachment *a) must_check;
int ports_release(struct host *h, const struct attachment *a) must_check;
/* Undoes the attachment of a record if it is stale. Returns 1 if it was, else 0. */
int attachment_sweep(struct host *h, const char *record) must_check;

/* --- names.c --- */

/*
 * Adds the attachment's names, and has dnsmasq read them, which is started if it does not run.
 * `more` lists names besides the key, with NULL at its end, and may be NULL.
 */
int names_add(struct host *h, const struct network *n, const struct attachment *a,
	const char *const *more) must_check;
/* Removes the names of an attachment. If it was the network's last one, ends dnsmasq. */
int names_remove(struct host *h, const struct attachment *a) must_check;
/* Has the network's dnsmasq read the names again. If it should run and does not, starts it. */
int names_reload(struct host *h, const struct network *n) must_check;
int names_stop(struct host *h, const char *network) must_check;

/* --- attach.c --- */

/* Writes the address as aa:bb:cc:dd:ee:ff to ret, and returns ret. */
const char *mac_text(const uint8_t mac[6], char ret[IP_TEXT]);

/* --- rules.c: nftables rules as text --- */

#define RULES_TABLE "inet caisson"
/* Writes commands that replace the whole table. Without networks they remove it. */
int rules_all(struct strbuf *out, const struct network *networks, size_t n,
	const struct attachment *const *attachments, size_t count) must_check;
/*
 * rules_add() writes the nft commands that add an attachment's ports and addresses to the maps and
 * sets of the table. rules_remove() writes those that remove them, which succeed even if the table
 * does not have them.
 */
int rules_add(struct strbuf *out, const struct network *n, const struct attachment *a) must_check;
int rules_remove(struct strbuf *out, const struct attachment *a) must_check;

/* --- nft.c --- */

/*
 * Runs the commands as one transaction. If it fails, returns -EIO with the first line of the
 * message of nftables.
 */
int nft_run(struct host *h, const char *commands) must_check;
/*
 * Writes the whole table again, from the files, without the given attachment or network. NULL
 * leaves nothing out.
 */
int nft_write_all(struct host *h, const struct attachment *attachment, const char *network)
	must_check;
