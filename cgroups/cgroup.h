/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2 for one container.
 *
 * Order of calls when a container is made: cg_resolve() decides the path and touches nothing; the
 * caller records the path in its state; cg_create() makes the directories and enables controllers;
 * cg_apply() sets limits. Then the process enters: it is cloned into the cgroup with
 * CLONE_INTO_CGROUP and cg_open()'s descriptor, or cg_attach() moves a process that exists. Later
 * commands start from the recorded path with cg_from_state().
 *
 * cgroup2 is used where it is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host.
 * A limit whose controller v2 does not hold is an error, which names the controller and says what
 * holds it.
 *
 * All functions return >= 0, or -errno with the message set (err.h). One thread at a time may use a
 * struct.
 */
#pragma once
#include <sys/types.h>

#include "base/arena.h"
#include "base/json.h"
#include "cgroups/resources.h"

enum cg_manager { CG_CGROUPFS, CG_SYSTEMD, CG_DISABLED };

struct cg_options {
	enum cg_manager manager;
	const char *id;           /* the container's id */
	const char *cgroups_path; /* linux.cgroupsPath or NULL; for systemd "slice:prefix:name" */
	/* It is no error if an ordinary user may not make cgroups, unless limits are asked for. */
	bool rootless;
	bool lenient; /* a limit without its controller is a warning instead of an error */
	/*
	 * The org.systemd.property.NAME annotations, name and value in GVariant text; for systemd
	 * only.
	 */
	const struct cg_unified *systemd_properties;
	size_t nsystemd_properties;
};

struct cgroup {
	enum cg_manager manager;
	const char *mount; /* where cgroup2 is mounted; NULL when disabled */
	/*
	 * The path beneath mount, which starts with "/"; NULL: there is no cgroup (disabled,
	 * rootless).
	 */
	const char *path;
	/*
	 * The part of path, in bytes, that existed before. Parents beyond it are removed with the
	 * cgroup once they are empty, and so are those that caisson made for another container.
	 */
	size_t kept;
	const char *scope;  /* systemd unit name or NULL */
	const char *slice;  /* systemd slice or NULL */
	bool user_instance; /* the systemd instance of the user, not the system's */
	bool lenient;
	bool unit_current; /* the scope was just started with these limits; not part of the state */
	/* Why a rootless container has no cgroup; cg_create() says so if limits need one. */
	const char *refused;
};

/*
 * Decides which cgroup a container gets. It changes nothing on the host; strings go to the arena.
 *
 * cgroupfs: an absolute linux.cgroupsPath is beneath the mount. A relative one, and the default
 * "caisson-ID", are beneath the mount's root, or beside the caller's own cgroup if the caller is
 * rootless. systemd: "slice:prefix:name" is prefix-name.scope in slice; the default is
 * caisson-ID.scope in system.slice (user.slice for the user's systemd).
 */
int cg_resolve(struct arena *a, const struct cg_options *opt, struct cgroup *ret) must_check;

/*
 * cgroupfs: makes the missing directories, enables controllers down the path, and leaves an empty
 * cgroup. -EBUSY: the cgroup exists and holds processes or is frozen. systemd: does nothing,
 * because a scope needs its first process. Without a cgroup (disabled, or rootless and refused):
 * -EACCES if res asks for limits, else 0. After a failure nothing that it made is left.
 */
int cg_create(const struct cgroup *cg, const struct cg_resources *res) must_check;

/*
 * Returns whether a process is to be cloned into the cgroup. If not, it is attached afterwards: the
 * first process of a systemd scope, and any process in a scope of the user's systemd. Without a
 * cgroup cg_attach() does nothing.
 */
bool cg_clone_into(const struct cgroup *cg);

/* Returns a descriptor of the cgroup's directory, close-on-exec. */
int cg_open(const struct cgroup *cg) must_check;

/*
 * Moves pid into the cgroup. The first time with systemd (no path yet) it starts the transient
 * scope around pid, waits for the job, and sets cg->path, which the caller records in its state.
 * Only that call needs opt and res; others may pass NULL.
 */
