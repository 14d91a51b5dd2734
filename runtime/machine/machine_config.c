/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/machine_config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "machine/foreign.h"
#include "machine/image.h"
#include "machine/qemu.h"
#include "machine/spare.h"
#include "machine/template.h"
#include "plan/vm.h"
#include "vm/kvm.h"

#define MIB (UINT64_C(1) << 20)
#define PAGE (2 * MIB)
#define BOOT_TIMEOUT "io.caisson.vm.boot-timeout"
#define PAGES "io.caisson.vm.pages"
#define NESTED "io.caisson.vm.nested"
#define VHOST_NET "io.caisson.vm.vhost-net"
#define RECONNECT "io.caisson.vm.reconnect"
#define LOCKS "io.caisson.vm.locks"
#define KSM "/sys/kernel/mm/ksm"
#define HUGE_PAGES_FREE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

static int decide_memory(const struct spec *s, struct machine_config *m)
{
	const char *field;
	uint64_t limit = plan_vm_memory_limit(&s->resources, &field);
	uint64_t wanted = MACHINE_MEMORY_DEFAULT;

	if (s->vm && s->vm->memory.set) {
		field = "vm.hwConfig.memory";
		wanted = s->vm->memory.v;
	} else if (limit > 0 && __builtin_add_overflow(limit, MACHINE_MEMORY_GUEST, &wanted)) {
		wanted = UINT64_MAX;
	}
	uint64_t host = machine_host_memory();
	/*
	 * A memory limit above the host's memory is reduced to the host's memory and causes no
	 * error, because such limits are common. Only vm.hwConfig.memory of config.json must be met
	 * exactly.
	 */
	if (wanted > host && !(s->vm && s->vm->memory.set))
		wanted = host;
	m->memory = wanted / PAGE * PAGE;
	return machine_check_memory(field, wanted);
}

static int decide_cpus(const struct spec *s, struct machine_config *m)
{
	const struct cg_resources *res = &s->resources;
	uint64_t online = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN), wanted = 1;
	const char *field = "linux.resources.cpu.quota";

	if (s->vm && s->vm->vcpus.set) {
		field = "vm.hwConfig.vcpus";
		wanted = s->vm->vcpus.v;
	} else if (res->cpu.quota.set && res->cpu.quota.v > 0) {
		uint64_t period =
			res->cpu.period.set && res->cpu.period.v ? res->cpu.period.v : 100000;
		wanted = ((uint64_t)res->cpu.quota.v + period - 1) / period;
		wanted = wanted > online ? online : wanted;
	}
	int r = machine_check_cpus(field, wanted);
	if (r < 0)
		return r;
	m->cpus = (unsigned)wanted;
	m->cpu_limited = res->cpu.quota.set && res->cpu.quota.v > 0;
	for (size_t i = 0; i < res->nunified; i++)
		m->cpu_limited |= streq(res->unified[i].file, "cpu.max");
	return 0;
}

int machine_read_bool(const struct spec *s, const char *annotation, bool *ret)
{
	const char *text = spec_annotation(s, annotation);

	if (text && !streq(text, "true") && !streq(text, "false"))
		return err_set(
			EINVAL, "annotation %s: \"%s\": expected true or false", annotation, text);
	if (text)
		*ret = streq(text, "true");
	return 0;
}

static const char *find_in_path(struct arena *a, const char *name)
{
	const char *path = getenv("PATH");
	const char *at = path && *path ? path : "/usr/local/bin:/usr/bin:/bin";

	while (*at) {
		size_t len = strcspn(at, ":");
		char *file = len ? arena_printf(a, "%.*s/%s", (int)len, at, name) : NULL;
		if (file && access(file, X_OK) == 0)
			return file;
		at += len + (at[len] == ':');
	}
	return NULL;
}

/*
 * Chooses QEMU as the hypervisor. chosen_by is the option or field that asks for QEMU; NULL if
 * `auto` has chosen it.
 */
static int use_qemu(
	struct arena *a, const struct spec *s, const char *chosen_by, struct machine_config *m)
{
	struct stat st;

