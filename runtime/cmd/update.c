/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "cmd/update_devices.h"
#include "launch/rdt.h"
#include "launch/vm_client.h"
#include "launch/vm_update.h"
#include "plan/vm.h"
#include "run/run.h"

enum limit_kind {
	LIMIT_COUNT,  /* target is a struct opt_u64; a number that is 0 or more */
	LIMIT_NUMBER, /* target is a struct opt_i64; a number, of which -1 means unlimited */
	/*
	 * target is a struct opt_i64; bytes written as in runc ("512m"), of which -1 means
	 * unlimited
	 */
	LIMIT_SIZE,
	LIMIT_LIST, /* target is a const char *; a list such as "0-3,7" */
};

/* An option of `caisson update` that changes one member of struct cg_resources. */
struct limit_option {
	const char *name;
	char letter;
	const char *arg, *help;
	enum limit_kind kind;
	size_t offset;
};

#define MEMBER(m) offsetof(struct cg_resources, m)

/*
 * The table's order matters only if both --cpu-share and --cpu-shares are given. Then --cpu-shares,
 * which is further down, overrides --cpu-share.
 */
static const struct limit_option limit_options[] = {
	{"blkio-weight", 0, "N", "share of I/O, 10 to 1000", LIMIT_COUNT, MEMBER(block_io.weight)},
	{"cpu-period", 0, "USEC", "CPU period in microseconds", LIMIT_COUNT, MEMBER(cpu.period)},
	{"cpu-quota", 0, "USEC", "CPU time in a period; -1: unlimited", LIMIT_NUMBER,
		MEMBER(cpu.quota)},
	{"cpu-burst", 0, "USEC", "unused quota that may be used later", LIMIT_COUNT,
		MEMBER(cpu.burst)},
	{"cpu-share", 0, "N", "share of CPU time, 2 to 262144", LIMIT_COUNT, MEMBER(cpu.shares)},
	{"cpu-shares", 0, "N", "the same as --cpu-share", LIMIT_COUNT, MEMBER(cpu.shares)},
	{"cpu-rt-period", 0, "USEC", "cgroup v1 only: an error", LIMIT_COUNT,
		MEMBER(cpu.realtime_period)},
	{"cpu-rt-runtime", 0, "USEC", "cgroup v1 only: an error", LIMIT_NUMBER,
		MEMBER(cpu.realtime_runtime)},
	{"cpuset-cpus", 0, "LIST", "CPUs to use, such as 0-3,7", LIMIT_LIST, MEMBER(cpu.cpus)},
	{"cpuset-mems", 0, "LIST", "memory nodes to use", LIMIT_LIST, MEMBER(cpu.mems)},
	{"cpu-idle", 0, "0|1", "run only when the CPU is idle", LIMIT_NUMBER, MEMBER(cpu.idle)},
	{"memory", 'm', "SIZE", "memory limit, such as 512m; -1: unlimited", LIMIT_SIZE,
		MEMBER(memory.limit)},
	{"memory-reservation", 0, "SIZE", "memory that reclaim spares while it can", LIMIT_SIZE,
		MEMBER(memory.reservation)},
	{"memory-swap", 0, "SIZE", "memory and swap together; -1: unlimited", LIMIT_SIZE,
		MEMBER(memory.swap)},
	{"kernel-memory", 0, "SIZE", "cgroup v1 only: ignored", LIMIT_SIZE, MEMBER(memory.kernel)},
	{"kernel-memory-tcp", 0, "SIZE", "cgroup v1 only: ignored", LIMIT_SIZE,
		MEMBER(memory.kernel_tcp)},
	{"pids-limit", 0, "N", "processes and threads; -1: unlimited", LIMIT_NUMBER,
		MEMBER(pids_limit)},
};

struct update_args {
	const char *resources, *l3, *membw, *cpus;
	/*
	 * the values of these options as given on the command line; NULL: the option was not given
	 */
	const char *limits[ARRAY_SIZE(limit_options)];
	struct update_devices devices;
	const char *disk_size;
};

