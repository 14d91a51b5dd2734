/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/pidfd.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/sys.h"
#include "launch/criu_common.h"
#include "launch/criu_mounts.h"
#include "launch/handover.h"

#define STREAMS_MAX 65536 /* largest descriptors.json, in bytes */

/* What criu's process and the handler of its notifications need. */
struct restore {
	struct launch *l;
	const struct launch_options *o;
	int root;        /* slot of the root's mount */
	bool cgroup_ns;  /* criu's process makes the container's cgroup namespace */
	int image, work; /* directories of the images and of the log */
	int inherited[SPEC_NS_COUNT + 2];
	size_t ninherited;
};

int criu_may_restore(void)
{
	if (geteuid() != 0 || sys_in_userns())
		return err_set(EPERM,
			"criu needs root: only root can restore a container in namespaces (an "
			"ordinary user can use --isolation vm)");
	return 0;
}

/* --- steps of the plan --- */

static int do_steps(struct launch *l, const enum step_kind *kinds, size_t n)
{
	for (size_t i = 0; i < l->plan.n; i++) {
		const struct step *s = &l->plan.steps[i];
		for (size_t k = 0; k < n && s->place == PLACE_HOST; k++) {
			int r = s->kind == kinds[k] ? launch_do_step(l, s) : 0;
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int root_slot(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_OPEN_ROOT)
			return p->steps[i].slot;
	return -1;
}

/* --- criu's process --- */

/*
 * Opens a directory again under the same descriptor number. CRIU makes a mount in this directory,
 * for which the kernel wants a descriptor that was opened in CRIU's own mount namespace.
 */
static int open_again(int fd, const char *path)
{
	_cleanup_fd_ int again = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return again < 0 || dup3(again, fd, O_CLOEXEC) < 0 ? err_sys("open %s", path) : 0;
}

/*
 * Mounts the container's root on its own path, in a new mount namespace, because CRIU wants a mount
 * point that nothing else is mounted over.
 */
static int prepare(void *data)
{
	const struct restore *r = data;
	const struct launch *l = r->l;

	if (r->cgroup_ns && unshare(CLONE_NEWCGROUP) < 0)
		return err_sys("make the cgroup namespace");
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys("make a mount namespace for criu");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys("make the mounts of criu's mount namespace slaves");
	if (move_mount(l->slots[r->root], "", AT_FDCWD, l->c->rootfs, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys("mount the root for criu on %s", l->c->rootfs);
	const char *image = r->o->restore;
	int k = open_again(r->image, image);
	return k < 0 ? k : open_again(r->work, criu_work_path(r->o->criu, image));
}

/*
 * Moves criu's process into the container's cgroup. With the systemd driver, systemd makes the
 * cgroup only now.
 */
static int enter_cgroup(struct launch *l, pid_t pid)
{
	struct container *c = l->c;
	struct cg_resources res;

	if (!l->create.env.cgroup || (!c->cgroup.path && !l->create.env.cgroup_attach))
		return 0;
	int r = launch_limits(l, &res);
	if (r >= 0)
		r = cg_attach(&c->arena, &c->cgroup, &l->create.cg_options, &res, pid);
	if (r < 0)
		return r;
	l->create.cgroup_made = true;
	return container_save(c);
}

/* --- the notifications --- */

static int know_child(struct launch *l, uint64_t pid)
{
	if (l->child.pid > 0 || !pid)
		return 0;
	l->child.pidfd = pidfd_open((pid_t)pid, 0);
	if (l->child.pidfd < 0)
		return err_sys("open a pidfd of the restored process");
	l->child.pid = (pid_t)pid;
	l->c->pid = (pid_t)pid;
	return 0;
}

/* Takes the master of the restored terminal. */
static int take_terminal(struct restore *r, int master)
{
	struct launch *l = r->l;

	if (master < 0)
		return err_set(EPROTO, "criu sent no terminal");
	if (r->o->console_socket)
		return handover_console(r->o->console_socket, master);
	if (r->o->detach || !l->spec->process || !l->spec->process->terminal)
		return err_set(EINVAL, HANDOVER_NO_CONSOLE
			": the checkpoint has a terminal: give --console-socket");
	fd_close(&l->console);
	l->console = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return l->console < 0 ? err_sys("duplicate the terminal") : 0;
}

static int notified(void *data, const struct criu_reply *n, int fd)
{
	static const enum step_kind hooks[] = {STEP_HOOKS, STEP_NETWORKS};
	static const enum step_kind last[] = {STEP_INTEL_RDT};
	struct restore *r = data;

	int k = know_child(r->l, n->pid);
	if (k >= 0 && streq(n->script, "setup-namespaces"))
		k = do_steps(r->l, hooks, ARRAY_SIZE(hooks));
	else if (k >= 0 && streq(n->script, "orphan-pts-master"))
		k = take_terminal(r, fd);
	else if (k >= 0 && streq(n->script, "post-restore")) {
		k = do_steps(r->l, last, ARRAY_SIZE(last));
		if (k >= 0)
			k = launch_apply_limits(r->l);
	}
	return k;
}

/* --- the request --- */

static int put_streams(struct arena *a, int image, const char *path, struct criu_message *opts)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *list;
	uint64_t i = 0;

	int r = fd_read_regular(image, CRIU_STREAMS_FILE, &text, STREAMS_MAX);
	if (r == -ENOENT)
		return err_set(ENXIO,
			"--image-path %s: it has no checkpoint of a container in namespaces: there "
			"is "
			"no " CRIU_STREAMS_FILE,
			path);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&text), text.len, CRIU_STREAMS_FILE, &list);
	if (r < 0)
		return err_ctx(r, "--image-path %s", path);
	if (list->type != JSON_ARRAY || list->count != CRIU_STREAMS)
		return err_set(EINVAL, "--image-path %s: " CRIU_STREAMS_FILE ": expected %d texts",
			path, CRIU_STREAMS);
	for (const struct json *j = list->first; j; j = j->next, i++)
		if (j->type == JSON_STRING &&
			(str_starts(j->text, "pipe:") || str_starts(j->text, "socket:") ||
				str_starts(j->text, "file[")))
			criu_put_numbered(opts, CRIU_INHERIT_FD, j->text, i);
	return 0;
}

/* Tells CRIU which existing namespaces the restored processes join. */
static int put_namespaces(struct restore *r, struct criu_message *opts)
{
	static const struct criu_ns joined[] = {
		{SPEC_NS_IPC, "ipc", NULL}, {SPEC_NS_UTS, "uts", NULL}};
	struct launch *l = r->l;

	for (size_t i = 0; i < l->plan.n; i++) {
		const struct step *s = &l->plan.steps[i];
		if (s->kind != STEP_OPEN_NAMESPACE)
			continue;
		for (size_t k = 0; k < CRIU_EXTERNAL_NS; k++) {
			if (criu_external_ns[k].type != s->ns.type)
				continue;
			criu_put_numbered(opts, CRIU_INHERIT_FD, criu_external_ns[k].key,
				(uint64_t)l->slots[s->slot]);
			r->inherited[r->ninherited++] = l->slots[s->slot];
		}
		for (size_t k = 0; k < ARRAY_SIZE(joined); k++)
			if (joined[k].type == s->ns.type)
				criu_put_pair(opts, CRIU_JOIN_NS, joined[k].file, s->ns.path);
	}
	return 0;
}

static int put_restore(struct restore *r, struct criu_message *opts)
{
	const struct criu_options *o = r->o->criu;
	struct container *c = r->l->c;

	int k = criu_put_common(o, "restore.log", opts);
	if (k < 0)
		return k;
	criu_put_number(opts, CRIU_IMAGES_DIR_FD, (uint64_t)r->image);
	criu_put_number(opts, CRIU_WORK_DIR_FD, (uint64_t)r->work);
	criu_put_text(opts, CRIU_ROOT, c->rootfs);
	criu_put_flag(opts, CRIU_EVASIVE_DEVICES, true);
	criu_put_flag(opts, CRIU_NOTIFY_SCRIPTS, true);
	criu_put_flag(opts, CRIU_RST_SIBLING, true);
	criu_put_flag(opts, CRIU_TCP_CLOSE, o->tcp_close);
	criu_put_text(opts, CRIU_LSM_PROFILE, o->lsm_profile);
	criu_put_text(opts, CRIU_LSM_MOUNT_CONTEXT, o->lsm_mount_context);
	r->cgroup_ns = o->cgroups_mode && streq(o->cgroups_mode, "ignore") &&
		       r->l->spec->ns[SPEC_NS_CGROUP].set;
	k = put_streams(&c->arena, r->image, r->o->restore, opts);
	if (k >= 0)
		k = criu_put_config(r->l->spec, NULL, opts, NULL);
	if (k >= 0)
		k = put_namespaces(r, opts);
	return k < 0 ? k : criu_find_mounts(r->l, opts);
}

/* --- the restore --- */

static int prepare_host(struct restore *r)
{
	static const enum step_kind first[] = {
		STEP_CGROUP_CREATE, STEP_OPEN_NAMESPACE, STEP_OPEN_ROOT};
	struct launch *l = r->l;

	int k = do_steps(l, first, ARRAY_SIZE(first));
	r->root = root_slot(&l->plan);
	return k < 0 ? k : criu_make_mount_points(l, l->slots[r->root]);
}

static int call(struct restore *r)
{
	struct launch *l = r->l;
	_cleanup_criu_message_ struct criu_message opts = {0};
	_cleanup_criu_ struct criu criu = CRIU_INIT;

	criu.interrupt = l->interrupt;
	r->inherited[r->ninherited++] = r->image;
	r->inherited[r->ninherited++] = r->work;
	int k = put_restore(r, &opts);
	const struct criu_start start = {.prepare = prepare,
		.data = r,
		.inherited = r->inherited,
		.ninherited = r->ninherited};
	if (k >= 0)
		k = criu_start(&start, &criu);
	if (k >= 0)
		k = enter_cgroup(l, criu.pid);
	if (k >= 0 && l->c->cgroup.path && !r->cgroup_ns)
		criu_put_pair(&opts, CRIU_CG_ROOT, NULL, l->c->cgroup.path);
	return k < 0 ? k : criu_call(&criu, CRIU_RESTORE, &opts, notified, r);
}

int criu_restore(struct launch *l, const struct launch_options *o)
{
	struct restore r = {.l = l, .o = o};
	const char *path = o->restore;

	_cleanup_fd_ int image = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (image < 0)
		return err_sys("--image-path %s", path);
	_cleanup_fd_ int work = criu_open_work(o->criu, image);
	r.image = image;
	r.work = work;
	int k = work < 0 ? work : prepare_host(&r);
	if (k >= 0)
		k = call(&r);
	if (k < 0)
		return criu_with_log(k, criu_work_path(o->criu, path), "restore.log");
	if (l->child.pid <= 0)
		return err_set(EPROTO, "criu did not say which process it has restored");
	k = process_start_time(l->child.pid, &l->c->start_time);
	/*
	 * It is no error if the container's first process has ended already: the container is then
	 * stopped.
	 */
	return k == -ESRCH ? 0 : k;
}
