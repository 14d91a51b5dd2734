/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What caisson and its helper program caisson-systemd say to each other.
 *
 * Theory of operation. libsystemd is a shared library, and caisson is a static program. So what
 * needs libsystemd is done by a program of its own, which caisson starts for one request and waits
 * for (client.c). The request is the helper's standard input, the reply its standard output, and
 * its log lines are its standard error. All three are memfds, so neither side ever waits for the
 * other to read. Request and reply are structures as bytes, which the reader checks (base/pack.h);
 * it refuses the bytes of another build.
 */
#pragma once
#include "base/log.h"
#include "base/pack.h"
#include "cgroups/cgroup.h"

#define SYSTEMD_HELPER "caisson-systemd"
#define SYSTEMD_MESSAGE_MAX (4U << 20) /* bytes of a request */

enum systemd_op { SYSTEMD_START, SYSTEMD_STOP, SYSTEMD_UPDATE, SYSTEMD_ATTACH, SYSTEMD_OPS };

struct systemd_request {
	enum systemd_op op;
	enum log_level log_level;
	int32_t pid; /* START, ATTACH */
	/* START: whether `limits` is set. Only members that become properties are set in it. */
	bool has_limits;
	struct cgroup cg;
	struct cg_options opt;      /* START */
	struct cg_resources limits; /* START */
};

struct systemd_reply {
	int32_t error; /* 0, or an errno */
	const char *message;
};

extern const struct pack_type systemd_request_type, systemd_reply_type;