static int parse_size(const char *text, int64_t *ret)
{
	uint64_t n;

	if (streq(text, "-1")) {
		*ret = -1;
		return 0;
	}
	if (str_to_size(text, &n) < 0 || n > INT64_MAX)
		return -EINVAL;
	*ret = (int64_t)n;
	return 0;
}

static int set_limit(const struct limit_option *o, const char *text, struct cg_resources *res)
{
	static const char *const expected[] = {[LIMIT_COUNT] = "a number, 0 or more",
		[LIMIT_NUMBER] = "a number",
		[LIMIT_SIZE] = "a size such as 512m or 1.5GiB, or -1"};
	void *member = (char *)res + o->offset;
	struct opt_u64 *count = member;
	struct opt_i64 *number = member;
	int r = 0;

	switch (o->kind) {
	case LIMIT_COUNT:
		count->set = true;
		r = str_to_u64(text, &count->v);
		break;
	case LIMIT_NUMBER:
		number->set = true;
		r = str_to_i64(text, &number->v);
		break;
	case LIMIT_SIZE:
		number->set = true;
		r = parse_size(text, &number->v);
		break;
	case LIMIT_LIST:
		*(const char **)member = text;
		break;
	}
	return r < 0 ? err_set(EINVAL, "--%s %s: expected %s", o->name, text, expected[o->kind])
		     : 0;
}

static int set_limits(const struct update_args *u, struct cg_resources *res)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(limit_options); i++)
		if (u->limits[i])
			r = set_limit(&limit_options[i], u->limits[i], res);
	return r;
}

static bool has_limit(const struct update_args *u, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(limit_options); i++)
		if (u->limits[i] && streq(limit_options[i].name, name))
			return true;
	return false;
}

/*
 * Reads --cpus, which is a quota of CPU time and in a microVM the number of vCPUs. If config.json
 * gives a microVM no quota, the microVM gets none here either. *ret_quota is 0 without the option.
 */
static int set_cpus(struct container *c, const struct update_args *u, struct cg_resources *res,
	int64_t *ret_quota)
{
	const struct spec *s = NULL;

	*ret_quota = 0;
	if (!u->cpus)
		return 0;
	if (has_limit(u, "cpu-quota") || has_limit(u, "cpu-period"))
		return err_set(EINVAL,
			"--cpus %.100s: --cpu-quota and --cpu-period say the same: leave them out",
			u->cpus);
	int r = run_parse_cpus(u->cpus, ret_quota);
	if (r >= 0 && c->vm)
		r = container_spec(c, &s);
	if (r < 0 || (s && (!s->resources.cpu.quota.set || s->resources.cpu.quota.v <= 0)))
		return r;
	res->cpu.quota = (struct opt_i64){.set = true, .v = *ret_quota};
	res->cpu.period = (struct opt_u64){.set = true, .v = RUN_CPU_PERIOD};
	return 0;
}

/*
 * Checks the new limits for Intel RDT before anything is changed, so that an update that is sure to
 * fail changes nothing.
 */
static int check_rdt(const struct container *c, const struct update_args *u)
{
	if ((u->l3 || u->membw) && !c->has_rdt)
		return err_set(EINVAL,
			"--l3-cache-schema, --mem-bw-schema: the container was made without "
			"linux.intelRdt");
	return 0;
}

static int update_rdt(struct container *c, const struct update_args *u)
{
	struct spec_intel_rdt rdt;
	const struct spec *s;

	if (!u->l3 && !u->membw)
		return 0;
	int r = container_spec(c, &s);
	if (r < 0)
		return r;
	rdt = *s->intel_rdt;
	rdt.l3_cache_schema = u->l3;
	rdt.mem_bw_schema = u->membw;
	rdt.schemata = (struct spec_strings){0};
	return rdt_assign(&rdt, c->id, c->pid);
}