	m->hypervisor = HYPERVISOR_QEMU;
	m->qemu = s->vm ? s->vm->hypervisor_path : NULL;
	if (m->qemu && (access(m->qemu, X_OK) < 0 || stat(m->qemu, &st) < 0))
		return err_sys("vm.hypervisor.path: %s", m->qemu);
	if (m->qemu && !S_ISREG(st.st_mode))
		return err_set(EINVAL, "vm.hypervisor.path: %s: expected a program, found %s",
			m->qemu, S_ISDIR(st.st_mode) ? "a directory" : "a special file");
	if (!m->qemu)
		m->qemu = find_in_path(a, QEMU_PROGRAM);
	if (s->vm)
		m->qemu_parameters = s->vm->hypervisor_parameters;
	if (m->qemu)
		return 0;
	if (!chosen_by)
		return err_set(ENOTSUP,
			"no hypervisor: KVM can't be used here (%s), and QEMU is not installed: "
			"apt-get install " QEMU_PACKAGE ", or use --isolation ns",
			m->why_not_kvm);
	return err_set(ENOTSUP,
		"%s: " QEMU_PROGRAM " is not installed: apt-get install " QEMU_PACKAGE, chosen_by);
}

static int decide_hypervisor(
	struct arena *a, const struct spec *s, const char *wanted, struct machine_config *m)
{
	char why[ERR_MAX] = "";

	if (wanted && !streq(wanted, "auto") && !streq(wanted, "kvm") && !streq(wanted, "qemu"))
		return err_set(EINVAL, "--hypervisor %s: expected kvm, qemu or auto", wanted);
	/*
	 * A hypervisor program or its parameters in config.json ask for QEMU, because KVM needs no
	 * program. Firmware asks for QEMU too, because the built-in machine has no flash memory.
	 */
	const char *named = m->firmware                      ? "annotation " MACHINE_FIRMWARE
			    : !s->vm                         ? NULL
			    : s->vm->hypervisor_path         ? "vm.hypervisor.path"
			    : s->vm->hypervisor_parameters.n ? "vm.hypervisor.parameters"
							     : NULL;
	bool kvm = wanted && streq(wanted, "kvm");
	if (kvm && (m->firmware || m->vnc))
		return machine_refuse_kvm(m->firmware ? "--firmware" : "--vnc");
	if (kvm && named)
		return err_set(EINVAL,
			"%s: --hypervisor kvm is built in, no program with parameters: choose "
			"--hypervisor qemu, or leave vm.hypervisor out",
			named);
	if (wanted && streq(wanted, "qemu"))
		return use_qemu(a, s, "--hypervisor qemu", m);
	if (named)
		return use_qemu(a, s, named, m);
	if (vm_kvm_runs_linux("/dev/kvm", why, sizeof(why))) {
		m->hypervisor = HYPERVISOR_KVM;
		return 0;
	}
	if (kvm)
		return err_set(ENOTSUP, "--hypervisor kvm: %s; " VM_KVM_INSTEAD, why);
	m->why_not_kvm = arena_strdup(a, why);
	return m->why_not_kvm ? use_qemu(a, s, NULL, m) : -ENOMEM;
}

/*
 * Reads a number of seconds from an annotation. If there is no such annotation, *ret does not
 * change.
 */
static int read_seconds(const struct spec *s, const char *annotation, unsigned max, unsigned *ret)
{
	const char *text = spec_annotation(s, annotation);
	uint64_t seconds;

	if (!text)
		return 0;
	if (str_to_u64(text, &seconds) < 0 || !seconds || seconds > max)
		return err_set(EINVAL, "annotation %s: \"%s\": expected 1 to %u seconds",
			annotation, text, max);
	*ret = (unsigned)seconds;
	return 0;
}

static int decide_boot_timeout(const struct spec *s, struct machine_config *m)
{
	unsigned seconds = MACHINE_BOOT_TIMEOUT;
	int r = read_seconds(s, BOOT_TIMEOUT, MACHINE_BOOT_TIMEOUT_MAX, &seconds);

	m->boot_timeout_ms = seconds * 1000;
	return r;
}

static int decide_reconnect(const struct spec *s, struct machine_config *m)
{
	int r = read_seconds(s, RECONNECT, MACHINE_RECONNECT_MAX, &m->reconnect);

	if (r < 0 || !m->reconnect)
		return r;
	if (m->hypervisor != HYPERVISOR_KVM)
		return err_set(ENOTSUP,
			"annotation " RECONNECT
			": QEMU can't connect again from where it is confined: --hypervisor kvm "
			"can, and without the annotation the microVM ends with its back end");
	return 0;
}

static int decide_locks(const struct spec *s, struct machine_config *m)
{
	const char *locks = spec_annotation(s, LOCKS);

	if (locks && !streq(locks, "guest") && !streq(locks, "host"))
		return err_set(EINVAL,
			"annotation " LOCKS
			": \"%s\": expected guest (locks of files in shares are "
			"the guest's own) or host (programs of the host respect them too)",
			locks);
	m->host_locks = locks && streq(locks, "host");
	return 0;
}

