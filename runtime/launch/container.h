/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's state directory, ROOT/ID/:
 *
 *	state.json   what has to be known to find and to undo everything; written before
 *	             anything is done
 *	config.json  the configuration as it was at create; exec, start and delete read this one
 *	start.fifo   where INIT waits for `start`
 *	result.fifo  where `start` learns how it went: its end means that the program runs; a
 *	             process of the container may hold that end back: see watch.c
 *	started      made by `start` and `run` before they say that the program runs
 *	start.sock   VM mode: where the monitor waits for `start`
 *	start.lock   VM mode: locked (flock) by the monitor until the program runs
 *	notify/      what the container has as /run/notify: see notify.h
 *	vm.sock      VM mode: where the monitor listens: see monitor/control.h
 *
 * A container whose process lives is "created" as long as that process has not executed the
 * program: its /proc/PID/exe is the file that caisson made for this start (init/image.h), whose
 * inode is in state.json. Once "started" is there, nobody looks at that any more, because the
 * program may be one that the runtime's user may not look into.
 *
 * Every command that changes the container locks the directory itself (flock). container_new() and
 * container_open() open one, container_close() releases it. `state`, `list`, `kill`, `ps` and
 * `events` do not lock.
 */
#pragma once
#include <sys/types.h>

#include "cgroups/cgroup.h"
#include "spec/spec.h"

/* Names of files in the state directory. */
#define CONTAINER_FROZEN "frozen"
#define CONTAINER_STARTED "started"

enum container_status {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_STOPPED,
};

const char *container_status_name(enum container_status s); /* as the specification spells them */

struct container {
	struct arena arena;
	const char *id;
	int dir; /* the state directory, locked or not */
	bool locked;
	int root_dir; /* ROOT; the state directory is removed from it */

	/* These members are what state.json holds. */
	const char *bundle;  /* absolute */
	const char *rootfs;  /* absolute */
	const char *created; /* RFC 3339 */
	const char *oci_version;
	const char *pid_file;        /* absolute, or NULL */
	pid_t pid;                   /* of INIT in the host's pid namespace; 0 until INIT exists */
	uint64_t start_time;         /* of that pid: field 22 of /proc/PID/stat */
	uint32_t owner;              /* the user who made the container */
	uint64_t init_dev, init_ino; /* of the file that INIT is executed from; VM mode: 0 */
	struct cgroup cgroup;
	/*
	 * These tell what most commands need to know of config.json, so that they need not read it.
	 */
	bool has_poststart, has_poststop, has_rdt;
	bool no_new_keyring; /* create was told --no-new-keyring */
	bool vm;             /* a microVM: pid is the pid of its monitor (monitor/monitor.h) */
	const struct json *annotations;
};

/*
 * Says whether caisson acts for an ordinary user: either not as root, or as root of that user's own
 * user namespace.
 */
bool container_for_user(void);
bool container_in_userns(void);

/*
 * Finds the directory of all state directories: --root if given, else /run/caisson for root and
 * $XDG_RUNTIME_DIR/caisson for an ordinary user. *ret is in the arena.
 */
int container_root(struct arena *a, const char *option, const char **ret) must_check;

/*
 * Opens that directory, and makes it if it is missing and `create` is set. Refuses a directory that
 * another user could change. Returns -ENOENT, without a message, if it is missing and not made.
 */
int container_open_root(const char *root, bool create) must_check;

/*
 * Returns -EINVAL unless id consists of A-Z, a-z, 0-9 and _+.-, is at most 255 long, and does not
 * start with "." or "-".
 */
int container_check_id(const char *id) must_check;

/*
 * Makes the state directory and locks it; it is still empty then. Returns -EEXIST if the ID is
 * taken.
 */
int container_new(struct container *c, const char *root, const char *id) must_check;

/*
 * Opens an existing container and reads state.json. With lock, waits until no other command holds
 * the lock. Returns -ENOENT if there is no such container.
 */
int container_open(struct container *c, const char *root, const char *id, bool lock) must_check;
void container_close(struct container *c);

/*
 * Locks a container that is open already; waits until no other command holds the lock. Returns
 * -ENOENT if the container was deleted meanwhile, and then its ID may belong to another container.
 */
int container_lock(struct container *c) must_check;

/*
 * Locks a container that is open already, for a command that is to end it whatever else happens
 * with it, and reads state.json again. The command that is making the container is told to end and
 * undo (SIGTERM), and is killed if it does not. Another command that holds the lock gets some time
 * first. Returns -ENOENT if the container is gone then.
 */
int container_seize(struct container *c) must_check;

/* Ends the command that is making the container, as container_seize() does. Does not lock. */
int container_end_maker(struct container *c) must_check;
#define _cleanup_container_ __attribute__((cleanup(container_close), unused))
#define CONTAINER_INIT \
	{ \
		.dir = -EBADF, .root_dir = -EBADF \
	}

int container_save(struct container *c) must_check;

/* Reads state.json; container_open() calls it. Without that file bundle stays NULL. */
int container_read_state(struct container *c) must_check;

/* Parses the configuration that the container was created from, into the container's arena. */
int container_spec(struct container *c, const struct spec **ret) must_check;

int container_status(struct container *c, enum container_status *ret) must_check;

/* Marks the container as started. */
int container_mark_started(struct container *c) must_check;

/*
 * VM mode: pause and resume leave this mark in the state directory, because the runtime cannot see
 * the freezer of the guest.
 */
int container_mark_frozen(struct container *c, bool frozen) must_check;

/*
 * Returns a pidfd of INIT, checked to be of this process and not of a later one with the same pid.
 * Returns -ESRCH if INIT is gone.
 */
int container_pidfd(const struct container *c) must_check;

/*
 * Reads field 22 of /proc/PID/stat. Returns -ESRCH if there is no such process or it is a zombie.
 */
int process_start_time(pid_t pid, uint64_t *ret) must_check;

/* Writes the JSON of the specification's "State", as `state` prints it. */
void container_put_state(
	const struct container *c, const char *status, pid_t pid, struct json_out *o);

/* Writes the same JSON in one line, as hooks get it on standard input. */
int container_state_json(
	const struct container *c, const char *status, pid_t pid, struct strbuf *ret) must_check;

/* Removes the directory with all in it. This is the last act of delete. */
int container_remove(struct container *c) must_check;

/* Calls f for every ID under root, in order of name; stops at the first negative result. */
int container_each(const char *root, int (*f)(void *data, const char *id), void *data) must_check;
