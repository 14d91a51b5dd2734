/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's state directory, ROOT/ID/:
 *
 *	state.json   what has to be known to find and to undo everything; written before
 *	             anything is done
 *	config.json  the configuration as it was at create; exec, start and delete read this one
 *	start.fifo   from which the container's first process reads that `start` was called
 *	result.fifo  from which `start` reads the first process's error; its end of file means that
 *	             the program runs; a process of the container may keep it open, so watch.c looks
 *	             at the first process too
 *	started      made by `start` and `run` before they say that the program runs
 *	start.sock   VM mode: socket on which the microVM's monitor waits for `start`
 *	start.lock   VM mode: locked (flock) by the monitor until the program runs
 *	notify/      directory of the container's NOTIFY_SOCKET, mounted on /run/notify (notify.h)
 *	hosts, resolv.conf   of a container that joins networks, mounted in its /etc (join.h)
 *	disk-error   VM mode: why the machine is paused after an error of its disk on the host, as
 *	             the monitor has written it; empty: the machine is not paused for that
 *	attached.json   what was attached while the container ran (live_list.h)
 *	vm.sock      VM mode: socket on which the monitor takes requests of other commands
 *
 * A container whose process lives is "created" as long as that process has not executed the
 * program: its /proc/PID/exe is the file that caisson made for this start (init/image.h), whose
 * inode is in state.json. Once the file "started" exists, commands no longer look at /proc/PID/exe,
 * because the program may be one that the runtime's user may not look into.
 *
 * Every command that changes the container locks the state directory itself (flock).
 * container_new() and container_open() open a container, and container_close() releases it.
 * `state`, `list`, `kill`, `ps` and `events` do not lock.
 */
#pragma once
#include <sys/types.h>

#include "cgroups/cgroup.h"
#include "spec/spec.h"

/* Names of files and directories in a container's state directory. */
#define CONTAINER_FROZEN "frozen"
#define CONTAINER_DISK_ERROR "disk-error"
#define CONTAINER_HOSTS "hosts"
#define CONTAINER_ATTACHED "attached.json"
#define CONTAINER_RESOLV_CONF "resolv.conf"
#define CONTAINER_STARTED "started"

enum container_status {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_STOPPED,
};

/* Returns the status as the OCI specification spells it, such as "running". */
const char *container_status_name(enum container_status s);

struct container {
	struct arena arena;
	const char *id;
	/*
	 * why the machine is paused after an error of its disk, set by container_status(); NULL: it
	 * is not
	 */
	const char *disk_error;
	/* what was attached while the container ran, if live_list_describe() was called, or NULL */
	const char *attached;
	/* text of `state` on whether the agent in a machine answers, or NULL */
	const char *agent;
	int dir; /* descriptor of the state directory, whether it is locked or not */
	bool locked;
	int root_dir; /* descriptor of ROOT, the directory that contains all state directories */
	/*
	 * name of the file that container_prepare_save() wrote for container_save() to rename, or
	 * NULL
	 */
	const char *prepared;
	/* the configuration, if container_spec() has parsed it, else NULL */
	const struct spec *spec;

	/* The members from here to `vm` are stored in state.json. */
	const char *bundle;  /* absolute path of the bundle */
	const char *rootfs;  /* absolute path of the root file system */
	const char *created; /* time of the container's creation (RFC 3339) */
	const char *oci_version;
	const char *pid_file; /* --pid-file as an absolute path; NULL: it was not given */
	/*
	 * pid in the host's pid namespace of INIT, the container's first process; 0 until INIT
	 * exists
	 */
	pid_t pid;
	/* the start time of the process `pid`: field 22 of /proc/PID/stat */
	uint64_t start_time;
	uint32_t owner; /* uid of the user who made the container */
	/*
	 * device and inode number of the file from which caisson-init, the container's first
	 * program, is executed; VM mode: 0
	 */
	uint64_t init_dev, init_ino;
	struct cgroup cgroup;
	/*
	 * Facts from config.json, which are stored in state.json too, so that most commands need
	 * not parse config.json.
	 */
	bool has_poststart, has_poststop, has_rdt;
	bool has_networks; /* the container joins networks of the host (--network) */
	/* the bundle's directory was made for this container alone, and is removed with it */
	bool remove_bundle;
	bool no_new_keyring; /* `create` was called with --no-new-keyring */
	/*
	 * the container is a microVM, and the member `pid` is the pid of the microVM's monitor
	 * (monitor/monitor.h)
	 */
	bool vm;
	const struct json *annotations;
};

/*
 * Says whether caisson acts for an ordinary user: it either does not run as root, or runs as root
 * of that user's own user namespace.
 */
bool container_for_user(void);
bool container_in_userns(void);

