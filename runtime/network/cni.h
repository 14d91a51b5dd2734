/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the source files of caisson-cni share. */
#pragma once
#include "network/tool.h"

#define KEY_PREFIX "cni:"

/* Error codes of the CNI specification. From 100 on the codes are the plug-in's own. */
enum {
	CNI_VERSION = 1,
	CNI_ENVIRONMENT = 4,
	CNI_IO = 5,
	CNI_DECODE = 6,
	CNI_CONFIG = 7,
	CNI_UNAVAILABLE = 50,
	CNI_FAILED = 100
};

struct call {
	struct host h;
	const struct json *conf;
	const char *version; /* the configuration's version of CNI, which the answer has too */
	const char *network, *id, *netns, *interface;
	int code; /* error code that the answer gets if the next step of the call fails */
};

/* the versions of CNI that caisson-cni supports, in ascending order; the last entry is NULL */
extern const char *const cni_versions[];

/* --- cni_request.c: reads what the caller of the plug-in wants --- */

/* Reads the network configuration from standard input. */
int cni_read_conf(struct call *c) must_check;
int cni_check_conf(struct call *c) must_check;
int cni_get_variable(struct call *c, const char *name, const char **ret) must_check;
/*
 * Reads from the environment which container and which interface the call is about, and, if `netns`
 * is set, the container's network namespace.
 */
int cni_get_container(struct call *c, bool netns) must_check;
/*
 * Reads what the caller wants for this attachment, such as addresses and ports, from CNI_ARGS in
 * the environment and from runtimeConfig in the configuration.
 */
int cni_read_wishes(struct call *c, struct attach_request *q) must_check;
