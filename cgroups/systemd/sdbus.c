/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroups/systemd/sdbus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define LIBRARY "libsystemd.so.0"
#define JOB_TIMEOUT_US (30 * 1000000ull)
#define PRIVATE_ADDRESS "unix:path=/run/systemd/private"

static int load_library(struct sdbus *s)
{
	s->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!s->library)
		return err_set(EOPNOTSUPP,
			"the systemd cgroup manager needs %s, which can't be loaded (%s): install "
			"it, or use --cgroup-manager cgroupfs",
			LIBRARY, dlerror());
	struct {
		const char *name;
		void *address; /* where struct sdbus stores the pointer to the function */
	} table[] = {
#define SDBUS_ENTRY(f) {#f, &s->f},
		SDBUS_FUNCTIONS(SDBUS_ENTRY)
#undef SDBUS_ENTRY
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		void *f = dlsym(s->library, table[i].name);
		if (!f)
			return err_set(EOPNOTSUPP, "%s has no function %s: it is too old", LIBRARY,
				table[i].name);
		memcpy(table[i].address, &f, sizeof(f));
	}
	return 0;
}

/*
 * Connects to systemd's private socket, without a D-Bus daemon. Only root may do that. The socket
 * exists early in the boot and on small hosts, where no D-Bus daemon runs.
 */
static int open_private(struct sdbus *s)
{
	int r = s->sd_bus_new(&s->bus);

	if (r >= 0)
		r = s->sd_bus_set_address(s->bus, PRIVATE_ADDRESS);
	return r < 0 ? r : s->sd_bus_start(s->bus);
}

int sdbus_open(struct sdbus *s, bool user)
{
	*s = (struct sdbus){0};
	int r = load_library(s);

	if (r < 0)
		return r;
	r = user ? s->sd_bus_open_user(&s->bus) : s->sd_bus_open_system(&s->bus);
	if (r < 0 && !user && geteuid() == 0)
		r = open_private(s);
	if (r >= 0)
		return 0;
	if (user)
		return err_set(-r,
			"connect to the user's systemd: %s; it needs DBUS_SESSION_BUS_ADDRESS, or "
			"XDG_RUNTIME_DIR with a socket \"bus\" in it (package dbus-user-session, a "
			"login session, or loginctl enable-linger); or use --cgroup-manager "
			"cgroupfs",
			strerror(-r));
	return err_set(-r,
		"connect to systemd: %s; is systemd this host's init? If not, use --cgroup-manager "
		"cgroupfs",
		strerror(-r));
}

void sdbus_close(struct sdbus *s)
{
	if (s->bus)
		s->sd_bus_flush_close_unref(s->bus);
	if (s->library)
		dlclose(s->library);
	*s = (struct sdbus){0};
}

int sdbus_method(struct sdbus *s, const char *method, sd_bus_message **ret)
{
	int r = s->sd_bus_message_new_method_call(s->bus, ret, "org.freedesktop.systemd1",
		"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", method);

	return r < 0 ? err_set(-r, "systemd: %s: %s", method, strerror(-r)) : 0;
}

int sdbus_call(struct sdbus *s, sd_bus_message *m, sd_bus_message **reply,
	char ret_name[static SDBUS_NAME_MAX])
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = s->sd_bus_call(s->bus, m, 0, &error, reply);

	ret_name[0] = '\0';
	if (r < 0) {
		snprintf(ret_name, SDBUS_NAME_MAX, "%s", error.name ? error.name : "");
		r = err_set(-r, "systemd: %s", error.message ? error.message : strerror(-r));
	}
	s->sd_bus_error_free(&error);
	return r < 0 ? r : 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct sdbus_job *job = userdata;
	const char *path, *unit, *result;
	uint32_t id;
	int r = job->bus->sd_bus_message_read(m, "uoss", &id, &path, &unit, &result);

	if (r < 0)
		return r;
	/*
	 * Notes every job that ends before the reply to the caller's request has told the path of
	 * the caller's own job, because the signal that this job has ended may arrive before the
	 * reply.
	 */
	if (!*job->path)
		snprintf(job->seen[job->nseen++ % 8], sizeof(job->seen[0]), "%s %s", path, result);
	else if (strcmp(job->path, path) == 0)
		snprintf(job->result, sizeof(job->result), "%s", result);
	return 0;
}

int sdbus_job_watch(struct sdbus *s, struct sdbus_job *job)
{
	*job = (struct sdbus_job){.bus = s};
	int r = s->sd_bus_match_signal(s->bus, NULL, NULL, "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "JobRemoved", on_job_removed, job);

	return r < 0 ? err_set(-r, "systemd: watch for JobRemoved: %s", strerror(-r)) : 0;
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int wait_for_job(struct sdbus_job *job, const char *what)
{
	struct sdbus *s = job->bus;
	uint64_t deadline = now_us() + JOB_TIMEOUT_US;
	size_t len = strlen(job->path);

	for (unsigned i = 0; i < 8; i++)
		if (strncmp(job->seen[i], job->path, len) == 0 && job->seen[i][len] == ' ')
			snprintf(job->result, sizeof(job->result), "%s", job->seen[i] + len + 1);
	while (!*job->result) {
		int r = s->sd_bus_process(s->bus, NULL);
		if (r < 0)
			return err_set(-r, "systemd: %s: %s", what, strerror(-r));
		if (r > 0)
			continue;
		uint64_t now = now_us();
		if (now >= deadline)
			return err_set(ETIMEDOUT, "systemd: %s: no result within %llu s", what,
				JOB_TIMEOUT_US / 1000000);
		r = s->sd_bus_wait(s->bus, deadline - now);
		if (r < 0 && r != -EINTR)
			return err_set(-r, "systemd: %s: %s", what, strerror(-r));
	}
	if (strcmp(job->result, "done") != 0)
		return err_set(EIO, "systemd: %s: the job ended as \"%s\"", what, job->result);
	return 0;
}

int sdbus_job_run(struct sdbus_job *job, sd_bus_message *m, const char *what,
	char ret_name[static SDBUS_NAME_MAX])
{
	struct sdbus *s = job->bus;
	sd_bus_message *reply = NULL;
	const char *path;

	job->path[0] = job->result[0] = '\0';
	int r = sdbus_call(s, m, &reply, ret_name);
	if (r < 0)
		return err_ctx(r, "%s", what);
	r = s->sd_bus_message_read(reply, "o", &path);
	if (r >= 0)
		snprintf(job->path, sizeof(job->path), "%s", path);
	s->sd_bus_message_unref(reply);
	return r < 0 ? err_set(-r, "systemd: %s: %s", what, strerror(-r)) : wait_for_job(job, what);
}
