/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/host.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/path.h"
#include "base/process.h"
#include "filter/filter.h"
#include "launch/handover.h"
#include "launch/join.h"
#include "launch/network.h"
#include "launch/rdt.h"
#include "launch/spawn.h"
#include "launch/timeline.h"
#include "launch/vm.h"
#include "machine/machine_config.h"
#include "ns/channel.h"
#include "step/host_nodes.h"
#include "step/host_open.h"
#include "step/step.h"

void launch_release(struct launch *l)
{
	network_close(l);
	for (int i = 0; l->slots && i < l->plan.nslots; i++)
		fd_close(&l->slots[i]);
	fd_close(&l->proc);
	fd_close(&l->cgroup_dir);
	fd_close(&l->exec.container);
	fd_close(&l->channel);
	fd_close(&l->create.start_fifo);
	fd_close(&l->create.result_fifo);
	fd_close(&l->interrupt);
	fd_close(&l->create.start_socket);
	fd_close(&l->create.start_lock);
	fd_close(&l->console);
	fd_close(&l->vm.control);
	fd_close(&l->vm.disk_error);
	fd_close(&l->vm.failure);
	fd_close(&l->vm.restore.state);
	fd_close(&l->vm.restore.memory);
	fd_close(&l->child.pidfd);
	hook_output_close(&l->create.hook_out);
}

int launch_make_slots(struct launch *l)
{
	l->slots = arena_array(&l->c->arena, (size_t)l->plan.nslots + 1, sizeof(int));
	if (!l->slots)
		return -ENOMEM;
	for (int i = 0; i < l->plan.nslots; i++)
		l->slots[i] = -EBADF;
	return 0;
}

void launch_kill_init(struct launch *l)
{
	if (l->child.pid <= 0)
		return;
	pidfd_send_signal(l->child.pidfd, SIGKILL, NULL, 0);
	while (waitpid(l->child.pid, NULL, 0) < 0 && errno == EINTR)
		;
	l->child.pid = 0;
}

/*
 * Writes the container's state, with the pid of INIT, to a file beside state.json, so that only a
 * rename is left to do when INIT (the container's first process) is ready.
 */
static int prepare_state(struct launch *l)
{
	struct container *c = l->c;
	int r = process_start_time(c->pid, &c->start_time);

	/*
	 * The error ESRCH means that INIT (the container's first process) has ended. It is ignored
	 * here, because INIT's last message on the channel will say why INIT ended.
	 */
	if (r == -ESRCH)
		return 0;
	return r < 0 ? r : container_prepare_save(c);
}

static int host_barrier(struct launch *l, const struct step *s)
{
	if (s->place != PLACE_HOST) {
		if (!plan_awaits(&l->plan, PLACE_HOST, s))
			return 0;
		int r = streq(s->text, "created") ? prepare_state(l) : 0;
		return r < 0 ? r : launch_await(l, s->text);
	}
	return launch_send(l, CHANNEL_REACHED, s->text, -EBADF);
}

int launch_limits(const struct launch *l, struct cg_resources *ret)
{
	const struct cg_resources *all = &l->spec->resources;

	*ret = *all;
	return l->plan.isolation == PLAN_VM
		       ? machine_host_resources(&l->c->arena, all, l->vm.machine, ret)
		       : 0;
}

static int host_cgroup_create(struct launch *l, const struct step *s)
{
	struct cg_resources res;
	int r = launch_limits(l, &res);

	if (r >= 0)
		r = cg_create(&l->c->cgroup, &res);
	l->create.cgroup_made = r >= 0;
	if (r < 0 || !l->c->cgroup.path || !cg_clone_into(&l->c->cgroup))
		return r;
	l->cgroup_dir = cg_open(&l->c->cgroup);
	return l->cgroup_dir;
}

/*
 * Gets the limits of the container's cgroup, device rules included. If config.json has no device
 * rules, a rule to deny all is set, so that only the devices that every container gets are allowed,
 * as in runc.
 */
