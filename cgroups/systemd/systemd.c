/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The systemd cgroup manager: a transient scope for each container.
 *
 * Theory of operation. systemd makes a scope around a process that exists: caisson-systemd calls
 * StartTransientUnit with the process's pid in PIDs=, and waits for the job. With Delegate= systemd
 * leaves the cgroup to caisson, so limits, freezer and statistics use the control files, as with
 * cgroupfs. /proc/PID/cgroup tells where the cgroup is, for the system's systemd and for the
 * user's. A scope can be made even from a user namespace, because sd-bus authenticates by the
 * socket's credentials and sends no uid, so the program need not know the user's uid outside of the
 * namespace.
 *
 * systemd forgets a scope when its last process is gone. A failed scope stays, and blocks its name,
 * until it is reset; so the functions that start and stop a scope reset it.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"
#include "cgroups/systemd/sdbus.h"
#include "cgroups/systemd/systemd.h"

#define ERROR_NO_UNIT "org.freedesktop.systemd1.NoSuchUnit"
#define ERROR_EXISTS "org.freedesktop.systemd1.UnitExists"

/* Calls a method of systemd whose only argument is the name of the unit. */
static int call_for_unit(struct sdbus *s, const char *method, const char *unit, char *name)
{
	sd_bus_message *m = NULL;
	int r = sdbus_method(s, method, &m);

	if (r < 0)
		return r;
	r = s->sd_bus_message_append_basic(m, 's', unit);
	r = r < 0 ? err_set(-r, "systemd: %s: %s", method, strerror(-r))
		  : sdbus_call(s, m, NULL, name);
	s->sd_bus_message_unref(m);
	return r;
}

static void reset_failed(struct sdbus *s, const char *unit)
{
	char name[SDBUS_NAME_MAX];

	if (call_for_unit(s, "ResetFailedUnit", unit, name) < 0)
		err_clear();
}

static int put_properties(struct sdbus *s, sd_bus_message *m, const struct cgroup *cg,
	const struct cg_options *opt, pid_t pid)
{
	static const char *const on[] = {
		"Delegate", "MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"};
	int r = sd_put(s, m, "Slice", "s", cg->slice);

	if (r == 0) {
		char *text = NULL;
		if (asprintf(&text, "caisson container %s", opt->id) < 0)
			return err_set(ENOMEM, "out of memory");
		r = sd_put(s, m, "Description", "s", text);
		free(text);
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(on); i++)
		r = sd_put(s, m, on[i], "b", 1);
	/*
	 * Switches the default dependencies of the scope off, because with them systemd would stop
	 * the scope at shutdown before the engine has stopped its containers.
	 */
	if (r == 0)
		r = sd_put(s, m, "DefaultDependencies", "b", 0);
	if (r == 0) {
		r = s->sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, (uint32_t)pid);
		r = r < 0 ? err_set(-r, "systemd property PIDs: %s", strerror(-r)) : 0;
	}
	return r < 0 ? r : sd_put_annotations(s, m, opt);
}

/*
 * Builds the StartTransientUnit message: name of the unit, mode, the properties as "a(sv)", and an
 * empty list of further units.
 */
static int start_message(struct sdbus *s, const struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid, sd_bus_message **ret)
{
	int r = sdbus_method(s, "StartTransientUnit", ret);

	if (r < 0)
		return r;
	r = s->sd_bus_message_append(*ret, "ss", cg->scope, "replace");
	if (r >= 0)
		r = s->sd_bus_message_open_container(*ret, 'a', "(sv)");
	if (r < 0)
		return err_set(-r, "systemd: StartTransientUnit: %s", strerror(-r));
	r = put_properties(s, *ret, cg, opt, pid);
	if (r == 0 && res)
		r = sd_put_resources(s, *ret, res);
	if (r < 0)
		return r;
	r = s->sd_bus_message_close_container(*ret);
	if (r >= 0)
		r = s->sd_bus_message_append(*ret, "a(sa(sv))", 0);
	return r < 0 ? err_set(-r, "systemd: StartTransientUnit: %s", strerror(-r)) : 0;
}

static int start_unit(struct sdbus *s, const struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid)
{
	char name[SDBUS_NAME_MAX], what[300];
	struct sdbus_job job;
	int r = sdbus_job_watch(s, &job);

	snprintf(what, sizeof(what), "start %s", cg->scope);
	for (int attempt = 0; r == 0 && attempt < 2; attempt++) {
		sd_bus_message *m = NULL;
		r = start_message(s, cg, opt, res, pid, &m);
		if (r == 0)
			r = sdbus_job_run(&job, m, what, name);
		if (m)
			s->sd_bus_message_unref(m);
		if (r >= 0 || attempt || !streq(name, ERROR_EXISTS))
			break;
		/*
		 * Resets a failed scope with the same name, which an earlier container may have
		 * left. A running scope stays as it is, and the second attempt to start reports it.
		 */
		reset_failed(s, cg->scope);
		r = 0;
	}
	return r;
}

int systemd_start(const struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid)
{
	_cleanup_sdbus_ struct sdbus s = {0};
	int r = sdbus_open(&s, cg->user_instance);

	return r < 0 ? r : start_unit(&s, cg, opt, res, pid);
}

