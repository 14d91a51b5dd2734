/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of netsetup/host/ share. */
#pragma once
#include "netsetup/host/host.h"
#include "netsetup/rtnl/device.h"

/*
 * Notes a change. true: this is a dry run, and the caller leaves the change. A failure to note it
 * (no memory) also counts as a dry run would, because the line would be missing there only.
 */
bool host_skips(struct host *h, const char *fmt, ...) printf_like(2, 3);

/* --- bridge.c --- */

/* The MTU of the network: the file's, or that of the default route's interface. */
int bridge_mtu(struct host *h, const struct network *n) must_check;
/* The bridge's MAC address follows from the network's name, and tells that the bridge is ours. */
void bridge_mac(const struct network *n, uint8_t ret[6]);
/* Finds the bridge. -ENODEV: there is none; -EEXIST: the interface is not this network's bridge. */
int bridge_find(struct host *h, const struct network *n, struct device *ret) must_check;
int bridge_apply(struct host *h, const struct network *n, struct device *ret) must_check;
int bridge_remove(struct host *h, const struct network *n) must_check;

/* --- veth.c --- */

int veth_make(struct host *h, const struct attachment *a, int bridge, uint32_t mtu) must_check;
int veth_remove(struct host *h, const struct attachment *a) must_check;
/* Opens a namespace: -EINVAL with a message if the file is something else. */
int netns_open(const char *path) must_check;
/* Whether the two descriptors are of one namespace. */
bool netns_same(int a, int b);

/* --- sysctl.c: files below /proc/sys, of the network namespace of the calling thread --- */

/* Sets a value. 0 if the kernel does not have the file, because it has no IPv6 for example. */
int sysctl_set(struct host *h, const char *value, const char *fmt, ...)
	must_check printf_like(3, 4);
/* Lets the host forward packets, for both families. */
int sysctl_forwarding(struct host *h) must_check;

/* --- store.c --- */

/* Makes a lease, which the caller knows to be free. */
int store_lease(struct host *h, const char *folder, const char *name, const struct attachment *a)
	must_check;
/* Removes a lease if it is a's. */
int store_release(struct host *h, const char *folder, const char *name, const struct attachment *a)
	must_check;
/*
 * Calls fn for each lease of the folder, until fn returns something else than 0, which is returned.
 * A lease whose record is gone is removed.
 */
typedef int store_fn(struct host *h, const char *name, const char *record, void *arg);
int store_each(struct host *h, const char *folder, store_fn *fn, void *arg) must_check;
int store_write_record(struct host *h, const struct attachment *a) must_check;
int store_remove_record(struct host *h, const struct attachment *a) must_check;
/* Reads a record by its path below STATE/containers. -ENOENT without a message: it is gone. */
int store_read_record(struct host *h, const char *record, struct attachment *ret) must_check;

/* --- publish.c --- */

/*
 * Fails if a port of the request is published already, or a process of the host has it. Undoes
 * stale attachments that are in the way.
 */
int ports_check(struct host *h, const struct attachment *a) must_check;
/* Takes or releases the leases of all ports of an attachment. */
int ports_lease(struct host *h, const struct attachment *a) must_check;
int ports_release(struct host *h, const struct attachment *a) must_check;
/* Undoes the attachment of a record if it is stale: 1. 0: it is not. */
int attachment_sweep(struct host *h, const char *record) must_check;

/* --- rules.c: nftables rules as text --- */

#define RULES_TABLE "inet caisson"
/* The whole table, in place of whatever is there. With no network the table is removed. */
int rules_all(struct strbuf *out, const struct network *networks, size_t n,
	const struct attachment *const *attachments, size_t count) must_check;
/* What one attachment adds, and its removal, which is right if nothing of it is there too. */
int rules_add(struct strbuf *out, const struct network *n, const struct attachment *a) must_check;
int rules_remove(struct strbuf *out, const struct attachment *a) must_check;

/* --- nft.c --- */

/* Runs commands as one transaction. -EIO, with the first line of what nftables says. */
int nft_run(struct host *h, const char *commands) must_check;
/*
 * Writes the whole table again, from the files, but without one attachment or one network, if these
 * are not NULL.
 */
int nft_write_all(struct host *h, const struct attachment *attachment, const char *network)
	must_check;