/*
 * Checks that the host has enough free huge pages of the size that the machine asks for. The check
 * is made here, because the kernel's error would not name the pool of huge pages, and QEMU's error
 * would not name the field of config.json.
 */
static int check_huge_page_pool(const struct machine_config *m)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	unsigned long long have, need = m->memory / PAGE;
	int r = fd_read_file(AT_FDCWD, HUGE_PAGES_FREE, &text, 64);

	if (r < 0)
		return r;
	have = strtoull(strbuf_str(&text), NULL, 10);
	if (have >= need)
		return 0;
	return err_set(ENOMEM,
		"annotation " PAGES ": \"hugetlb\": the guest's memory is %llu pages of 2 MiB, the "
		"host's pool has %llu free: raise /proc/sys/vm/nr_hugepages",
		need, have);
}

static int decide_pages(const struct spec *s, struct machine_config *m)
{
	static const char *const names[] = {[VM_PAGES_SMALL] = "small",
		[VM_PAGES_TRANSPARENT] = "transparent",
		[VM_PAGES_HUGETLB] = "hugetlb"};
	const char *text = spec_annotation(s, PAGES);

	m->pages = VM_PAGES_TRANSPARENT;
	if (!text)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(text, names[i])) {
			m->pages = (enum vm_pages)i;
			return m->pages == VM_PAGES_HUGETLB ? check_huge_page_pool(m) : 0;
		}
	if (streq(text, "mergeable")) {
		m->pages = VM_PAGES_SMALL;
		m->mergeable = true;
		return 0;
	}
	return err_set(EINVAL,
		"annotation " PAGES ": \"%s\": expected transparent, small, hugetlb or mergeable",
		text);
}

static int refuse_mergeable(const char *why)
{
	return err_set(ENOTSUP,
		"annotation " PAGES ": \"mergeable\": the kernel (KSM) merges only memory that one "
		"process has, and %s",
		why);
}

/*
 * Refuses to merge the guest's memory if the guest has vhost-user servers. Every vhost-user server
 * maps the guest's memory too, and KSM does not merge memory that several processes share.
 */
static int check_mergeable(struct arena *a, const struct spec *s, const struct machine_config *m)
{
	if (!m->mergeable)
		return 0;
	if (!spec_image_is_root(s) && !m->foreign)
		return refuse_mergeable("the server of root.path has the guest's too: use a "
					"vm.image, or transparent, small or hugetlb");
	if (m->image_server)
		return refuse_mergeable("the server of vm.image has the guest's too: use a raw "
					"image");
	for (size_t i = 0; i < s->nmounts; i++) {
		const struct spec_mount *mount = &s->mounts[i];
		if (!mount->backend && (!mount->bind || mount->remount))
			continue;
		const char *why = arena_printf(
			a, "the server of mounts[%zu] has the guest's too: leave it out", i);
		return why ? refuse_mergeable(why) : -ENOMEM;
	}
	if (m->hypervisor != HYPERVISOR_KVM)
		return refuse_mergeable("QEMU shares the guest's with the vsock device, which is "
					"caisson's: --hypervisor kvm has both in one");
	if (access(KSM, F_OK) < 0)
		return err_sys("annotation " PAGES ": \"mergeable\": this kernel has no KSM: " KSM);
	return 0;
}

/*
 * Refuses a microVM that uses the host's network namespace, because the interfaces of a microVM's
 * network namespace are moved into the guest, so that the host would lose its network.
 */
static int refuse_own_network(const struct spec *s)
{
	const struct spec_namespace *n = &s->ns[SPEC_NS_NETWORK];
	struct stat own, theirs;

	if (!n->path)
		return 0;
	if (stat("/proc/self/ns/net", &own) < 0)
		return err_sys("find our own network namespace");
	if (stat(n->path, &theirs) < 0)
		return err_sys("linux.namespaces[%zu]: %s", n->index, n->path);
	if (own.st_dev != theirs.st_dev || own.st_ino != theirs.st_ino)
		return 0;
	return err_set(ENOTSUP,
		"linux.namespaces[%zu]: %s is the network namespace that caisson runs in: its "
		"interfaces would be carried away into the microVM; name another one, or leave "
		"the path out for a new one",
		n->index, n->path);
}

