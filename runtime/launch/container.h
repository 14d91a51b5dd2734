/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's state directory, ROOT/ID/:
 *
 *	state.json   what has to be known to find and to undo everything (written before anything is
 *done) config.json  the configuration as it was at create: exec, start and delete read this one
 *	start.sock   where INIT waits for `start`
 *	start.lock   held (flock) by INIT from its creation until execve(2) closes it: this tells
 *	             "created" from "running" without anything that could go stale
 *	notify/      what the container has as /run/notify: see notify.h
 *
 * The directory itself is locked (flock) by every command that changes the container. Open one with
 * container_new() or container_open(), release it with container_close(). `state`, `list`, `kill`,
 * `ps`, `events` do not lock.
 */
#pragma once
#include <sys/types.h>

#include "cgroups/cgroup.h"
#include "spec/spec.h"

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
	int dir; /* its state directory, locked or not */
	bool locked;
	int root_dir; /* ROOT, to remove the directory from */

	/* What state.json holds. */
	const char *bundle;  /* absolute */
	const char *rootfs;  /* absolute */
	const char *created; /* RFC 3339 */
	const char *oci_version;
	const char *pid_file; /* absolute, or NULL */
	pid_t pid;            /* of INIT on the host; 0 until there is one */
	uint64_t start_time;  /* of that pid: field 22 of /proc/PID/stat */
	uint32_t owner;       /* user who made it */
	struct cgroup cgroup;
	/* What most commands need to know of config.json, so that they need not read it. */
	bool has_poststart, has_poststop, has_rdt;
	bool no_new_keyring; /* create was told --no-new-keyring */
	bool vm;             /* in a microVM: pid is its monitor's (monitor/monitor.h) */
	const struct json *annotations;
};

/* Whether we act for an ordinary user: not as root, or as root of that user's own user namespace.
 */
bool container_for_user(void);
bool container_in_userns(void);

/* Where the state directories are: --root, else /run/caisson, else $XDG_RUNTIME_DIR/caisson. In the
 * arena. */
int container_root(struct arena *a, const char *option, const char **ret) must_check;

/* -EINVAL unless id is [A-Za-z0-9_+.-]+, at most 1024 long, and does not start with "." or "-". */
int container_check_id(const char *id) must_check;

/* Makes the directory, locked. -EEXIST where the id is taken. Nothing else is written yet. */
int container_new(struct container *c, const char *root, const char *id) must_check;

/* Opens an existing one and reads state.json. lock: waits for other commands. -ENOENT: does not
 * exist. */
int container_open(struct container *c, const char *root, const char *id, bool lock) must_check;
void container_close(struct container *c);

/* Locks one that is open: waits for other commands. -ENOENT: deleted meanwhile, its ID may be
 * another's now. */
int container_lock(struct container *c) must_check;
#define _cleanup_container_ __attribute__((cleanup(container_close), unused))
#define CONTAINER_INIT \
	{ \
		.dir = -EBADF, .root_dir = -EBADF \
	}

int container_save(struct container *c) must_check;

/* The configuration that the container was created from; in the container's arena. */
int container_spec(struct container *c, const struct spec **ret) must_check;

int container_status(struct container *c, enum container_status *ret) must_check;

/* VM mode: pause and resume leave this mark, since the guest's freezer is not ours to look at. */
int container_mark_frozen(struct container *c, bool frozen) must_check;

/* A pidfd of INIT, checked to be this process and not a later one with its number. -ESRCH when it
 * is gone. */
int container_pidfd(const struct container *c) must_check;

/* Field 22 of /proc/PID/stat; -ESRCH where there is no such process or it is a zombie. */
int process_start_time(pid_t pid, uint64_t *ret) must_check;

/* The user name of who made it, "" where it has none (runc's `owner`). Valid until the next call.
 */
const char *container_owner(const struct container *c);

/* The JSON of the specification's "State", as `state` prints it. */
void container_put_state(
	const struct container *c, const char *status, pid_t pid, struct json_out *o);

/* The same in one line, as hooks get it on standard input. */
int container_state_json(
	const struct container *c, const char *status, pid_t pid, struct strbuf *ret) must_check;

/* Removes the directory with all in it. The last act of delete. */
int container_remove(struct container *c) must_check;

/* Calls f for every id under root, in order of name; stops at the first negative result. */
int container_each(const char *root, int (*f)(void *data, const char *id), void *data) must_check;
