/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2 for one container.
 *
 * Order of calls when a container is made: cg_resolve() decides the path and touches nothing; the
 * caller records the path in its state; cg_create() makes the directories and enables controllers;
 * cg_apply() sets limits. Then the process enters the cgroup: the caller clones the process into it
 * with CLONE_INTO_CGROUP and cg_open()'s descriptor, or cg_attach() moves a process that exists.
 * Later commands start from the recorded path with cg_from_state().
 *
 * cgroup2 is used where it is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host.
 * A limit whose controller v2 does not hold is an error, which names the controller and says what
 * holds it.
 *
 * All functions return >= 0, or -errno with the message set (err.h). Only one thread at a time may
 * use a struct cgroup.
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
	const char *cgroups_path; /* linux.cgroupsPath, for systemd "slice:prefix:name"; or NULL */
	/*
	 * The caller is an ordinary user. If an ordinary user may not make cgroups, the container
	 * gets none, which is an error only if limits are asked for.
	 */
	bool rootless;
	/* whether a limit whose controller is missing causes a warning instead of an error */
	bool lenient;
	/*
	 * The annotations org.systemd.property.NAME: a name and a value in GVariant text for each.
	 * Only the systemd manager uses these annotations.
	 */
	const struct cg_unified *systemd_properties;
	size_t nsystemd_properties;
};

struct cgroup {
	enum cg_manager manager;
	const char *mount; /* where cgroup2 is mounted; NULL if cgroups are disabled */
	/*
	 * The path of the cgroup beneath `mount`, with a leading "/". NULL: the container has no
	 * cgroup, because cgroups are disabled or an ordinary user may not make one.
	 */
	const char *path;
	/*
	 * The length in bytes of that part of `path` that existed before the container. The parents
	 * beyond this length are removed with the cgroup once they are empty. So are parents that
	 * caisson made for another container.
	 */
	size_t kept;
	const char *scope; /* name of the systemd scope, or NULL */
	const char *slice; /* name of the systemd slice, or NULL */
	/* the scope belongs to the systemd instance of the user, not to that of the system */
	bool user_instance;
	bool lenient;
	/*
	 * whether the scope was started just now with the limits of the container, so that systemd
	 * knows them; not stored in the state
	 */
	bool unit_current;
	/*
	 * The reason why a rootless container has no cgroup. cg_create() puts this reason into its
	 * error message if limits need a cgroup.
	 */
	const char *refused;
};

/*
 * Decides which cgroup a container gets. Changes nothing on the host; strings go to the arena.
 *
 * cgroupfs: an absolute linux.cgroupsPath is beneath the mount. A relative path, and the default
 * "caisson-ID", are beneath the mount's root, or beside the caller's own cgroup if the caller is
 * rootless. systemd: "slice:prefix:name" is prefix-name.scope in slice; the default is
 * caisson-ID.scope in system.slice (user.slice for the user's systemd).
 */
int cg_resolve(struct arena *a, const struct cg_options *opt, struct cgroup *ret) must_check;

/*
 * Makes the container's cgroup. With cgroupfs it makes the missing directories and enables
 * controllers down the path; the cgroup is empty then. Returns -EBUSY if the cgroup exists and
 * holds processes or is frozen. With systemd it does nothing, because a scope needs its first
 * process. If the container has no cgroup (disabled, or rootless and refused), it returns -EACCES
 * if res asks for limits, else 0. After a failure it has removed what it made.
 */
int cg_create(const struct cgroup *cg, const struct cg_resources *res) must_check;

/*
 * Returns whether a process is to be cloned into the cgroup with CLONE_INTO_CGROUP. If not,
 * cg_attach() moves the process into the cgroup afterwards. cg_attach() moves the first process of
 * a systemd scope and every process in a scope of the user's systemd. If the container has no
 * cgroup, cg_attach() does nothing.
 */
bool cg_clone_into(const struct cgroup *cg);

/* Returns a descriptor of the cgroup's directory, close-on-exec. */
int cg_open(const struct cgroup *cg) must_check;

/*
 * Moves pid into the cgroup. With systemd the first call (cg->path is NULL) starts the transient
 * scope around pid, waits for the job and sets cg->path, which the caller records in its state.
 * Only the first call needs opt and res; later calls may pass NULL.
 */
