/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of the CNI plug-ins that the host has (`caisson run --network cni:NAME`), as CNI 1.1
 * describes a runtime.
 *
 * A list NAME is a file in /etc/cni/net.d, or in the directory of the variable NETCONFPATH. The
 * plug-ins are in the directories of the variable CNI_PATH; by default these are the directories of
 * the CNI project and of Debian.
 *
 * What DEL needs is in STATE/containers/ID/INTERFACE.cni:
 *
 * 	{"netns", "interface", "runtimeConfig": {...}, "list": {...}, "result": {...}}
 *
 * The file is written before ADD, without "result". So `leave` finds the file even if ADD was
 * killed, and can undo that ADD. A plug-in may be caisson-cni, so the caller must not hold the lock
 * of STATE.
 */
#pragma once
#include "network/tool.h"

#define PLUGINS_PREFIX "cni:"

struct plugins_request {
	const char *list; /* name of the list of plug-ins */
	const char *id, *netns, *recorded;
	/* the wanted addresses, one of each family; family 0: the plug-ins choose the address */
	struct ip addresses[2];
	const uint8_t *mac; /* the wanted MAC address; NULL: the plug-ins choose it */
	const struct port *ports;
	size_t port_count;
};

/*
 * What the plug-ins of a list have answered, as far as the container's files hosts and resolv.conf
 * need it.
 */
struct plugins_result {
	struct attachment a;
	const char *server; /* first name server in the answer; NULL: the answer names none */
};

/*
 * Calls ADD of all plug-ins of the list. If one fails, calls DEL of all, because the plug-in that
 * has failed may have made something before.
 */
int plugins_add(struct host *h, const struct plugins_request *q, struct plugins_result *ret)
	must_check;

/*
 * Calls DEL for each interface of the container that has a record. If `record` is not NULL, calls
 * DEL only for the interfaces of the network namespace `record`. Goes on after a failure, and
 * returns the first failure.
 */
int plugins_remove(struct host *h, const char *id, const char *record) must_check;

/* --- the functions of lists.c --- */

/*
 * Finds the list of plug-ins with that name, and checks it. Returns -ENOENT with a message if no
 * file has such a list.
 */
int plugins_find_list(struct arena *a, const char *name, const struct json **ret) must_check;
/* Checks a list of plug-ins: its name, its version, and the types of its plug-ins. */
int plugins_check_list(const struct json *list, const char *what) must_check;
/*
 * Finds the program of the plug-ins of this type in the directories of CNI_PATH. *ret is its path.
 */
int plugins_find_program(struct arena *a, const char *type, const char **ret) must_check;
const char *plugins_path(void);

/* One call of one plug-in of a list. */
struct plugins_call {
	const struct json *list, *plugin;
	const struct json
		/*
		 * the whole runtimeConfig, of which a plug-in gets the members that its
		 * "capabilities" name
		 */
		*wishes;
	/* answer of the plug-in before this one in the list; NULL: there is none */
	const struct json *previous;
};

/* Writes the configuration that a plug-in reads from its standard input. */
int plugins_write_conf(struct json_out *o, const struct plugins_call *c) must_check;
/* Reads what a plug-in has answered to ADD: addresses, and name servers. */
int plugins_read_result(const struct json *answer, struct plugins_result *ret) must_check;
