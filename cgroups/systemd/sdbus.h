/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads libsystemd's sd-bus at run time. caisson-systemd is not linked with libsystemd, so that on
 * a host without it the user gets an error message of caisson's and not of the dynamic linker. Only
 * the types of libsystemd's header are used.
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
 * Loads the library and connects to the bus of the user, or to that of the system. sdbus_close()
 * closes the connection.
 */
int sdbus_open(struct sdbus *s, bool user) must_check;
void sdbus_close(struct sdbus *s);
#define _cleanup_sdbus_ __attribute__((cleanup(sdbus_close), unused))

/*
 * Starts a message that calls a method of org.freedesktop.systemd1.Manager; the caller adds the
 * arguments.
 */
int sdbus_method(struct sdbus *s, const char *method, sd_bus_message **ret) must_check;

/* Size of the name of a D-Bus error, which sdbus_call() returns. */
#define SDBUS_NAME_MAX 128
int sdbus_call(struct sdbus *s, sd_bus_message *m, sd_bus_message **reply,
	char ret_name[static SDBUS_NAME_MAX]) must_check;

/*
 * A job that systemd queues for a call. The caller calls sdbus_job_watch() first and then
 * sdbus_job_run(), which sends the call and waits until the job is done. If the job's result is not
 * "done", sdbus_job_run() returns an error whose message has the result.
 */
struct sdbus_job {
	struct sdbus *bus;
	char path[256];  /* D-Bus object path of the job */
	char result[32]; /* result of the job: "done", "failed" and others */
	/*
	 * "PATH RESULT" of each job that ended before the path of the caller's own job was known.
	 */
	char seen[8][288];
	unsigned nseen;
};
int sdbus_job_watch(struct sdbus *s, struct sdbus_job *job) must_check;
int sdbus_job_run(struct sdbus_job *job, sd_bus_message *m, const char *what,
	char ret_name[static SDBUS_NAME_MAX]) must_check;

/* The functions of sdprops.c add the properties of a scope to an open array "a(sv)". */
struct cg_resources;
struct cg_options;
int sd_put_resources(struct sdbus *s, sd_bus_message *m, const struct cg_resources *res) must_check;
int sd_put_annotations(struct sdbus *s, sd_bus_message *m, const struct cg_options *opt) must_check;
int sd_put(struct sdbus *s, sd_bus_message *m, const char *name, const char *sig, ...) must_check;
int sd_put_mask(struct sdbus *s, sd_bus_message *m, const char *name, const char *list) must_check;
int sd_put_idle(struct sdbus *s, sd_bus_message *m) must_check;
int sd_put_quota(struct sdbus *s, sd_bus_message *m, int64_t quota, uint64_t period) must_check;
/*
 * Checks the NAME of an org.systemd.property.NAME annotation. A name such as TimeoutStopSec becomes
 * TimeoutStopUSec, its name on the bus, and *ret_seconds is set to true. The function is declared
 * for the unit tests.
 */
struct arena;
int sd_property_name(struct arena *a, const char *name, const char **ret, bool *ret_seconds)
	must_check;

/*
 * The functions of keep.c. sd_put_held() adds the properties that describe the cgroup's control
 * files to the message, and stores the files' contents in *ret, in the arena. sd_put_back() writes
 * those files again that systemd has changed since then.
 */
struct sd_held;
int sd_put_held(struct sdbus *s, sd_bus_message *m, struct arena *a, int dir,
	const struct sd_held **ret) must_check;
int sd_put_back(struct arena *a, int dir, const struct sd_held *held, const char *path) must_check;
