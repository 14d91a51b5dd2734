/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines the messages between caisson and its helper program caisson-systemd.
 *
 * Theory of operation. libsystemd is a shared library, and caisson is a static program. So a
 * program of its own does the work that needs libsystemd; caisson starts this helper for one
 * request and waits until it ends (client.c). The request is the helper's standard input, the reply
 * is its standard output, and its log lines go to its standard error. All three are memfds, so
 * neither side ever waits for the other to read. Request and reply are C structures written as
 * bytes, which the reader checks (base/pack.h); the reader refuses bytes from another build.
 */
#pragma once
#include "base/log.h"
#include "base/pack.h"
#include "cgroups/cgroup.h"

#define SYSTEMD_HELPER "caisson-systemd"
#define SYSTEMD_MESSAGE_MAX (4U << 20) /* largest request in bytes */

enum systemd_op { SYSTEMD_START, SYSTEMD_STOP, SYSTEMD_UPDATE, SYSTEMD_ATTACH, SYSTEMD_OPS };

struct systemd_request {
	enum systemd_op op;
	enum log_level log_level;
	int32_t pid; /* for START and ATTACH: the process that the scope gets */
	/*
	 * For START: whether `limits` is set. Of the limits only those are set that become
	 * properties of the scope.
	 */
	bool has_limits;
	struct cgroup cg;
	struct cg_options opt;      /* for START: the caller's options */
	struct cg_resources limits; /* for START: the limits, if has_limits is set */
};

struct systemd_reply {
	int32_t error; /* 0 for success, else a positive errno number */
	const char *message;
};

extern const struct pack_type systemd_request_type, systemd_reply_type;
