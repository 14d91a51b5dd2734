/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsystemd's sd-bus, loaded when the systemd cgroup manager is used and at no other time: a
 * container without it does not pay for the library, and a host without systemd need not have it.
 * Its header gives the types only.
 */
#pragma once
#include <systemd/sd-bus.h>

#include "base/err.h"

#define SDBUS_FUNCTIONS(X) \
	X(sd_bus_open_system) \
	X(sd_bus_open_user) \
	X(sd_bus_new) \
	X(sd_bus_set_address) \
	X(sd_bus_start) \
	X(sd_bus_flush_close_unref) \
	X(sd_bus_call) \
	X(sd_bus_match_signal) \
	X(sd_bus_process) \
	X(sd_bus_wait) \
	X(sd_bus_get_property_string) \
	X(sd_bus_message_new_method_call) \
	X(sd_bus_message_unref) \
	X(sd_bus_message_append) \
	X(sd_bus_message_append_basic) \
	X(sd_bus_message_append_array) \
	X(sd_bus_message_open_container) \
	X(sd_bus_message_close_container) \
	X(sd_bus_message_read) \
	X(sd_bus_error_free)

struct sdbus {
	void *library;
	sd_bus *bus;
#define SDBUS_FIELD(f) __typeof__(f) *f;
	SDBUS_FUNCTIONS(SDBUS_FIELD)
#undef SDBUS_FIELD
};

/*
 * Loads the library and connects: to the user's bus, or to the system's. Release with
 * sdbus_close().
 */
int sdbus_open(struct sdbus *s, bool user) must_check;
void sdbus_close(struct sdbus *s);
#define _cleanup_sdbus_ __attribute__((cleanup(sdbus_close), unused))

/* A call of org.freedesktop.systemd1.Manager, to fill in. */
int sdbus_method(struct sdbus *s, const char *method, sd_bus_message **ret) must_check;

/*
 * Sends it. *ret_name, if asked for, says which D-Bus error came back (static buffer of the
 * caller's, "" for none). reply may be NULL.
 */
#define SDBUS_NAME_MAX 128
int sdbus_call(struct sdbus *s, sd_bus_message *m, sd_bus_message **reply,
	char ret_name[static SDBUS_NAME_MAX]) must_check;

/*
 * For calls that queue a job: watch before, send, then wait until the job is done. Errors when its
 * result is another than "done" (the result is in the message).
 */
struct sdbus_job {
	struct sdbus *bus;
	char path[256];    /* object path of the job */
	char result[32];   /* "done", "failed", ... */
	char seen[8][288]; /* "path result" of jobs that ended before we knew our own's path */
	unsigned nseen;
};
int sdbus_job_watch(struct sdbus *s, struct sdbus_job *job) must_check;
int sdbus_job_run(struct sdbus_job *job, sd_bus_message *m, const char *what,
	char ret_name[static SDBUS_NAME_MAX]) must_check;

/* sdprops.c: what a scope is told, as members of an open "a(sv)". */
struct cg_resources;
struct cg_options;
int sd_put_resources(struct sdbus *s, sd_bus_message *m, const struct cg_resources *res) must_check;
int sd_put_annotations(struct sdbus *s, sd_bus_message *m, const struct cg_options *opt) must_check;
int sd_put(struct sdbus *s, sd_bus_message *m, const char *name, const char *sig, ...) must_check;
int sd_put_mask(struct sdbus *s, sd_bus_message *m, const char *name, const char *list) must_check;
int sd_put_idle(struct sdbus *s, sd_bus_message *m) must_check;
int sd_put_quota(struct sdbus *s, sd_bus_message *m, int64_t quota, uint64_t period) must_check;
/* org.systemd.property.NAME: "TimeoutStopSec" is TimeoutStopUSec on the bus; *ret_seconds then. */
struct arena;
int sd_property_name(struct arena *a, const char *name, const char **ret, bool *ret_seconds)
	must_check;

/*
 * systemd/keep.c: the properties by what the kernel's files in the cgroup say; and, once systemd has
 * written its own, those files as they were. *ret lives in the arena.
 */
struct sd_held;
int sd_put_held(struct sdbus *s, sd_bus_message *m, struct arena *a, int dir,
	const struct sd_held **ret) must_check;
int sd_put_back(struct arena *a, int dir, const struct sd_held *held, const char *path) must_check;