int cg_attach(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;

/*
 * Writes the limits that res sets and loads the device program; `update` calls this function too.
 * Without device rules the devices stay as they are. An error message names the property, the file,
 * the value and the kernel's answer. With `lenient` a missing controller is a warning.
 */
int cg_apply(const struct cgroup *cg, const struct cg_resources *res) must_check;

/* What files of a cgroup contained before cg_change() wrote to them; {0} is none. */
struct cg_undo {
	struct cg_old {
		char *file, *text;
	} * v;
	size_t n;
};

void cg_undo_release(struct cg_undo *u);
#define _cleanup_cg_undo_ __attribute__((cleanup(cg_undo_release), unused))

/*
 * Writes limits as cg_apply() does, but if it fails, all files contain again what they contained
 * before. If it succeeds, cg_undo() can take the limits back later. The device program is the last
 * thing that changes, and is not taken back.
 */
int cg_change(const struct cgroup *cg, const struct cg_resources *res, struct cg_undo *ret)
	must_check;
/*
 * Takes the limits of cg_change() back because of the failure `error`, which it returns with the
 * message that is set. A file that cannot be restored is only a warning.
 */
int cg_undo(const struct cgroup *cg, struct cg_undo *u, int error) must_check;
/* Takes the limits of cg_change() back. After an error all other files are restored. */
int cg_restore(const struct cgroup *cg, struct cg_undo *u) must_check;

/*
 * Loads the device program for res and attaches it to the cgroup of the descriptor `dir`, which is
 * from cg_open(). cg_apply() does the same, among other things.
 */
int cg_allow_devices(const struct cgroup *cg, int dir, const struct cg_resources *res) must_check;

/* Returns whether res has a limit that needs a controller. Device rules need no controller. */
bool cg_wants_limits(const struct cg_resources *res);

/*
 * Gives the cgroup, and those of its files that the kernel lists as delegatable, to the user that
 * the container's process runs as (the uid on the host). The caller checks the specification's
 * conditions: a new cgroup namespace, and /sys/fs/cgroup mounted read-write.
 */
int cg_delegate(const struct cgroup *cg, uid_t uid) must_check;

int cg_freeze(const struct cgroup *cg, bool frozen)
	/* cg_freeze() returns once cgroup.events reports that the cgroup is frozen or thawed */
	must_check;
/* Returns 1 if the cgroup is frozen, else 0. */
int cg_is_frozen(const struct cgroup *cg) must_check;

/*
 * Sends the signal to every process of the cgroup; SIGKILL goes through cgroup.kill. Returns 0 even
 * if the cgroup has no process.
 */
int cg_kill(const struct cgroup *cg, int sig) must_check;

/*
 * Lists the processes of the cgroup and of the cgroups beneath it, by their ids in the caller's pid
 * namespace. *ret is an array in the arena.
 */
int cg_pids(struct arena *a, const struct cgroup *cg, pid_t **ret, size_t *ret_n) must_check;

/*
 * Kills all processes, removes the cgroup and all cgroups beneath it, and stops the scope. Returns
 * 0 if the cgroup is gone already.
 */
int cg_destroy(const struct cgroup *cg) must_check;

/*
 * Makes a copy of cg for the cgroup `sub` beneath it, which `exec --cgroup` names. The cgroup `sub`
 * must exist already.
 */
int cg_child(struct arena *a, const struct cgroup *cg, const char *sub, struct cgroup *ret)
	must_check;

/*
 * Returns whether the kernel says that the cgroup of the descriptor `dir`, which is from cg_open(),
 * is frozen. If the kernel does not say, this is false, and there is no message.
 */
bool cg_dir_is_frozen(int dir);

/*
 * Makes a copy of cg for the cgroup of the process pid, which must be cg or a cgroup beneath cg.
 */
int cg_at_process(struct arena *a, const struct cgroup *cg, pid_t pid, struct cgroup *ret)
	must_check;

/*
 * Opens the cgroup for a process that joins the container whose INIT (the container's first
 * process) is pid, and describes the cgroup in *cg, which is the container's cgroup at first. The
 * new process goes into the container's cgroup, as with runc and crun, even if INIT has moved to
 * another cgroup. If a systemd in the container has moved all processes into cgroups beneath the
 * container's cgroup, the kernel lets no process into the container's cgroup. Then the new process
 * goes into INIT's cgroup. If INIT's cgroup cannot be read, the container's cgroup is tried all the
 * same.
 */
int cg_open_for_exec(struct arena *a, struct cgroup *cg, pid_t pid) must_check;

/*
 * Returns whether the kernel has killed a process of the cgroup because the cgroup's memory limit
 * was reached.
 */
bool cg_ran_out_of_memory(const struct cgroup *cg);

/*
 * cg_to_state() writes the cgroup as members of the open object of state.json; cg_from_state()
 * reads them.
 */
void cg_to_state(const struct cgroup *cg, struct json_out *o);
int cg_from_state(struct arena *a, const struct json *state, struct cgroup *ret) must_check;

/*
 * Writes the members of the "data" object of runc's `events --stats` into the open object, under
 * runc's names: cpu, memory, pids, blkio, hugetlb, intel_rdt and network_interfaces. As with runc,
 * "psi" is inside cpu, memory and blkio. "cgroup2" has the raw numbers of cgroup v2.
 */
int cg_stats(const struct cgroup *cg, struct json_out *o) must_check;

/*
 * Watches memory.events and cgroup.events of a cgroup. cg_events_open() makes a descriptor that
 * polls readable after a change; cg_events_read() then returns what has happened since its last
 * call.
 */
struct cg_events {
	int fd;
	/* the counters oom and oom_kill of memory.events as they were last read */
	uint64_t oom, oom_kill;
	bool populated;
};
int cg_events_open(const struct cgroup *cg, struct cg_events *ev) must_check;
/* The events that cg_events_read() returns, as bits. */
#define CG_EVENT_OOM 1   /* the OOM killer has killed a process */
#define CG_EVENT_EMPTY 2 /* the last process has ended, or the cgroup has been removed */
int cg_events_read(const struct cgroup *cg, struct cg_events *ev) must_check;
void cg_events_close(struct cg_events *ev);

/*
 * Describes, as text for people, what cgroups this host offers. cg_survey() fills this struct and
 * changes nothing on the host. It returns -ENOENT with a message if the host has no cgroup v2.
 */
struct cg_survey {
	const char *mount;
	/* controllers of the root cgroup, as the kernel lists them; "": the root cgroup has none */
	const char *controllers;
	/*
	 * controllers that are missing, such as "memory (on cgroup v1 at PATH), io (not offered)";
	 * "": none is missing
	 */
	const char *missing;
	bool on_v1; /* a cgroup v1 mount holds some of the missing controllers */
};
int cg_survey(struct arena *a, struct cg_survey *ret) must_check;
