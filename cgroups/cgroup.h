/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2 for one container.
 *
 * Order of calls: cg_resolve() (once, when a container is made: decides the path, touches nothing),
 * the caller records the path in its state, cg_create() (makes the directories, enables
 * controllers), cg_apply() (limits), then the process enters: cloned straight in with
 * CLONE_INTO_CGROUP on cg_open()'s descriptor, or cg_attach() for a process that exists. Later
 * commands start from the recorded path with cg_from_state().
 *
 * The cgroup2 mount is found where it is (/sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid
 * host). A limit whose controller v2 does not hold there is an error naming the controller and who
 * holds it.
 *
 * All functions return >= 0 or -errno with the message set (err.h). One thread.
 */
#pragma once
#include <sys/types.h>

#include "base/arena.h"
#include "base/json.h"
#include "cgroups/resources.h"

enum cg_manager { CG_CGROUPFS, CG_SYSTEMD, CG_DISABLED };

struct cg_options {
	enum cg_manager manager;
	const char *id;           /* the container's */
	const char *cgroups_path; /* linux.cgroupsPath or NULL; for systemd "slice:prefix:name" */
	/* No error where an ordinary user may not make cgroups and asked for no limit. */
	bool rootless;
	bool lenient; /* a limit without its controller is a warning instead of an error */
	/* org.systemd.property.NAME annotations, name and value in GVariant text; systemd only */
	const struct cg_unified *systemd_properties;
	size_t nsystemd_properties;
};

struct cgroup {
	enum cg_manager manager;
	const char *mount; /* where cgroup2 is mounted; NULL when disabled */
	/* Beneath mount, starts with "/"; NULL when there is no cgroup (disabled, rootless). */
	const char *path;
	/* How many bytes of path were there before: parents beyond it go with the cgroup, once
	 * empty. */
	size_t kept;
	const char *scope;  /* systemd unit name or NULL */
	const char *slice;  /* systemd slice or NULL */
	bool user_instance; /* the systemd of the user, not of the system */
	bool lenient;
	bool unit_current; /* the scope was just started with the limits; not part of the state */
	/* Rootless: why there is no cgroup; cg_create() says so if limits want one. */
	const char *refused;
};

/*
 * Strings go to the arena. Touches nothing.
 *
 * cgroupfs: an absolute linux.cgroupsPath is beneath the mount. A relative one, and the default
 * "caisson-ID", are beneath the mount's root, for a rootless caller beside its own cgroup. systemd:
 * "slice:prefix:name" is prefix-name.scope in slice; the default is caisson-ID.scope in
 * system.slice (user.slice in the user's instance).
 */
int cg_resolve(struct arena *a, const struct cg_options *opt, struct cgroup *ret) must_check;

/*
 * cgroupfs: makes the missing directories (delegating controllers down the path) and leaves an
 * empty leaf; a leaf that exists and holds processes or is frozen is -EBUSY. systemd: nothing yet,
 * the scope needs its first process. Without a cgroup (disabled; rootless and refused): -EACCES
 * where res asks for limits, else 0. On failure nothing that it made is left.
 */
int cg_create(const struct cgroup *cg, const struct cg_resources *res) must_check;

/*
 * Whether a process is to be cloned into the cgroup, or attached afterwards: a systemd scope's
 * first process, any process for the user's systemd, and where there is no cgroup (then cg_attach()
 * does nothing).
 */
bool cg_clone_into(const struct cgroup *cg);

/* A descriptor of the cgroup's directory, close-on-exec. */
int cg_open(const struct cgroup *cg) must_check;

/*
 * Moves pid in. systemd, the first time (no path yet): starts the transient scope with it, waits
 * for the job, then sets cg->path, for the state to record; needs opt and res, which may be NULL
 * otherwise.
 */
int cg_attach(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;

/*
 * Writes every limit and loads the device program. Also what `update` calls: only what is set
 * changes. Without device rules the devices are left as they are. An error names the property, the
 * file, the value and the kernel's answer; with `lenient` a missing controller is a warning.
 */
int cg_apply(const struct cgroup *cg, const struct cg_resources *res) must_check;

/* Whether any of it needs a controller; devices need none. */
bool cg_wants_limits(const struct cg_resources *res);

/*
 * Gives the cgroup, and the files of it that the kernel lists as delegatable, to the user (host's
 * uid) that the container's process runs as. The specification's conditions (a new cgroup
 * namespace, /sys/fs/cgroup mounted read-write) are the caller's to check.
 */
int cg_delegate(const struct cgroup *cg, uid_t uid) must_check;

int cg_freeze(const struct cgroup *cg, bool frozen)
	must_check;                                   /* returns once cgroup.events says so */
int cg_is_frozen(const struct cgroup *cg) must_check; /* 0 or 1 */

/* Signals every process; SIGKILL uses cgroup.kill. Returns 0, also where there was none. */
int cg_kill(const struct cgroup *cg, int sig) must_check;

/* Process ids in it and beneath it, in the caller's pid namespace; in the arena. */
int cg_pids(struct arena *a, const struct cgroup *cg, pid_t **ret, size_t *ret_n) must_check;

/*
 * Kills what is left and removes the cgroup and all beneath it (and stops the scope). 0 where it is
 * gone already.
 */
int cg_destroy(const struct cgroup *cg) must_check;

/*
 * For a sub-cgroup named by `exec --cgroup`: a copy of cg one level down (or more); it must exist.
 */
int cg_child(struct arena *a, const struct cgroup *cg, const char *sub, struct cgroup *ret)
	must_check;

/*
 * A copy of cg at the cgroup where pid is, which must be cg or beneath it. For `exec`: a container
 * that manages its own cgroups (systemd in it) has moved its processes down, and cg itself then
 * takes none (-EBUSY).
 */
int cg_at_process(struct arena *a, const struct cgroup *cg, pid_t pid, struct cgroup *ret)
	must_check;

/* state.json: write into the open object; read back. */
void cg_to_state(const struct cgroup *cg, struct json_out *o);
int cg_from_state(struct arena *a, const struct json *state, struct cgroup *ret) must_check;

/*
 * Writes the members of runc's `events --stats` "data" object (cpu memory pids blkio hugetlb
 * intel_rdt network_interfaces are runc's names) into the open object, plus the raw v2 numbers in
 * "cgroup2"; "psi" is in cpu, memory and blkio, where runc has it.
 */
int cg_stats(const struct cgroup *cg, struct json_out *o) must_check;

/*
 * Waits for changes of memory.events and cgroup.events: returns an inotify-like descriptor that
 * polls readable; cg_events_read() then tells what happened since.
 */
struct cg_events {
	int fd;
	uint64_t oom, oom_kill; /* memory.events' counters as last read */
	bool populated;
};
int cg_events_open(const struct cgroup *cg, struct cg_events *ev) must_check;
/* CG_EVENT_* bits. */
#define CG_EVENT_OOM 1   /* the OOM killer killed */
#define CG_EVENT_EMPTY 2 /* the last process is gone, or the cgroup is */
int cg_events_read(const struct cgroup *cg, struct cg_events *ev) must_check;
void cg_events_close(struct cg_events *ev);

/*
 * What this host offers, for people: touches nothing. -ENOENT with the message: no cgroup v2.
 */
struct cg_survey {
	const char *mount;
	const char *controllers; /* of the mount's root, as the kernel lists them; "" is none */
	const char *missing;     /* "memory (on cgroup v1 at PATH), ..."; "" is none */
	bool on_v1;              /* some are held by cgroup v1 */
};
int cg_survey(struct arena *a, struct cg_survey *ret) must_check;