static int limits_with_devices(const struct launch *l, struct cg_resources *ret)
{
	static const struct cg_device_rule deny_all = {
		.allow = false, .type = 'a', .major = -1, .minor = -1, .access = "rwm"};
	int r = launch_limits(l, ret);

	if (r >= 0 && !ret->ndevices) {
		ret->devices = &deny_all;
		ret->ndevices = 1;
	}
	return r;
}

void launch_allow_devices(void *launch)
{
	struct launch *l = launch;
	struct cg_resources res;

	if (l->plan.exec || l->cgroup_dir < 0)
		return;
	int r = limits_with_devices(l, &res);
	if (r >= 0)
		r = cg_allow_devices(&l->c->cgroup, l->cgroup_dir, &res);
	l->create.devices_allowed = r >= 0;
	/*
	 * A failure is ignored here, because the step CGROUP_LIMIT later tries the same and reports
	 * the error.
	 */
	if (r < 0)
		err_clear();
}

int launch_apply_limits(struct launch *l)
{
	struct cg_resources res;
	int r = limits_with_devices(l, &res);

	if (r < 0)
		return r;
	if (l->create.devices_allowed)
		res.ndevices = 0;
	return l->c->cgroup.path ? cg_apply(&l->c->cgroup, &res) : 0;
}

static int host_cgroup_limit(struct launch *l, const struct step *s)
{
	return launch_apply_limits(l);
}

static int host_cgroup_attach(struct launch *l, const struct step *s)
{
	struct container *c = l->c;

	if (l->exec.container >= 0)
		return cg_attach(&c->arena, &l->exec.cgroup, NULL, NULL, l->child.pid);
	struct cg_resources res;
	int r = launch_limits(l, &res);
	if (r >= 0)
		r = cg_attach(&c->arena, &c->cgroup, &l->create.cg_options, &res, l->child.pid);
	l->create.cgroup_made = r >= 0;
	return r < 0 ? r : launch_apply_limits(l);
}

/* Returns the user namespace that the container joins by path, or -EBADF if it joins none. */
static int joined_userns(const struct launch *l)
{
	int slot = plan_userns_slot(&l->plan);

	return slot < 0 ? -EBADF : l->slots[slot];
}

static int host_open_copy(struct launch *l, const struct step *s)
{
	l->slots[s->slot] = open_tree_copy(s, joined_userns(l));
	return l->slots[s->slot];
}

static int host_device_nodes(struct launch *l, const struct step *s)
{
	return device_nodes_make(s, joined_userns(l), l->slots);
}

static int host_connect(struct launch *l, const struct step *s)
{
	/*
	 * The source vm.image has no server to connect to, because the machine gets the image as a
	 * disk.
	 */
	if (spec_mount_is_image(s->connect.mount))
		return 0;
	l->slots[s->slot] = handover_connect(s->connect.mount->backend, "source");
	return l->slots[s->slot];
}

static int host_connect_net(struct launch *l, const struct step *s)
{
	l->slots[s->slot] = handover_connect(s->net->socket, "vhost-user");
	return l->slots[s->slot];
}

/*
 * Refuses to change sysctls or the names of the host in a namespace that the container does not
 * own, because that namespace belongs to the host or to caisson's caller. A microVM may change
 * these values, because they are set in the guest's kernel.
 */
static int refuse_own_namespace(struct launch *l, const struct step *s)
{
	if (l->plan.isolation == PLAN_VM || !ns_is_own(s->ns.type, l->slots[s->slot]))
		return 0;
	const char *sysctl = spec_sysctl_of(&l->c->arena, l->spec, s->ns.type);
	const char *what = sysctl                      ? "linux.sysctl"
			   : s->ns.type != SPEC_NS_UTS ? NULL
			   : l->spec->hostname         ? "hostname"
			   : l->spec->domainname       ? "domainname"
						       : NULL;
	if (!what)
		return 0;
	return err_set(EINVAL,
		"%s is the %s namespace of the host, and %s%s%s would change it: leave that out, "
		"or the path",
		s->ns.path, plan_ns_name(s->ns.type), what, sysctl ? ": " : "",
		sysctl ? sysctl : "");
}

