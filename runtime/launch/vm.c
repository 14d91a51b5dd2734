/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/vm.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "agent/orders.h"
#include "agent/program.h"
#include "base/fd.h"
#include "base/libexec.h"
#include "base/log.h"
#include "init/start.h"
#include "launch/checkpoint.h"
#include "launch/host.h"
#include "launch/launch.h"
#include "machine/machine_config.h"
#include "monitor/control.h"
#include "monitor/monitor.h"
#include "ns/channel.h"
#include "plan/vm.h"

#define GUEST_BUILT "guest" /* path of the program caisson-guest below the build directory */
#define DISK_PROGRAM "caisson-disk"
#define CACHE_DIR "/var/cache/caisson"

static void warn_of_labels(const struct spec_process *p)
{
	if (p && p->apparmor_profile)
		log_warn("process.apparmorProfile is not applied: a microVM's kernel has no "
			 "AppArmor");
	if (p && p->selinux_label)
		log_warn("process.selinuxLabel is not applied: a microVM's kernel has no SELinux");
}

static void warn_of_groups(const struct spec *s)
{
	const char *keep = spec_annotation(s, PLAN_KEEP_GROUPS);

	if (keep && !streq(keep, "0"))
		log_warn("annotation " PLAN_KEEP_GROUPS
			 " is not applied: the caller's groups are groups of the host");
}

static void warn_of_devices(const struct spec *s)
{
	const char *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < s->ndevices; i++) {
		if (!plan_vm_drops_device(s, &s->devices[i]))
			continue;
		first = first ? first : s->devices[i].path;
		n++;
	}
	if (n)
		log_warn("linux.devices: left out %zu of the host's devices (%s%s): a microVM has "
			 "devices of its own",
			n, first, n > 1 ? ", ..." : "");
}

/*
 * Returns whether the helper program caisson-disk may have to serve the image vm.image. The monitor
 * itself serves a raw image, unless an annotation asks for a snapshot.
 */
static bool needs_disk_program(const struct spec *s)
{
	return s->vm && s->vm->image_path;
}

/*
 * Chooses the directory in which initramfs files are kept for later starts. An ordinary user has
 * such a directory below the home directory. *ret is NULL if the environment names no home
 * directory.
 */
static int choose_cache(struct arena *a, const char **ret)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	*ret = CACHE_DIR;
	if (!container_for_user())
		return 0;
	*ret = NULL;
	if (cache && cache[0] == '/')
		*ret = arena_printf(a, "%s/caisson", cache);
	else if (home && home[0] == '/')
		*ret = arena_printf(a, "%s/.cache/caisson", home);
	else
		return 0;
	return *ret ? 0 : -ENOMEM;
}

int launch_prepare_vm(struct launch *l, const struct launch_options *o)
{
	struct machine_request q = {.hypervisor = o->hypervisor, .template = o->template};

	if (l->preserve_fds)
		return err_set(ENOTSUP, "--preserve-fds, LISTEN_FDS: descriptors of the host can't "
					"be passed into a microVM");
	struct machine_config *machine = arena_alloc(&l->c->arena, sizeof(*machine));
	if (!machine)
		return -ENOMEM;
	int r = o->restore ? checkpoint_open(l, o->restore) : 0;
	/* The hypervisor that has saved a machine is the only one that can restore it. */
	if (r >= 0 && o->restore && monitor_restores_on_qemu(&l->vm.restore))
		q.hypervisor = "qemu";
	if (r >= 0)
		r = choose_cache(&l->c->arena, &q.cache);
	if (r >= 0)
		r = libexec_find(&l->c->arena, "caisson-guest", GUEST_BUILT, &q.libexec);
	if (r >= 0 && needs_disk_program(l->spec))
		r = libexec_program(&l->c->arena, DISK_PROGRAM, &q.disk);
	if (r >= 0)
		r = machine_config_build(&l->c->arena, l->spec, &q, machine);
	if (r < 0)
		return r;
	l->vm.machine = machine;
	if (getenv("NOTIFY_SOCKET"))
		log_warn("NOTIFY_SOCKET is not passed on: a microVM's programs can't reach a Unix "
			 "socket of the host");
	if (machine->why_not_kvm)
		log_notice("the microVM runs in software, on QEMU: %s", machine->why_not_kvm);
	warn_of_labels(l->spec->process);
	warn_of_groups(l->spec);
	warn_of_devices(l->spec);
	return 0;
}

int launch_prepare_vm_exec(struct launch *l, const struct exec_options *o)
{
	if (l->preserve_fds)
		return err_set(ENOTSUP, "--preserve-fds, LISTEN_FDS: descriptors of the host can't "
					"be passed into a microVM");
	l->exec.subgroup = o->cgroup;
	l->exec.ignore_paused = o->ignore_paused;
	warn_of_labels(o->process);
	l->vm.control = control_connect(l->c->dir);
	return l->vm.control < 0 ? l->vm.control : 0;
}

static int state_json(void *data, const char *status, struct strbuf *ret)
{
	struct launch *l = data;

	return container_state_json(l->c, status, l->c->pid, ret);
}