int machine_config_build(struct arena *a, const struct spec *s, const struct machine_request *q,
	struct machine_config *ret)
{
	*ret = (struct machine_config){.cache = q->cache, .vhost_net = true};
	int r = refuse_own_network(s);
	if (r >= 0)
		r = decide_memory(s, ret);
	if (r >= 0)
		r = machine_decide_guest(s, ret);
	if (r >= 0)
		r = decide_pages(s, ret);
	if (r >= 0)
		r = decide_locks(s, ret);
	if (r >= 0)
		r = decide_cpus(s, ret);
	if (r >= 0)
		r = machine_decide_max_cpus(s, ret);
	if (r >= 0)
		r = machine_read_bool(s, NESTED, &ret->nested);
	if (r >= 0)
		r = machine_read_bool(s, VHOST_NET, &ret->vhost_net);
	if (r >= 0)
		r = machine_decide_image(s, q, ret);
	if (r >= 0)
		r = decide_boot_timeout(s, ret);
	if (r >= 0)
		r = decide_hypervisor(a, s, q->hypervisor, ret);
	if (r >= 0)
		r = decide_reconnect(s, ret);
	if (r >= 0)
		r = machine_decide_max_memory(s, ret);
	if (r >= 0)
		r = machine_decide_template(s, q->template, ret);
	if (r >= 0)
		r = check_mergeable(a, s, ret);
	if (r < 0)
		return r;
	if (s->vm) {
		ret->kernel = s->vm->kernel_path;
		ret->initrd = s->vm->kernel_initrd;
		ret->kernel_parameters = s->vm->kernel_parameters;
	}
	if (ret->foreign)
		return 0;
	ret->init = arena_printf(a, "%s/caisson-guest", q->libexec);
	if (!ret->init)
		return -ENOMEM;
	if (access(ret->init, R_OK) < 0)
		return err_sys(
			"the guest's init %s (set CAISSON_LIBEXEC to where it is)", ret->init);
	return 0;
}

unsigned machine_room_for_nics(const struct machine_config *c, size_t backends)
{
	unsigned room = MACHINE_LINES - MACHINE_DEVICES_OWN - !!c->image - !!c->seed -
			!!c->hot_memory - (unsigned)backends;

	/*
	 * A foreign guest has two devices more than MACHINE_DEVICES_OWN says, a power button and
	 * the port of qemu-guest-agent, and two less, the console and the share.
	 */
	_Static_assert(MACHINE_LINES > MACHINE_DEVICES_OWN + 3 + PLAN_BACKENDS_MAX, "room for one");
	return room < MACHINE_INTERFACES_MAX ? room : MACHINE_INTERFACES_MAX;
}

/*
 * Makes a rule that allows the image if it is a block device of the host. A file that cannot be
 * found is no error here, because the monitor reports it. Returns the number of rules.
 */
static size_t allow_image(const struct machine_config *m, struct cg_device_rule *rule)
{
	struct stat st;

	if (!m->image || stat(m->image, &st) < 0 || !S_ISBLK(st.st_mode))
		return 0;
	*rule = (struct cg_device_rule){.allow = true,
		.type = 'b',
		.major = major(st.st_rdev),
		.minor = minor(st.st_rdev),
		.access = "rw"};
	return 1;
}

int machine_host_resources(struct arena *a, const struct cg_resources *res,
	const struct machine_config *m, struct cg_resources *ret)
{
	/*
	 * These device rules allow what the monitor, the file server and QEMU open on the host. The
	 * guest enforces the container's own device rules.
	 */
	static const struct cg_device_rule rules[] = {
		{.allow = false, .type = 'a', .major = -1, .minor = -1, .access = "rwm"},
		/* /dev/kvm */
		{.allow = true, .type = 'c', .major = 10, .minor = 232, .access = "rw"},
		/* /dev/net/tun */
		{.allow = true, .type = 'c', .major = 10, .minor = 200, .access = "rw"},
		/* /dev/vhost-net */
		{.allow = true, .type = 'c', .major = 10, .minor = 238, .access = "rw"},
	};
	struct plan_vm_limits limits;
	const char *field;

	int r = plan_vm_split_limits(a, res, &limits);
	if (r < 0)
		return r;
	struct cg_device_rule *all = arena_array(a, ARRAY_SIZE(rules) + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	memcpy(all, rules, sizeof(rules));
	*ret = limits.host;
	ret->devices = all;
	ret->ndevices = ARRAY_SIZE(rules) + allow_image(m, &all[ARRAY_SIZE(rules)]);
	/*
	 * The cgroup's memory limit leaves room for the monitor, the file server and QEMU besides
	 * the guest's memory. A host that cannot set the limit causes no error, because the guest's
	 * kernel enforces the container's limit anyway.
	 */
	if (plan_vm_memory_limit(res, &field) > 0) {
		ret->memory.limit = (struct opt_i64){
			.set = true, .v = (int64_t)(m->memory + m->hot_memory + MACHINE_OVERHEAD)};
		ret->memory.upper_bound = true;
	}
	return 0;
}