static int host_open_namespace(struct launch *l, const struct step *s)
{
	l->slots[s->slot] = ns_open(s->ns.type, s->ns.path);
	return l->slots[s->slot] < 0 ? l->slots[s->slot] : refuse_own_namespace(l, s);
}

/*
 * Compiles the system call filter, or takes it from the cache of compiled filters in ROOT/.seccomp,
 * which only the runtime's user can enter.
 */
static int host_compile_seccomp(struct launch *l, const struct step *s)
{
	if (mkdirat(l->c->root_dir, ".seccomp", 0700) < 0 && errno != EEXIST)
		log_debug("no cache of seccomp filters: %s", strerror(errno));
	_cleanup_fd_ int cache =
		openat(l->c->root_dir, ".seccomp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	l->slots[s->slot] = seccomp_compile(s->seccomp.seccomp, cache);
	return l->slots[s->slot];
}

_Noreturn static void become_vm_process(struct launch *l, int channel, size_t from)
{
	char pid[32] = "";

	/*
	 * The pid of this process is read from the host's /proc, because hooks need the pid that
	 * this process has on the host, and getpid() may return the pid of another pid namespace.
	 */
	if (readlinkat(l->proc, "self", pid, sizeof(pid) - 1) > 0)
		l->c->pid = (pid_t)atoi(pid);
	/*
	 * The process that STEP_CLONE made runs here. It closes the descriptors that it must not
	 * keep. One of these carries the lock on the container's state directory, which would
	 * otherwise stay locked as long as the process lives.
	 */
	fd_close(&l->cgroup_dir);
	fd_close(&l->c->dir);
	fd_close(&l->c->root_dir);
	if (!l->plan.exec)
		launch_become_monitor(l, channel, from);
	launch_become_proxy(l, channel);
}

static int clone_vm_process(struct launch *l, const struct step *s, int *theirs)
{
	const struct ns_clone_args a = {.clone = s, .cgroup = l->cgroup_dir};

	int r = ns_clone(&a, &l->child);
	if (r == 0) {
		fd_close(&l->channel);
		become_vm_process(l, *theirs, (size_t)(s - l->plan.steps) + 1);
	}
	fd_close(theirs);
	/*
	 * The runtime closes its own copies of the listening sockets and of start.lock, so that
	 * only the microVM's monitor keeps them open.
	 */
	fd_close(&l->create.start_socket);
	fd_close(&l->create.start_lock);
	fd_close(&l->vm.control);
	return r < 0 ? r : 0;
}

static int host_clone(struct launch *l, const struct step *s)
{
	int socks[2];

	if (l->proc < 0)
		l->proc = path_open_proc();
	if (l->proc < 0)
		return l->proc;
	int r = channel_pair(socks);
	if (r < 0)
		return r;
	_cleanup_fd_ int theirs = socks[1];
	l->channel = socks[0];
	if (l->plan.isolation == PLAN_VM)
		r = clone_vm_process(l, s, &theirs);
	else
		r = launch_spawn(l, s, &theirs);
	if (r >= 0)
		l->c->pid = l->child.pid;
	return r;
}

static int host_id_map(struct launch *l, const struct step *s)
{
	return ns_id_map(l->child.pid, &s->map.uid, &s->map.gid);
}

static int host_intel_rdt(struct launch *l, const struct step *s)
{
	return rdt_assign(s->rdt, l->c->id, l->child.pid);
}

static int host_hooks(struct launch *l, const struct step *s)
{
	_cleanup_strbuf_ struct strbuf state = {0};

	int r = container_state_json(l->c, s->hooks.status, l->child.pid, &state);
	return r < 0 ? r
		     : hooks_run(s->hooks.name, &s->hooks.hooks, strbuf_str(&state), state.len,
			       l->create.hook_out.fd);
}

static int host_affinity(struct launch *l, const struct step *s)
{
	cpu_set_t set;

	int r = str_to_bitlist(s->text, (unsigned long *)&set, CPU_SETSIZE);
	if (r >= 0 && sched_setaffinity(0, sizeof(set), &set) < 0)
		r = err_sys("set the CPU affinity to %s", s->text);
	return r;
}

/*
 * Writes oom_score_adj for the new process. Before STEP_CLONE there is no new process, so the
 * runtime changes its own value (pid 0), and the new process inherits it.
 */
static int host_oom_score(struct launch *l, const struct step *s)
{
	if (l->proc < 0)
		l->proc = path_open_proc();
	if (l->proc < 0)
		return l->proc;
	return process_set_oom_score(s->process, l->proc, l->child.pid);
}

static int host_rlimits(struct launch *l, const struct step *s)
{
	return process_set_rlimits(s->process, l->child.pid);
}

typedef int (*host_fn)(struct launch *l, const struct step *s);

static const host_fn host_functions[STEP_COUNT] = {
	[STEP_CGROUP_CREATE] = host_cgroup_create,
	[STEP_CGROUP_LIMIT] = host_cgroup_limit,
	[STEP_OPEN_ROOT] = host_open_copy,
	[STEP_OPEN_SOURCE] = host_open_copy,
	[STEP_DEVICE_NODES] = host_device_nodes,
	[STEP_CONNECT] = host_connect,
	[STEP_CONNECT_NET] = host_connect_net,
	[STEP_OPEN_NAMESPACE] = host_open_namespace,
	[STEP_COMPILE_SECCOMP] = host_compile_seccomp,
	[STEP_CLONE] = host_clone,
	[STEP_ID_MAP] = host_id_map,
	[STEP_CGROUP_ATTACH] = host_cgroup_attach,
	[STEP_INTEL_RDT] = host_intel_rdt,
	[STEP_BARRIER] = host_barrier,
	[STEP_NET_DEVICE] = network_move_device,
	[STEP_NEW_NETWORK] = network_give,
	[STEP_NETWORKS] = join_networks,
	[STEP_HOOKS] = host_hooks,
	[STEP_AFFINITY] = host_affinity,
	[STEP_OOM_SCORE] = host_oom_score,
	[STEP_RLIMITS] = host_rlimits,
};

int launch_do_step(struct launch *l, const struct step *s)
{
	if (!host_functions[s->kind])
		return err_set(ENOSYS, "the step %s cannot be done by the runtime",
			plan_step_name(s->kind));
	log_debug("%s %s", plan_step_name(s->kind), s->field ? s->field : "");
	int r = host_functions[s->kind](l, s);
	timeline_host_step(l);
	return r < 0 && s->field ? err_ctx(r, "%s", s->field) : r;
}

int launch_walk_to(struct launch *l, const char *barrier)
{
	for (; l->next_step < l->plan.n; l->next_step++) {
		const struct step *s = &l->plan.steps[l->next_step];
		if (s->place != PLACE_HOST && s->kind != STEP_BARRIER)
			continue;
		int r = launch_do_step(l, s);
		if (r < 0)
			return r;
		if (barrier && s->kind == STEP_BARRIER && streq(s->text, barrier)) {
			l->next_step++;
			return 0;
		}
	}
	return 0;
}

int launch_reserve_descriptors(struct launch *l)
{
	for (size_t i = 0; i < LAUNCH_RESERVED; i++) {
		int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return err_sys(
				"keep %d descriptors for undoing: raise this process's limit of "
				"open files (ulimit -n)",
				LAUNCH_RESERVED);
		l->create.reserved[i] = fd;
	}
	return 0;
}

void launch_release_reserved(struct launch *l)
{
	for (size_t i = 0; i < LAUNCH_RESERVED; i++) {
		if (l->create.reserved[i])
			close(l->create.reserved[i]);
		l->create.reserved[i] = 0;
	}
}
