/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of caisson-cni share. */
#pragma once
#include "network/tool.h"

#define KEY_PREFIX "cni:"

/* Error codes of the specification. From 100 on they are the plug-in's. */
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
	const char *version; /* of the configuration, and so of the answer */
	const char *network, *id, *netns, *interface;
	int code; /* what an error that comes now is called */
};

/* Versions of the specification that caisson-cni knows, the newest last, and then NULL. */
extern const char *const cni_versions[];

/* --- cni_request.c: what the caller wants --- */

/* Reads the configuration from standard input. */
int cni_read_conf(struct call *c) must_check;
int cni_check_conf(struct call *c) must_check;
int cni_get_variable(struct call *c, const char *name, const char **ret) must_check;
/* Reads which container and which interface are meant; the namespace only if `netns` is set. */
int cni_get_container(struct call *c, bool netns) must_check;
/* Reads what the caller wants of this attachment, from the environment and from runtimeConfig. */
int cni_read_wishes(struct call *c, struct attach_request *q) must_check;