/*
 * Reads the flags of the mounts that the guest gets as virtio-fs shares. If a source is mounted
 * nosuid on the host, the guest must mount it nosuid too, but the guest's kernel cannot see the
 * host's flag.
 */
static int read_mount_flags(const struct launch *l, uint32_t *ret)
{
	static const struct {
		/* a flag of a mount as statvfs(3) reports it (ST_NOSUID, ...) */
		unsigned long stat;
		uint32_t attr;
	} flags[] = {
		{ST_RDONLY, MOUNT_ATTR_RDONLY},
		{ST_NOSUID, MOUNT_ATTR_NOSUID},
		{ST_NODEV, MOUNT_ATTR_NODEV},
		{ST_NOEXEC, MOUNT_ATTR_NOEXEC},
	};
	struct statvfs st;

	for (size_t i = 0; i < l->plan.n; i++) {
		const struct step *s = &l->plan.steps[i];
		if (!plan_is_shared(s) || l->slots[s->slot] < 0)
			continue;
		if (fstatvfs(l->slots[s->slot], &st) < 0)
			return err_sys("%s: find out the flags of the mount", s->field);
		for (size_t k = 0; k < ARRAY_SIZE(flags); k++)
			if (st.f_flag & flags[k].stat)
				ret[s->slot] |= flags[k].attr;
	}
	return 0;
}

static int pack_orders(struct launch *l, struct agent_orders *o, struct strbuf *ret)
{
	int filter = plan_filter_slot(&l->plan), r = 0;

	if (filter >= 0 && l->slots[filter] >= 0)
		r = init_filter_read(&l->c->arena, l->slots[filter], &o->filter, &o->nfilter);
	return r < 0 ? r : agent_orders_pack(o, ret);
}

static int make_create_orders(void *data, struct strbuf *ret)
{
	struct launch *l = data;
	_cleanup_strbuf_ struct strbuf state = {0};
	struct agent_orders o;

	int r = agent_orders_for_create(&l->c->arena, &l->plan, l->spec, &o);
	if (r >= 0)
		r = read_mount_flags(l, o.mount_flags);
	if (r >= 0 && plan_has_init_hooks(&o.plan))
		r = container_state_json(l->c, "", 0, &state);
	if (r < 0)
		return r;
	o.id = l->c->id;
	o.tell_steps = l->timeline != NULL;
	o.state = state.len ? strbuf_str(&state) : NULL;
	return pack_orders(l, &o, ret);
}

static int make_exec_orders(struct launch *l, struct strbuf *ret)
{
	struct agent_orders o;

	/* The agent of a foreign guest may be of another build, which could not read the orders. */
	if (spec_guest_is_foreign(l->spec))
		return agent_program_pack(l->plan.process, ret);
	int r = agent_orders_for_exec(&l->c->arena, &l->plan, l->spec, &o);
	o.subgroup = l->exec.subgroup;
	o.ignore_paused = l->exec.ignore_paused;
	o.tell_steps = l->timeline != NULL;
	return r < 0 ? r : pack_orders(l, &o, ret);
}

_Noreturn static void fail(int channel, int r)
{
	_exit(channel_send(channel, CHANNEL_FAILED, r, err_msg(), -EBADF) < 0 ? 2 : 1);
}

_Noreturn void launch_become_monitor(struct launch *l, int channel, size_t from)
{
	struct strbuf orders = {0};

	const struct monitor_args a = {
		.plan = &l->plan,
		.env = &l->create.env,
		.machine = l->vm.machine,
		.slots = l->slots,
		.channel = channel,
		.start_socket = l->create.start_socket,
		.start_lock = l->create.start_lock,
		.control = l->vm.control,
		.failure = l->vm.failure,
		.disk_error = l->vm.disk_error,
		.proc = l->proc,
		.restore = l->vm.restore.state >= 0 ? &l->vm.restore : NULL,
		.hook_out = l->create.hook_out.fd,
		.id = l->c->id,
		.orders = &orders,
		.make_orders = make_create_orders,
		.state_json = state_json,
		.data = l,
		.arena = &l->c->arena,
		.tell_spans = l->timeline != NULL,
		.from = from,
	};

	monitor_run(&a);
}

_Noreturn void launch_become_proxy(struct launch *l, int channel)
{
	struct strbuf orders = {0};

	int r = make_exec_orders(l, &orders);
	if (r < 0)
		fail(channel, r);
	const struct proxy_args a = {
		.plan = &l->plan,
		.channel = channel,
		.control = l->vm.control,
		.orders = &orders,
		.tell_spans = l->timeline != NULL,
	};

	monitor_proxy(&a);
}

int launch_open_failure(struct launch *l)
{
	l->vm.failure = memfd_create("failure", MFD_CLOEXEC);
	return l->vm.failure < 0 ? err_sys("memfd_create") : 0;
}

int launch_read_failure(struct launch *l)
{
	char text[ERR_MAX];

	ssize_t n = l->vm.failure < 0 ? 0 : pread(l->vm.failure, text, sizeof(text) - 1, 0);
	if (n < 0)
		return err_sys("read the monitor's error message");
	return n == 0 ? 0 : err_set(EIO, "%.*s", (int)n, text);
}
