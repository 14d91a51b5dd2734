/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/rdt.h"
#include "launch/vm_client.h"
#include "plan/plan.h"

/* Numeric options and where they go; the strings stay NULL when not given. */
struct update_args {
	const char *resources, *cpus, *mems;
	const char *blkio_weight, *cpu_period, *cpu_quota, *cpu_burst, *cpu_shares, *cpu_idle;
	const char *memory, *reservation, *swap, *pids;
	const char *rt_period, *rt_runtime, *kernel, *kernel_tcp, *l3, *membw;
};

/* As runc reads sizes; -1 is unlimited. */
static int parse_size(const char *text, const char *option, int64_t *ret)
{
	uint64_t n;

	if (streq(text, "-1")) {
		*ret = -1;
		return 0;
	}
	if (str_to_size(text, &n) < 0 || n > INT64_MAX)
		return err_set(EINVAL, "--%s %s: expected a size such as 512m or 1.5GiB, or -1",
			option, text);
	*ret = (int64_t)n;
	return 0;
}

static int set_i64(const char *text, const char *option, struct opt_i64 *o)
{
	if (!text)
		return 0;
	o->set = true;
	if (str_to_i64(text, &o->v) < 0)
		return err_set(EINVAL, "--%s %s: expected a number", option, text);
	return 0;
}

static int set_u64(const char *text, const char *option, struct opt_u64 *o)
{
	if (!text)
		return 0;
	o->set = true;
	if (str_to_u64(text, &o->v) < 0)
		return err_set(EINVAL, "--%s %s: expected a number, 0 or more", option, text);
	return 0;
}

static int set_size(const char *text, const char *option, struct opt_i64 *o)
{
	if (!text)
		return 0;
	o->set = true;
	return parse_size(text, option, &o->v);
}

static int apply(const struct update_args *u, struct cg_resources *res)
{
	int r = set_u64(u->blkio_weight, "blkio-weight", &res->block_io.weight);
	if (r >= 0)
		r = set_u64(u->cpu_period, "cpu-period", &res->cpu.period);
	if (r >= 0)
		r = set_i64(u->cpu_quota, "cpu-quota", &res->cpu.quota);
	if (r >= 0)
		r = set_u64(u->cpu_burst, "cpu-burst", &res->cpu.burst);
	if (r >= 0)
		r = set_u64(u->cpu_shares, "cpu-share", &res->cpu.shares);
	if (r >= 0)
		r = set_i64(u->cpu_idle, "cpu-idle", &res->cpu.idle);
	if (r >= 0)
		r = set_u64(u->rt_period, "cpu-rt-period", &res->cpu.realtime_period);
	if (r >= 0)
		r = set_i64(u->rt_runtime, "cpu-rt-runtime", &res->cpu.realtime_runtime);
	if (r >= 0)
		r = set_size(u->memory, "memory", &res->memory.limit);
	if (r >= 0)
		r = set_size(u->reservation, "memory-reservation", &res->memory.reservation);
	if (r >= 0)
		r = set_size(u->swap, "memory-swap", &res->memory.swap);
	if (r >= 0)
		r = set_size(u->kernel, "kernel-memory", &res->memory.kernel);
	if (r >= 0)
		r = set_size(u->kernel_tcp, "kernel-memory-tcp", &res->memory.kernel_tcp);
	if (r >= 0)
		r = set_i64(u->pids, "pids-limit", &res->pids_limit);
	if (u->cpus)
		res->cpu.cpus = u->cpus;
	if (u->mems)
		res->cpu.mems = u->mems;
	return r;
}

/* Before anything is changed: what is sure to be refused must not be half done. */
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

/* The guest's part there; *res is the host's afterwards. */
static int update_guest(struct container *c, struct cg_resources *res)
{
	struct plan_vm_limits limits;

	int r = plan_vm_split_limits(&c->arena, res, &limits);
	if (r >= 0)
		r = vm_update(c, &limits.guest);
	*res = limits.host;
	return r;
}