/*
 * Splits the limits into those that the guest's kernel enforces, if there is a guest, and those for
 * the host's cgroup. Limits for the host are an error here if the container has no cgroup, before
 * anything is changed.
 */
static int split_limits(
	struct container *c, const struct cg_resources *res, struct plan_vm_limits *ret)
{
	int r = 0;

	*ret = (struct plan_vm_limits){.host = *res};
	if (c->vm)
		r = plan_vm_split_limits(&c->arena, res, ret);
	if (r < 0 || c->cgroup.path || (!cg_wants_limits(&ret->host) && !ret->host.ndevices))
		return r;
	return err_set(ENOTSUP, "cannot update container \"%s\": it has no cgroup", c->id);
}

/*
 * Fills in the limits whose meaning depends on the version of the runtime specification, which
 * config.json names. config.json is read only if such a limit was given.
 */
static int settle_limits(struct container *c, struct cg_resources *res)
{
	const struct spec *s;

	if (!res->pids_limit.set || res->pids_limit.v != 0)
		return 0;
	int r = container_spec(c, &s);
	if (r >= 0)
		spec_settle_resources(s, res);
	return r;
}

/* Says whether the command line has limits for cgroups, and not only changes of devices. */
static bool has_limits(const struct update_args *u)
{
	bool limits = u->resources || u->cpus;

	for (size_t i = 0; i < ARRAY_SIZE(limit_options); i++)
		limits |= u->limits[i] != NULL;
	return limits;
}

/* Reads --disk-size, before anything is changed. *ret is 0 without the option. */
static int read_disk_size(struct container *c, const struct update_args *u, uint64_t *ret)
{
	const struct spec *s;

	*ret = 0;
	if (!u->disk_size)
		return 0;
	if (!c->vm)
		return err_set(EINVAL,
			"--disk-size: container \"%s\" has no disk of its own: expected a "
			"container "
			"in a microVM (--isolation vm)",
			c->id);
	if (str_to_size(u->disk_size, ret) < 0 || *ret == 0)
		return err_set(EINVAL, "--disk-size %s: expected a size such as 20G", u->disk_size);
	int r = container_spec(c, &s);
	if (r >= 0 && (!s->vm || !s->vm->image_path))
		r = err_set(EINVAL, "--disk-size: the machine has no disk: vm.image is not set");
	return r;
}

/*
 * Reads the new limits, from the file of --resources and from the other options. *ret_quota is set
 * as by set_cpus().
 */
static int read_limits(struct container *c, const struct update_args *u, struct cg_resources *ret,
	int64_t *ret_quota)
{
	int r = 0;

	if (u->resources)
		r = spec_load_resources(&c->arena, u->resources, ret);
	if (r < 0)
		return err_ctx(r, "--resources %s", u->resources);
	r = set_limits(u, ret);
	if (r >= 0)
		r = set_cpus(c, u, ret, ret_quota);
	return r < 0 ? r : settle_limits(c, ret);
}

/*
 * Attaches and detaches devices, and makes the disk `size` bytes large (0: leaves it). The disk
 * comes last, because a disk cannot be made smaller again.
 */
static int update_machine(struct container *c, struct update_devices *u, uint64_t size)
{
	int r = update_devices(c, u);

	if (r >= 0 && size) {
		r = err_ctx(vm_resize_disk(c, size), "--disk-size");
		r = r < 0 ? update_devices_undo(c, u, r) : 0;
	}
	return r < 0 && u->removed ? err_ctx(r, "what was removed stays removed") : r;
}