/*
 * Finds the path of ROOT, the directory of all state directories: --root if given, else
 * /run/caisson for root and $XDG_RUNTIME_DIR/caisson for an ordinary user. *ret is in the arena.
 */
int container_root(struct arena *a, const char *option, const char **ret) must_check;

/*
 * Opens the directory of all state directories; if `create` is set, makes it if it is missing.
 * Refuses a directory that another user could change. Returns the descriptor, or -ENOENT without a
 * message if the directory is missing and was not made.
 */
int container_open_root(const char *root, bool create) must_check;

/*
 * Returns -EINVAL unless id consists of A-Z, a-z, 0-9 and _+.-, is at most 255 long, and does not
 * start with "." or "-".
 */
int container_check_id(const char *id) must_check;

/*
 * Makes the container's state directory, which is empty at first, and locks it. Returns -EEXIST if
 * another container has the ID.
 */
int container_new(struct container *c, const char *root, const char *id) must_check;

/*
 * Opens an existing container and reads its state.json. If `lock` is set, waits until no other
 * command holds the container's lock, and takes it. Returns -ENOENT if there is no container with
 * this ID.
 */
int container_open(struct container *c, const char *root, const char *id, bool lock) must_check;
void container_close(struct container *c);

/*
 * Locks a container that is already open; waits until no other command holds the container's lock.
 * Returns -ENOENT if the container was deleted meanwhile; another container may have the ID then.
 */
int container_lock(struct container *c) must_check;

/*
 * Locks a container that is already open, for a command such as `delete --force` that must succeed
 * even if another command holds the lock, and reads state.json again. If a command that is still
 * making the container holds the lock, that command is told to end and undo (SIGTERM), and is
 * killed if it does not end. If any other command holds the lock, this function waits some time for
 * its end. Returns -ENOENT if the container is gone by then.
 */
int container_seize(struct container *c) must_check;

/*
 * Ends a command that is still making the container, by SIGTERM and, if that does not help, by
 * SIGKILL. Does not take the container's lock.
 */
int container_end_maker(struct container *c) must_check;
#define _cleanup_container_ __attribute__((cleanup(container_close), unused))
#define CONTAINER_INIT \
	{ \
		.dir = -EBADF, .root_dir = -EBADF \
	}

int container_save(struct container *c) must_check;

/*
 * Writes the state to a file beside state.json, and stores the file's name in c->prepared.
 * container_save() then only renames this file to state.json, so c must not change between the two
 * calls.
 */
int container_prepare_save(struct container *c) must_check;

/*
 * Reads state.json into *c. container_open() calls this function. If the file is missing, c->bundle
 * stays NULL.
 */
int container_read_state(struct container *c) must_check;

/* Parses the container's own copy of config.json into the container's arena, once. */
int container_spec(struct container *c, const struct spec **ret) must_check;

int container_status(struct container *c, enum container_status *ret) must_check;
/*
 * Finds the container's status as container_status() does, except that a paused container counts as
 * running, because this function does not check whether it is paused.
 */
int container_status_unfrozen(struct container *c, enum container_status *ret) must_check;

/*
 * Makes the file "started" in the state directory, by which other commands know that the container
 * was started.
 */
int container_mark_started(struct container *c) must_check;

/*
 * For a microVM: makes or removes the file in the state directory that marks the container as
 * paused. The file is needed because the runtime cannot see the freezer in the guest.
 */
int container_mark_frozen(struct container *c, bool frozen) must_check;
/* Says whether a container in a microVM was paused by `pause`. */
bool container_is_frozen(const struct container *c);

/*
 * Opens a pidfd of the container's first process and returns it, after checking by the start time
 * that the pid does not belong to a later process. Returns -ESRCH if the container's first process
 * is gone.
 */
int container_pidfd(const struct container *c) must_check;

/* Writes the JSON of the OCI specification's "State", as the command `state` prints it. */
void container_put_state(
	const struct container *c, const char *status, pid_t pid, struct json_out *o);

/*
 * Writes the JSON of the OCI specification's "State" in one line, as hooks get it on standard
 * input.
 */
int container_state_json(
	const struct container *c, const char *status, pid_t pid, struct strbuf *ret) must_check;

/*
 * Removes the container's state directory and everything in it. The command `delete` calls this
 * function last.
 */
int container_remove(struct container *c) must_check;

/*
 * The type of the function that container_each() calls for each container. root_dir is a descriptor
 * of the directory root.
 */
typedef int container_fn(void *data, int root_dir, const char *id);

/*
 * Calls f for every container ID under root, in alphabetical order. Stops at the first negative
 * result of f and returns it.
 */
int container_each(const char *root, container_fn *f, void *data) must_check;