static int update(struct container *c, const struct update_args *u)
{
	struct cg_resources res = {0};
	enum container_status status;

	int r = container_status(c, &status);
	if (r < 0)
		return r;
	if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
		return err_set(
			ESRCH, "cannot update container \"%s\": container not running", c->id);
	if (u->resources)
		r = spec_load_resources(&c->arena, u->resources, &res);
	if (r >= 0)
		r = apply(u, &res);
	if (r >= 0)
		r = check_rdt(c, u);
	if (r < 0)
		return r;
	if (c->vm) {
		r = update_guest(c, &res);
		if (r < 0)
			return r;
	}
	if (!c->cgroup.path)
		return c->vm && !cg_wants_limits(&res)
			       ? 0
			       : err_set(ENOTSUP,
					 "cannot update container \"%s\": it has no cgroup", c->id);
	r = cg_apply(&c->cgroup, &res);
	return r < 0 ? r : update_rdt(c, u);
}

int cmd_update(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct update_args u = {0};
	const struct option_def defs[] = {
		{"resources", 'r', OPTION_STRING, &u.resources, "FILE",
			"a resources object in JSON (- for standard input)"},
		{"blkio-weight", 0, OPTION_STRING, &u.blkio_weight, "N",
			"share of I/O, 10 to 1000"},
		{"cpu-period", 0, OPTION_STRING, &u.cpu_period, "USEC",
			"CPU period in microseconds"},
		{"cpu-quota", 0, OPTION_STRING, &u.cpu_quota, "USEC",
			"CPU time in a period; -1: unlimited"},
		{"cpu-burst", 0, OPTION_STRING, &u.cpu_burst, "USEC",
			"unused quota that may be used later"},
		{"cpu-share", 0, OPTION_STRING, &u.cpu_shares, "N",
			"share of CPU time, 2 to 262144"},
		{"cpu-shares", 0, OPTION_STRING, &u.cpu_shares, "N", "the same as --cpu-share"},
		{"cpu-rt-period", 0, OPTION_STRING, &u.rt_period, "USEC",
			"cgroup v1 only: an error"},
		{"cpu-rt-runtime", 0, OPTION_STRING, &u.rt_runtime, "USEC",
			"cgroup v1 only: an error"},
		{"cpuset-cpus", 0, OPTION_STRING, &u.cpus, "LIST", "CPUs to use, such as 0-3,7"},
		{"cpuset-mems", 0, OPTION_STRING, &u.mems, "LIST", "memory nodes to use"},
		{"cpu-idle", 0, OPTION_STRING, &u.cpu_idle, "0|1", "run only when the CPU is idle"},
		{"memory", 'm', OPTION_STRING, &u.memory, "SIZE",
			"memory limit, such as 512m; -1: unlimited"},
		{"memory-reservation", 0, OPTION_STRING, &u.reservation, "SIZE",
			"memory that reclaim spares while it can"},
		{"memory-swap", 0, OPTION_STRING, &u.swap, "SIZE",
			"memory and swap together; -1: unlimited"},
		{"kernel-memory", 0, OPTION_STRING, &u.kernel, "SIZE", "cgroup v1 only: ignored"},
		{"kernel-memory-tcp", 0, OPTION_STRING, &u.kernel_tcp, "SIZE",
			"cgroup v1 only: ignored"},
		{"pids-limit", 0, OPTION_STRING, &u.pids, "N",
			"processes and threads; -1: unlimited"},
		{"l3-cache-schema", 0, OPTION_STRING, &u.l3, "SCHEMA", "Intel RDT L3 cache schema"},
		{"mem-bw-schema", 0, OPTION_STRING, &u.membw, "SCHEMA",
			"Intel RDT memory bandwidth schema"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], true, &c);
	return r < 0 ? r : update(&c, &u);
}