static int update_container(struct container *c, struct update_args *u)
{
	const bool limits = has_limits(u);
	struct cg_resources res = {0};
	struct plan_vm_limits split;
	struct vm_change guest = VM_UNCHANGED;
	_cleanup_cg_undo_ struct cg_undo undo = {0};
	enum container_status status;
	uint64_t disk_size;
	int64_t quota = 0;

	int r = container_status(c, &status);
	if (r < 0)
		return r;
	if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
		return err_set(
			ESRCH, "cannot update container \"%s\": container not running", c->id);
	r = read_limits(c, u, &res, &quota);
	if (r >= 0)
		r = check_rdt(c, u);
	if (r >= 0)
		r = split_limits(c, &res, &split);
	if (r >= 0)
		r = read_disk_size(c, u, &disk_size);
	if (r >= 0 && limits && c->cgroup.path)
		r = cg_change(&c->cgroup, &split.host, &undo);
	if (r < 0)
		return r;
	r = update_rdt(c, u);
	if (r >= 0 && limits && c->vm)
		r = vm_update_guest(c, &res, &split.guest, quota, &guest);
	if (r >= 0)
		r = update_machine(c, &u->devices, disk_size);
	return r < 0 ? cg_undo(&c->cgroup, &undo, vm_undo_guest(c, &guest, r)) : 0;
}

int cmd_update(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct update_args u = {0};
	struct update_devices *d = &u.devices;
	const struct option_def resources = {"resources", 'r', OPTION_STRING, &u.resources, "FILE",
		"a resources object in JSON (- for standard input)"};
	const struct option_def l3 = {
		"l3-cache-schema", 0, OPTION_STRING, &u.l3, "SCHEMA", "Intel RDT L3 cache schema"};
	const struct option_def membw = {"mem-bw-schema", 0, OPTION_STRING, &u.membw, "SCHEMA",
		"Intel RDT memory bandwidth schema"};
	const struct option_def devices[] = {
		{"add-net", 0, OPTION_LIST, &d->add_nets, "INTERFACE",
			"give a running microVM this interface of the container's network "
			"namespace"},
		{"rm-net", 0, OPTION_LIST, &d->rm_nets, "INTERFACE",
			"take an interface that was added away from the microVM"},
		{"add-disk", 0, OPTION_LIST, &d->add_disks, "SOURCE:TARGET[:OPTIONS]",
			"give a running microVM an image or block device of the host, as the node "
			"TARGET; options: ro, format=qcow2 (and others; raw without it), "
			"serial=TEXT, backing=, key="},
		{"rm-disk", 0, OPTION_LIST, &d->rm_disks, "TARGET",
			"take a disk that was added away from the microVM"},
		{"add-mount", 0, OPTION_LIST, &d->add_mounts, "SOURCE:TARGET[:ro]",
			"mount a directory or file of the host into the running container"},
		{"rm-mount", 0, OPTION_LIST, &d->rm_mounts, "TARGET",
			"remove a mount that was added"},
		{"force", 0, OPTION_FLAG, &d->force, NULL,
			"with --rm-net: remove it even if the guest does not release it"},
		{"disk-size", 0, OPTION_STRING, &u.disk_size, "SIZE",
			"make the disk of a microVM (vm.image) larger while it runs"},
	};
	const struct option_def cpus = {"cpus", 0, OPTION_STRING, &u.cpus, "NUMBER",
		"CPUs to use, such as 1.5; in a microVM the number of vCPUs"};
	struct option_def defs[ARRAY_SIZE(limit_options) + ARRAY_SIZE(devices) + 5] = {resources};
	size_t n = 1;
	for (size_t i = 0; i < ARRAY_SIZE(limit_options); i++)
		defs[n++] = (struct option_def){limit_options[i].name, limit_options[i].letter,
			OPTION_STRING, &u.limits[i], limit_options[i].arg, limit_options[i].help};
	defs[n++] = cpus;
	defs[n++] = l3;
	defs[n++] = membw;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		defs[n++] = devices[i];
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], true, &c);
	if (r >= 0 && d->force && !d->rm_nets.n)
		r = err_set(EINVAL, "--force: expected --rm-net with it");
	if (r >= 0)
		r = update_container(&c, &u);
	if (r < 0 && d->not_attached) {
		program_fail(r);
		return PROGRAM_EXIT_NOT_ATTACHED;
	}
	return r;
}