static int set_held(struct sdbus *s, struct arena *a, const struct cgroup *cg, int dir,
	const struct sd_held **held)
{
	char name[SDBUS_NAME_MAX];
	sd_bus_message *m = NULL;
	int r = sdbus_method(s, "SetUnitProperties", &m);

	if (r < 0)
		return r;
	/* the argument 1 (true) makes the properties hold only until the next boot */
	r = s->sd_bus_message_append(m, "sb", cg->scope, 1);
	if (r >= 0)
		r = s->sd_bus_message_open_container(m, 'a', "(sv)");
	r = r < 0 ? err_set(-r, "systemd: SetUnitProperties: %s", strerror(-r))
		  : sd_put_held(s, m, a, dir, held);
	if (r == 0 && s->sd_bus_message_close_container(m) < 0)
		r = err_set(EIO, "systemd: SetUnitProperties: close the list");
	if (r == 0)
		r = sdbus_call(s, m, NULL, name);
	s->sd_bus_message_unref(m);
	return r;
}

/*
 * Waits until systemd has written the control files. systemd answers a call before it writes the
 * files, but writes them before it handles the next call. So any second call returns after the
 * files are written.
 */
static void wait_for_writes(struct sdbus *s, const char *unit)
{
	char name[SDBUS_NAME_MAX];

	if (call_for_unit(s, "GetUnit", unit, name) < 0)
		err_clear();
}

int systemd_update(const struct cgroup *cg)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_sdbus_ struct sdbus s = {0};
	const struct sd_held *held;
	_cleanup_fd_ int dir = cg_open(cg);
	int r = dir < 0 ? dir : sdbus_open(&s, cg->user_instance);

	if (r == 0)
		r = set_held(&s, &a, cg, dir, &held);
	if (r == 0) {
		wait_for_writes(&s, cg->scope);
		r = sd_put_back(&a, dir, held, cg->path);
	}
	return r < 0 ? err_ctx(r, "tell systemd the limits of %s", cg->scope) : 0;
}

/*
 * Asks the user's systemd to move the process, because the kernel does not let an ordinary user
 * move a process from the user's session into the cgroups of the user's systemd.
 */
int systemd_attach(const struct cgroup *cg, pid_t pid)
{
	_cleanup_sdbus_ struct sdbus s = {0};
	char name[SDBUS_NAME_MAX];
	sd_bus_message *m = NULL;
	const char *at = strstr(cg->path, cg->scope), *sub = at ? at + strlen(cg->scope) : "";
	int r = sdbus_open(&s, cg->user_instance);

	if (r == 0)
		r = sdbus_method(&s, "AttachProcessesToUnit", &m);
	if (r < 0)
		return r;
	r = s.sd_bus_message_append(m, "ssau", cg->scope, *sub ? sub : "/", 1, (uint32_t)pid);
	r = r < 0 ? err_set(-r, "systemd: AttachProcessesToUnit: %s", strerror(-r))
		  : sdbus_call(&s, m, NULL, name);
	s.sd_bus_message_unref(m);
	return r < 0 ? err_ctx(r, "move process %d to %s", pid, cg->scope) : 0;
}

/*
 * Kills the processes of the scope, through the cgroup if its path is known, else through systemd.
 * The unit is not just stopped, because systemd would send SIGTERM and wait as long as the unit's
 * timeout says, but a caller that destroys a container has waited already.
 */
static int kill_unit(struct sdbus *s, const struct cgroup *cg)
{
	char name[SDBUS_NAME_MAX];
	sd_bus_message *m = NULL;

	if (cg->path && cg_kill(cg, SIGKILL) == 0)
		return 0;
	int r = sdbus_method(s, "KillUnit", &m);
	if (r < 0)
		return r;
	r = s->sd_bus_message_append(m, "ssi", cg->scope, "all", SIGKILL);
	r = r < 0 ? err_set(-r, "systemd: KillUnit: %s", strerror(-r))
		  : sdbus_call(s, m, NULL, name);
	s->sd_bus_message_unref(m);
	/*
	 * ESRCH is no error, because systemd answers ESRCH if the unit has no processes, as a
	 * failed unit has none.
	 */
	return r < 0 && (streq(name, ERROR_NO_UNIT) || r == -ESRCH) ? 0 : r;
}

int systemd_stop(const struct cgroup *cg)
{
	_cleanup_sdbus_ struct sdbus s = {0};
	char name[SDBUS_NAME_MAX] = "", what[300];
	struct sdbus_job job;
	sd_bus_message *m = NULL;
	int r = sdbus_open(&s, cg->user_instance);

	snprintf(what, sizeof(what), "stop %s", cg->scope);
	if (r == 0)
		r = kill_unit(&s, cg);
	if (r == 0)
		r = sdbus_job_watch(&s, &job);
	if (r == 0)
		r = sdbus_method(&s, "StopUnit", &m);
	if (r < 0)
		return r;
	r = s.sd_bus_message_append(m, "ss", cg->scope, "replace");
	r = r < 0 ? err_set(-r, "systemd: StopUnit: %s", strerror(-r))
		  : sdbus_job_run(&job, m, what, name);
	s.sd_bus_message_unref(m);
	if (r < 0 && streq(name, ERROR_NO_UNIT)) {
		err_clear();
		return 0;
	}
	reset_failed(&s, cg->scope);
	return r;
}
