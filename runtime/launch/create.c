/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "launch/attend.h"
#include "launch/criu.h"
#include "launch/delete.h"
#include "launch/env.h"
#include "launch/handover.h"
#include "launch/host.h"
#include "launch/join.h"
#include "launch/network.h"
#include "launch/notify.h"
#include "launch/prepare.h"
#include "launch/start.h"
#include "launch/timeline.h"
#include "launch/vm.h"
#include "monitor/control.h"

#define START_BACKLOG 8

static char *now_rfc3339(struct arena *a)
{
	struct timespec now;
	struct tm tm;
	char text[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	return arena_printf(a, "%s.%09ldZ", text, now.tv_nsec);
}

/*
 * Records what the command is about to make, before it makes anything else: writes state.json and
 * config.json, so that `delete --force` can undo what the following steps make.
 */
static int record_intent(
	struct container *c, const struct bundle *b, const struct launch_options *o)
{
	c->bundle = b->path;
	c->rootfs = b->rootfs;
	c->created = now_rfc3339(&c->arena);
	c->oci_version = SPEC_VERSION;
	c->annotations = json_get(b->spec->json, "annotations");
	c->has_poststart = b->spec->hooks.poststart.n > 0;
	c->has_poststop = b->spec->hooks.poststop.n > 0;
	c->remove_bundle = o->remove_bundle;
	c->no_new_keyring = o->no_new_keyring;
	c->has_rdt = b->spec->intel_rdt != NULL;
	c->has_networks = b->networks.n > 0;
	c->vm = b->isolation == PLAN_VM;
	if (!c->created)
		return -ENOMEM;
	if (o->pid_file) {
		_cleanup_free_ char *cwd = o->pid_file[0] == '/' ? NULL : getcwd(NULL, 0);
		c->pid_file = arena_printf(
			&c->arena, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", o->pid_file);
		if (!c->pid_file)
			return -ENOMEM;
	}
	int r = fd_write_new_file(c->dir, "config.json", b->text, b->len, 0600);
	return r < 0 ? r : container_save(c);
}

/*
 * VM mode: makes the file start.lock and locks it. The microVM's monitor holds this lock until the
 * program runs, which is how other commands tell "created" from "running" (see container.h).
 */
static int open_start_lock(struct launch *l)
{
	l->create.start_lock =
		openat(l->c->dir, "start.lock", O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (l->create.start_lock < 0 || flock(l->create.start_lock, LOCK_EX | LOCK_NB) < 0)
		return err_sys("make start.lock in the state directory");
	return 0;
}

static int open_disk_error(struct launch *l)
{
	l->vm.disk_error = openat(l->c->dir, CONTAINER_DISK_ERROR,
		O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	return l->vm.disk_error < 0
		       ? err_sys("make " CONTAINER_DISK_ERROR " in the state directory")
		       : 0;
}

static int open_fifo(struct container *c, const char *name)
{
	/*
	 * The FIFO is opened for reading and writing, because opening it for one of the two would
	 * wait until another process opens the other end.
	 */
	int fd = mkfifoat(c->dir, name, 0600) < 0 ? -1 : openat(c->dir, name, O_RDWR | O_CLOEXEC);

	return fd < 0 ? err_sys("make %s in the state directory", name) : fd;
}

static int open_fifos(struct launch *l)
{
	l->create.start_fifo = open_fifo(l->c, "start.fifo");
	if (l->create.start_fifo < 0)
		return l->create.start_fifo;
	l->create.result_fifo = open_fifo(l->c, "result.fifo");
	return l->create.result_fifo;
}

/*
 * VM mode: makes the socket start.sock. It is bound through a path below /proc/self/fd, because the
 * path of a socket is limited to 107 bytes and --root may be longer.
 */
static int open_start_socket(struct launch *l)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	l->create.start_socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (l->create.start_socket < 0)
		return err_sys("make a socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/start.sock", l->c->dir);
	if (bind(l->create.start_socket, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(l->create.start_socket, START_BACKLOG) < 0)
		return err_sys("listen on start.sock in the state directory");
	return 0;
}

static int check_console_options(
	const struct spec *s, const struct launch_options *o, bool attached)
{
	bool terminal = s->process && s->process->terminal;

	if (terminal && !attached && !o->console_socket)
		return err_set(EINVAL, HANDOVER_NO_CONSOLE
			": process.terminal is true: give --console-socket to receive the "
			"terminal, or use `run` without --detach");
	if (!terminal && o->console_socket)
		return err_set(EINVAL, HANDOVER_NO_TERMINAL
			": --console-socket: process.terminal is not true, so there is no "
			"terminal to send");
	return 0;
}

static int build_plan(
	struct launch *l, const struct bundle *b, const struct launch_options *o, bool attached)
{
	struct container *c = l->c;
	struct plan_env env;

	l->spec = b->spec;
	l->console_socket = o->console_socket;
	l->preserve_fds = o->preserve_fds + launch_listen_fds();
	l->network_options = &o->network;
	l->create.unattended = !attached || o->detach;
	int r = bundle_cgroup_options(&c->arena, b, o, &l->create.cg_options);
	if (r >= 0)
		r = cg_resolve(&c->arena, &l->create.cg_options, &c->cgroup);
	if (r >= 0)
		r = bundle_env(&c->arena, b, o, &c->cgroup, &env);
	if (r >= 0)
		r = hook_output_open(&l->create.hook_out, b->spec);
	if (r < 0)
		return r;
	env.attached = attached;
	if (!o->console_socket)
		launch_window_size(&env.console_height, &env.console_width);
	env.keyring = launch_keyring(c);
	if (!env.keyring)
		return -ENOMEM;
	r = plan_build(&c->arena, b->spec, &env, &l->plan);
	l->create.env = env;
	if (r >= 0 && b->isolation == PLAN_VM)
		r = launch_prepare_vm(l, o);
	if (r >= 0 && !env.cgroup) {
		/*
		 * No step of this plan makes a cgroup, because the container gets none. cg_create()
		 * is called only for the warnings that it logs about limits that cannot be set.
		 */
		struct cg_resources res;
		r = launch_limits(l, &res);
		if (r >= 0)
			r = cg_create(&c->cgroup, &res);
	}
	if (r >= 0)
		r = launch_env(&c->arena, b->spec->process, &env, &l->env);
	if (r < 0)
		return r;
	l->create.device_names =
		arena_array(&c->arena, b->spec->nnet_devices + 1, sizeof(*l->create.device_names));
	return l->create.device_names ? launch_make_slots(l) : -ENOMEM;
}

static int delegate_cgroup(struct launch *l)
{
	/*
	 * In a microVM the guest's agent makes the container's user the owner of the cgroup, so the
	 * host does not.
	 */
	if (l->c->vm || !l->c->cgroup.path || !plan_delegates_cgroup(l->spec))
		return 0;
	uint32_t uid = plan_uid(l->spec, l->spec->process);
	return uid != geteuid() ? cg_delegate(&l->c->cgroup, uid) : 0;
}

static bool has_ended(const struct launch *l)
{
	struct pollfd p = {.fd = l->child.pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* Says whether the container is restored by CRIU, which makes its processes as they were. */
static bool is_from_criu(const struct container *c, const struct launch_options *o)
{
	return o->restore && !c->vm;
}

/*
 * Does all steps up to the barrier "created", at which the container's first process waits for
 * `start`. *o are the options of `create` or `run`.
 */
static int walk_to_created(struct launch *l, const struct launch_options *o, bool attached)
{
	struct container *c = l->c;

	int r = c->vm ? open_start_lock(l) : attached ? 0 : open_fifos(l);
	if (r >= 0 && c->vm)
		r = open_disk_error(l);
	if (r >= 0 && c->vm && !attached)
		r = open_start_socket(l);
	if (r >= 0 && l->create.env.notify_dir)
		r = notify_make(c);
	if (r >= 0 && l->create.env.names_dir)
		r = join_make_files(c);
	if (r >= 0 && c->vm)
		r = l->vm.control = control_listen(c->dir);
	if (r >= 0 && c->vm && attached && !o->detach)
		r = launch_open_failure(l);
	timeline_mark(l->timeline, "prepare the walk");
	if (r >= 0)
		r = is_from_criu(c, o) ? criu_restore(l, o) : launch_walk_to(l, "created");
	network_close(l);
	if (r >= 0)
		r = delegate_cgroup(l);
	/* A microVM's monitor that has ended says why. INIT only ends here if it is killed. */
	if (r >= 0 && !is_from_criu(c, o) && has_ended(l))
		r = c->vm ? launch_await(l, "")
			  : err_set(ESRCH,
				    "the container's first process was killed before its start");
	if (r >= 0)
		r = container_save(c);
	if (r >= 0)
		r = handover_pid(c->pid_file, c->pid);
	l->create.wrote_pid_file = r >= 0 && c->pid_file;
	const char *receiver = spec_annotation(l->spec, "run.oci.pidfd_receiver");
	if (r >= 0 && o->pidfd_socket)
		r = handover_pidfd(o->pidfd_socket, "--pidfd-socket", l->child.pidfd);
	else if (r >= 0 && receiver)
		r = handover_pidfd(receiver, "annotation run.oci.pidfd_receiver", l->child.pidfd);
	timeline_mark(l->timeline, "record that it is created");
	return r;
}

static void undo_create(struct launch *l)
{
	_cleanup_free_ char *msg = strdup(err_msg());

	launch_release_reserved(l);
	/*
	 * If undoing a failed `create` fails too, its errors are only logged, because the first
	 * error is the one to report.
	 */
	network_return_devices(l);
	launch_kill_init(l);
	/*
	 * If this command did not make the cgroup, undoing must not touch it, because another
	 * container's processes may be in it.
	 */
	if (!l->create.cgroup_made)
		l->c->cgroup = (struct cgroup){0};
	/*
	 * If this command did not join the networks, undoing must not leave them, because they may
	 * belong to a container with the same ID under another --root.
	 */
	if (!l->create.joined)
		l->c->has_networks = false;
	if (l->create.wrote_pid_file)
		handover_forget_pid(l->c->pid_file);
	if (launch_cleanup(l->c, l->spec) < 0)
		log_warn("cleaning up: %s", err_msg());
	err_set(EIO, "%s", msg ? msg : "");
}

static int load_bundle(
	struct container *c, const struct launch_options *o, bool attached, struct bundle *b)
{
	/*
	 * The bundle is parsed before the state directory is made, so that nothing has to be
	 * removed if the bundle is wrong.
	 */
	int r = container_check_id(o->id);
	if (r >= 0)
		r = bundle_load(&c->arena, o, b);
	if (r >= 0 && o->restore && b->isolation == PLAN_NS)
		r = criu_may_restore();
	if (r >= 0 && o->restore)
		r = criu_check_options(o->criu, b->isolation == PLAN_VM);
	if (r >= 0)
		r = check_console_options(b->spec, o, attached && !o->detach);
	return r;
}

/*
 * Removes the directory of a bundle that was made for a container alone. The caller calls this
 * function if making the container has failed.
 */
static void discard_bundle(struct arena *a, const struct bundle *b, const struct launch_options *o)
{
	_cleanup_free_ char *msg = strdup(err_msg());
	const char *path = b->path ? b->path : o->bundle;

	if (!o->remove_bundle || !path || path[0] != '/')
		return;
	if (launch_remove_bundle(a, path) < 0)
		log_warn("cleaning up: %s", err_msg());
	err_set(EIO, "%s", msg ? msg : "");
}

static int try_make_container(
	struct launch *l, const struct launch_options *o, bool attached, struct bundle *b)
{
	struct container *c = l->c;
	const char *root;

	int r = launch_reserve_descriptors(l);
	if (r >= 0)
		r = load_bundle(c, o, attached, b);
	timeline_mark(l->timeline, "read config.json");
	if (r >= 0 && b->isolation == PLAN_NS && !o->restore &&
		plan_makes_network(b->spec, geteuid() != 0))
		network_begin(l);
	if (r >= 0)
		r = container_root(&c->arena, o->root, &root);
	/*
	 * Until here a signal may kill this process, because there is nothing to undo. From here on
	 * a signal that asks the process to end makes it undo what it has made.
	 */
	if (r >= 0)
		r = l->interrupt = interrupt_block();
	if (r >= 0)
		r = container_new(c, root, o->id);
	timeline_mark(l->timeline, "make the state directory");
	if (r < 0)
		return r;
	r = build_plan(l, b, o, attached);
	timeline_mark(l->timeline, "build the plan");
	if (r >= 0)
		r = record_intent(c, b, o);
	timeline_mark(l->timeline, "write state.json");
	if (r >= 0)
		r = walk_to_created(l, o, attached);
	if (r < 0)
		undo_create(l);
	return r;
}

/*
 * Makes the container and does the plan's steps up to the barrier "created". Then the container
 * exists, and this process holds its lock. *t must live as long as l.
 */
static int make_container(
	struct launch *l, const struct launch_options *o, bool attached, struct timeline *t)
{
	struct bundle b = {0};
	int r = timeline_open(t, o->timeline, attached ? "run" : "create", l);

	if (r >= 0)
		r = try_make_container(l, o, attached, &b);
	if (r >= 0)
		return r;
	timeline_write(l, "failed");
	discard_bundle(&l->c->arena, &b, o);
	return r;
}

int launch_create(const struct launch_options *o)
{
	_cleanup_container_ struct container c = CONTAINER_INIT;
	_cleanup_launch_ struct launch l = LAUNCH_INIT;
	_cleanup_timeline_ struct timeline t = TIMELINE_INIT;

	l.c = &c;
	int r = make_container(&l, o, false, &t);
	if (r < 0)
		return r;
	/*
	 * Only the steps behind the barrier "created" are left of the plan. INIT (the container's
	 * first process) passes the barrier "recorded" when the runtime has recorded the container,
	 * and then waits for `start`.
	 */
	r = launch_walk_to(&l, NULL);
	timeline_write(&l, r < 0 ? "failed" : "created");
	if (r < 0)
		undo_create(&l);
	return r;
}

/* Starts the program. With `from_criu` the program runs already, because CRIU has restored it. */
static int start_program(struct launch *l, struct notify *n, bool from_criu)
{
	if (!l->spec->process)
		return err_set(EINVAL, "process: missing: there is nothing to start");
	int r = from_criu ? 0 : launch_walk_to(l, NULL);
	if (r >= 0)
		r = notify_open(n, l->c);
	if (r >= 0 && !from_criu)
		r = launch_say_start(l->channel);
	timeline_mark(l->timeline, "tell INIT to start");
	if (r >= 0 && !from_criu)
		r = launch_await_exec(l);
	timeline_executed(l);
	if (r >= 0)
		r = container_mark_started(l->c);
	timeline_mark(l->timeline, "record that it runs");
	if (r >= 0)
		r = launch_poststart(l->c, l->spec);
	if (l->spec->hooks.poststart.n)
		timeline_mark(l->timeline, "poststart hooks");
	return r;
}

int launch_run(const struct launch_options *o, int *ret_status)
{
	_cleanup_container_ struct container c = CONTAINER_INIT;
	_cleanup_launch_ struct launch l = LAUNCH_INIT;
	_cleanup_notify_ struct notify n = NOTIFY_INIT;
	_cleanup_timeline_ struct timeline t = TIMELINE_INIT;

	*ret_status = 0;
	l.c = &c;
	int r = make_container(&l, o, true, &t);
	if (r < 0)
		return r;
	r = start_program(&l, &n, is_from_criu(&c, o));
	timeline_write(&l, r < 0 ? "failed" : "running");
	if (r < 0) {
		undo_create(&l);
		return r;
	}
	/*
	 * The lock on the container is released, because other commands may exec in the container,
	 * pause it or kill it from now on.
	 */
	flock(c.dir, LOCK_UN);
	c.locked = false;
	n.main_pid = o->detach ? c.pid : getpid();
	if (o->detach) {
		interrupt_unblock();
		return notify_wait(&n, l.child.pidfd);
	}
	r = launch_attend(&l.child, &l.console, &n, ret_status);
	if (r < 0) {
		undo_create(&l);
		return r;
	}
	launch_release_reserved(&l);
	if (!o->keep)
		r = launch_end(&c, l.spec);
	return r < 0 ? r : launch_read_failure(&l);
}