int cg_attach(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;

/*
 * Writes the limits that res sets and loads the device program; `update` calls it too. Without
 * device rules the devices stay as they are. An error names the property, the file, the value and
 * the kernel's answer. With `lenient` a missing controller is a warning.
 */
int cg_apply(const struct cgroup *cg, const struct cg_resources *res) must_check;

/* Returns whether res has a limit that needs a controller. Devices need none. */
bool cg_wants_limits(const struct cg_resources *res);

/*
 * Gives the cgroup, and those of its files that the kernel lists as delegatable, to the user that
 * the container's process runs as (the uid on the host). The caller checks the specification's
 * conditions: a new cgroup namespace, and /sys/fs/cgroup mounted read-write.
 */
int cg_delegate(const struct cgroup *cg, uid_t uid) must_check;

int cg_freeze(const struct cgroup *cg, bool frozen)
	must_check;                                   /* returns when cgroup.events says so */
int cg_is_frozen(const struct cgroup *cg) must_check; /* 0 or 1 */

/* Signals every process; SIGKILL uses cgroup.kill. Returns 0 also if there was no process. */
int cg_kill(const struct cgroup *cg, int sig) must_check;

/*
 * Lists the processes of the cgroup and of those beneath it, by their ids in the caller's pid
 * namespace; in the arena.
 */
int cg_pids(struct arena *a, const struct cgroup *cg, pid_t **ret, size_t *ret_n) must_check;

/*
 * Kills all processes, removes the cgroup and all beneath it, and stops the scope. Returns 0 if the
 * cgroup is gone already.
 */
int cg_destroy(const struct cgroup *cg) must_check;

/*
 * Makes a copy of cg for a cgroup beneath it, which `exec --cgroup` names. That cgroup must exist.
 */
int cg_child(struct arena *a, const struct cgroup *cg, const char *sub, struct cgroup *ret)
	must_check;

/*
 * Returns whether a process can be put into the cgroup itself: cgroup v2 refuses that (-EBUSY) if
 * the cgroup hands controllers out to cgroups beneath it.
 */
bool cg_takes_processes(const struct cgroup *cg);

/*
 * Makes a copy of cg for the cgroup that pid is in, which must be cg or beneath it. `exec` needs it
 * for a container that manages its own cgroups, as systemd does: such a container has moved its
 * processes down, and cg itself accepts none then (-EBUSY).
 */
int cg_at_process(struct arena *a, const struct cgroup *cg, pid_t pid, struct cgroup *ret)
	must_check;

/*
 * Returns whether the kernel has killed a process of the cgroup because its memory limit was
 * reached.
 */
bool cg_ran_out_of_memory(const struct cgroup *cg);

/* Writes a cgroup into the open object of state.json, and reads it back. */
void cg_to_state(const struct cgroup *cg, struct json_out *o);
int cg_from_state(struct arena *a, const struct json *state, struct cgroup *ret) must_check;

/*
 * Writes the members of runc's `events --stats` "data" object into the open object, by runc's
 * names: cpu, memory, pids, blkio, hugetlb, intel_rdt and network_interfaces. "psi" is in cpu,
 * memory and blkio, as in runc's. "cgroup2" has the raw numbers of v2.
 */
int cg_stats(const struct cgroup *cg, struct json_out *o) must_check;

/*
 * Reports changes of memory.events and cgroup.events. cg_events_open() makes a descriptor that
 * polls readable after a change; cg_events_read() then tells what has happened since the last call.
 */
struct cg_events {
	int fd;
	uint64_t oom, oom_kill; /* memory.events' counters as last read */
	bool populated;
};
int cg_events_open(const struct cgroup *cg, struct cg_events *ev) must_check;
/* CG_EVENT_* bits. */
#define CG_EVENT_OOM 1   /* the OOM killer has killed a process */
#define CG_EVENT_EMPTY 2 /* the last process is gone, or the cgroup is */
int cg_events_read(const struct cgroup *cg, struct cg_events *ev) must_check;
void cg_events_close(struct cg_events *ev);

/*
 * Describes what cgroups this host offers, for people, and changes nothing. -ENOENT with a message:
 * the host has no cgroup v2.
 */
struct cg_survey {
	const char *mount;
	const char *controllers; /* of the mount's root, as the kernel lists them; "": none */
	const char *missing;     /* "memory (on cgroup v1 at PATH), io (not offered)"; "": none */
	bool on_v1;              /* cgroup v1 holds some of the missing ones */
};
int cg_survey(struct arena *a, struct cg_survey *ret) must_check;
