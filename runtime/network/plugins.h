/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of the CNI plug-ins that the host has (`caisson run --network cni:NAME`), as CNI 1.1
 * describes a runtime.
 *
 * A list NAME is a file in /etc/cni/net.d, or in the directory of the variable NETCONFPATH. The
 * plug-ins are in the directories of the variable CNI_PATH; its default are those of the CNI
 * project and of Debian.
 *
 * What DEL needs is in STATE/containers/ID/INTERFACE.cni:
 *
 *	{"netns", "interface", "runtimeConfig": {...}, "list": {...}, "result": {...}}
 *
 * The file is written before ADD, without "result". So whoever finds it undoes an ADD that was
 * killed. A plug-in may be caisson-cni, so the caller must not hold the lock of STATE.
 */
#pragma once
#include "network/tool.h"

#define PLUGINS_PREFIX "cni:"

struct plugins_request {
	const char *list; /* name of the list */
	const char *id, *netns, *recorded;
	struct ip addresses[2]; /* family 0: none is wanted */
	const uint8_t *mac;     /* NULL: none is wanted */
	const struct port *ports;
	size_t port_count;
};

/* What a container's files say of a list: the result's addresses and its name server. */
struct plugins_result {
	struct attachment a;
	const char *server; /* NULL: none */
};

/*
 * Calls ADD of all plug-ins of the list. If that fails, calls DEL of all, because a plug-in may
 * leave what it has made before it failed.
 */
int plugins_add(struct host *h, const struct plugins_request *q, struct plugins_result *ret)
	must_check;

/*
 * Calls DEL for everything that the container has on record, or with `record` for what that
 * namespace has. Goes on after a failure, and returns the first one.
 */
int plugins_remove(struct host *h, const char *id, const char *record) must_check;

/* --- lists.c --- */

/* Finds the list of that name, and checks it. Returns -ENOENT with a message if there is none. */
int plugins_find_list(struct arena *a, const char *name, const struct json **ret) must_check;
/* Checks a list: its name, version, and the types of its plug-ins. */
int plugins_check_list(const struct json *list, const char *what) must_check;
/* Returns the path of a plug-in. */
int plugins_find_program(struct arena *a, const char *type, const char **ret) must_check;
const char *plugins_path(void);

/* A call of one plug-in. */
struct plugins_call {
	const struct json *list, *plugin;
	const struct json
		*wishes; /* the whole runtimeConfig; a plug-in gets what it is capable of */
	const struct json *previous; /* NULL: none */
};

/* Writes what a plug-in reads from its standard input. */
int plugins_write_conf(struct json_out *o, const struct plugins_call *c) must_check;
/* Reads a plug-in's answer to ADD. */
int plugins_read_result(const struct json *answer, struct plugins_result *ret) must_check;
