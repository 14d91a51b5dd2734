/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes linux.resources to control files.
 *
 * caisson writes only what is set, so that `update` runs the same code. 0 means "not set" for the
 * settings that resources.h lists, as with runc, because engines send zeros for what they do not
 * limit. A setting that only lifts a limit needs no controller, because without the controller
 * there is no limit. `unified` is written last and in its own order, so that it overrides the other
 * settings, as with runc.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define F "linux.resources."

/* Writes a limit in bytes to the control file, or "max" if v is negative. */
static int put_limit(struct cg_target *t, const char *field, const char *file, int64_t v)
{
	return v < 0 ? cg_put(t, field, file, "max") : cg_put(t, field, file, "%" PRId64, v);
}

static bool is_given(struct opt_i64 v)
{
	return v.set && v.v != 0;
}

/*
 * Fails if the memory limit is below the current usage and the caller asked for this check, because
 * the kernel would kill processes to get below the limit.
 */
static int check_usage(struct cg_target *t, const struct cg_resources *res)
{
	uint64_t usage, swap = 0;

	if (!res->memory.check_before_update.v)
		return 0;
	int r = cg_read_u64(t->dir, "memory.current", &usage);
	if (r == -ENOENT || r == -ENODEV)
		return 0;
	if (r < 0)
		return r;
	if (cg_read_u64(t->dir, "memory.swap.current", &swap) < 0)
		err_clear();
	if (res->memory.limit.v > 0 && (uint64_t)res->memory.limit.v <= usage)
		return err_set(EBUSY,
			F "memory.limit: %" PRId64 " is not above the %" PRIu64
			  " bytes in use, and checkBeforeUpdate is set",
			res->memory.limit.v, usage);
	if (res->memory.swap.v > 0 && (uint64_t)res->memory.swap.v <= usage + swap)
		return err_set(EBUSY,
			F "memory.swap: %" PRId64 " is not above the %" PRIu64
			  " bytes in use, and checkBeforeUpdate is set",
			res->memory.swap.v, usage + swap);
	return 0;
}

/*
 * Warns if the new memory limit is below what the cgroup uses now. Only an update can have such a
 * limit, because a new container uses no memory yet.
 */
static void warn_of_kill(struct cg_target *t, const struct cg_resources *res)
{
	uint64_t usage;

	if (res->memory.limit.v <= 0)
		return;
	if (cg_read_u64(t->dir, "memory.current", &usage) < 0)
		err_clear();
	else if ((uint64_t)res->memory.limit.v < usage)
		log_warn(F "memory.limit: %" PRId64 " is below the %" PRIu64
			   " bytes in use: the kernel reclaims memory, and kills processes if it "
			   "cannot get below the limit",
			res->memory.limit.v, usage);
}

static int put_swap(struct cg_target *t, const struct cg_resources *res)
{
	struct opt_i64 limit = res->memory.limit;
	uint64_t current;
	int64_t swap;

	/*
	 * If `update` gets --memory-swap alone, uses the memory limit that the cgroup has now,
	 * because the value of --memory-swap is the limit of memory and swap together.
	 */
	if (!is_given(limit) && res->memory.swap.v > 0 &&
		cg_read_u64(t->dir, "memory.max", &current) == 0 && current <= INT64_MAX)
		limit = (struct opt_i64){.set = true, .v = (int64_t)current};
	int r = cg_swap_from_spec(limit, res->memory.swap, &swap);
	if (r <= 0)
		return r;
	/* A kernel without swap has no memory.swap.max, and no swap to limit. */
	if (swap <= 0 && faccessat(t->dir, "memory.swap.max", F_OK, 0) < 0)
		return 0;
	return put_limit(t, F "memory.swap", "memory.swap.max", swap);
}

static int apply_memory(struct cg_target *t, const struct cg_resources *res)
{
	bool limit = is_given(res->memory.limit), low = is_given(res->memory.reservation),
	     swap = is_given(res->memory.swap);

	if (!limit && !low && !swap)
		return 0;
	bool lifting = (res->memory.limit.v <= 0 || res->memory.upper_bound) &&
		       res->memory.reservation.v <= 0 && res->memory.swap.v <= 0;
	int r = cg_require(t, "memory",
		limit ? F "memory.limit"
		: low ? F "memory.reservation"
		      : F "memory.swap",
		lifting);
	if (r <= 0)
		return r;
	r = check_usage(t, res);
	if (r == 0)
		warn_of_kill(t, res);
	if (r == 0)
		r = put_swap(t, res);
	if (r == 0 && limit)
		r = put_limit(t, F "memory.limit", "memory.max", res->memory.limit.v);
	if (r == 0 && low)
		r = put_limit(t, F "memory.reservation", "memory.low", res->memory.reservation.v);
	return r;
}

/*
 * Writes quota and period. Without a new quota the current quota stays, because `update
 * --cpu-period` alone expects that.
 */
static int put_quota(struct cg_target *t, const struct cg_resources *res)
{
	const char *field = is_given(res->cpu.quota) ? F "cpu.quota" : F "cpu.period";
	bool period = res->cpu.period.set && res->cpu.period.v;
	char quota[64] = "max";

	if (is_given(res->cpu.quota)) {
		if (res->cpu.quota.v > 0)
			snprintf(quota, sizeof(quota), "%" PRId64, res->cpu.quota.v);
	} else {
		int r = cg_read(t->dir, "cpu.max", quota, sizeof(quota));
		if (r < 0)
			return cg_err_file(r, field, "cpu.max", "", t->cg->path);
		quota[strcspn(quota, " ")] = '\0';
	}
	int r = period ? cg_put(t, field, "cpu.max", "%s %" PRIu64, quota, res->cpu.period.v)
		       : cg_put(t, field, "cpu.max", "%s", quota);
	return r == -EINVAL
		       ? err_ctx(r,
				 "%s: expected a quota of 1000 us or more and a period of 1000 "
				 "to 1000000 us",
				 field)
		       : r;
}

/*
 * Writes burst and quota. The kernel always requires burst <= quota, so burst is written first. If
 * this write fails because only the new quota allows the burst, the burst is written again after
 * the quota.
 */
static int put_bandwidth(struct cg_target *t, const struct cg_resources *res)
{
	const char *field = F "cpu.burst", *file = "cpu.max.burst";
	bool quota = is_given(res->cpu.quota) || (res->cpu.period.set && res->cpu.period.v);
	int r = 0, burst = 0;

	if (res->cpu.burst.set) {
		burst = cg_put(t, field, file, "%" PRIu64, res->cpu.burst.v);
		if (burst < 0 && (burst != -EINVAL || !quota))
			return burst;
	}
	if (quota)
		r = put_quota(t, res);
	if (r == 0 && burst < 0)
		r = cg_put(t, field, file, "%" PRIu64, res->cpu.burst.v);
	return r;
}

/*
 * Writes weight and idle. The kernel refuses a weight in an idle cgroup, so the order is: idle off,
 * weight, idle on.
 */
static int put_weight(struct cg_target *t, const struct cg_resources *res)
{
	struct opt_i64 idle = res->cpu.idle;
	int r = 0;

	if (idle.set && idle.v != 0 && idle.v != 1)
		return err_set(EINVAL, F "cpu.idle: expected 0 or 1, found %" PRId64, idle.v);
	if (idle.set && idle.v == 0)
		r = cg_put(t, F "cpu.idle", "cpu.idle", "0");
	if (r == 0 && res->cpu.shares.v)
		r = cg_put(t, F "cpu.shares", "cpu.weight", "%" PRIu64,
			cg_weight_from_shares(res->cpu.shares.v));
	if (r == 0 && idle.v == 1)
		r = cg_put(t, F "cpu.idle", "cpu.idle", "1");
	return r;
}

/*
 * Writes a list of CPUs or memory nodes. If the list names CPUs or nodes that the machine does not
 * have, the kernel only answers EINVAL or ERANGE, so the message says what the machine has.
 */
static int put_set(struct cg_target *t, const char *field, const char *file, const char *list)
{
	bool cpus = streq(file, "cpuset.cpus");
	_cleanup_strbuf_ struct strbuf online = {0};
	int r = cg_put(t, field, file, "%s", list);

	if (r != -EINVAL && r != -ERANGE && r != -EOVERFLOW)
		return r;
	int code = -r;
	if (fd_read_file(AT_FDCWD,
		    cpus ? "/sys/devices/system/cpu/online" : "/sys/devices/system/node/online",
		    &online, 4096) < 0)
		return err_set(code, "%s: the machine has not all of \"%s\"", field, list);
	const char *have = strbuf_str(&online);
	return err_set(code, "%s: expected a list of this machine's %s, %.*s, found \"%s\"", field,
		cpus ? "CPUs" : "memory nodes", (int)strcspn(have, "\n"), have, list);
}

static int apply_cpu(struct cg_target *t, const struct cg_resources *res)
{
	const __typeof__(res->cpu) *c = &res->cpu;
	bool lifting = (!c->shares.v || c->shares.v == CG_SHARES_DEFAULT) && c->quota.v <= 0 &&
		       (!c->period.v || c->period.v == CG_PERIOD_DEFAULT) && !c->burst.v &&
		       c->idle.v == 0;
	const char *field = c->shares.v          ? F "cpu.shares"
			    : is_given(c->quota) ? F "cpu.quota"
			    : c->period.v        ? F "cpu.period"
			    : c->burst.set       ? F "cpu.burst"
						 : F "cpu.idle";
	int r = 0;

	if (!lifting || c->shares.v || c->period.v || is_given(c->quota) || c->burst.set ||
		c->idle.set) {
		r = cg_require(t, "cpu", field, lifting);
		if (r > 0)
			r = put_weight(t, res);
		else if (r == 0)
			goto sets;
		if (r == 0)
			r = put_bandwidth(t, res);
	}
sets:
	if (r < 0 || ((!c->cpus || !*c->cpus) && (!c->mems || !*c->mems)))
		return r;
	r = cg_require(t, "cpuset", c->cpus && *c->cpus ? F "cpu.cpus" : F "cpu.mems", false);
	if (r <= 0)
		return r;
	r = 0;
	if (c->cpus && *c->cpus)
		r = put_set(t, F "cpu.cpus", "cpuset.cpus", c->cpus);
	if (r == 0 && c->mems && *c->mems)
		r = put_set(t, F "cpu.mems", "cpuset.mems", c->mems);
	return r;
}

/*
 * Writes pids.max. A limit of 0 becomes 1, because with 0 the kernel would refuse to clone the
 * container's own first process into the cgroup. A limit of 1 has the effect that 0 asks for: the
 * first process and no other. runc does this too, and systemd does not accept 0 either.
 * apply_unified() treats pids.max in the same way.
 */
static int apply_pids(struct cg_target *t, const struct cg_resources *res)
{
	struct opt_i64 limit = res->pids_limit;

	if (!limit.set)
		return 0;
	int r = cg_require(t, "pids", F "pids.limit", limit.v < 0);
	return r <= 0 ? r : put_limit(t, F "pids.limit", "pids.max", limit.v == 0 ? 1 : limit.v);
}

static int check_page_size(const char *size)
{
	size_t digits = strspn(size, "0123456789");
	const char *unit = size + digits;

	if (digits == 0 || digits > 6 ||
		!(streq(unit, "KB") || streq(unit, "MB") || streq(unit, "GB")))
		return err_set(EINVAL,
			F "hugepageLimits: pageSize: expected a size such as \"2MB\" or \"1GB\", "
			  "found \"%s\"",
			size);
	return 0;
}

/*
 * Limits both the reserved and the used huge pages. The limit on reserved pages makes an excess
 * fail at mmap(2), as the specification wants, and not by SIGBUS. The limit on used pages covers
 * mappings with MAP_NORESERVE, which reserve no pages. A kernel before 5.7 does not count
 * reservations.
 */
static int apply_hugepages(struct cg_target *t, const struct cg_resources *res)
{
	const char *field = F "hugepageLimits";
	char file[64];

	for (size_t i = 0; i < res->nhugepages; i++) {
		const struct cg_hugepage_limit *h = &res->hugepages[i];
		int r = check_page_size(h->page_size);
		if (r == 0)
			r = cg_require(t, "hugetlb", field, false);
		if (r <= 0)
			return r;
		snprintf(file, sizeof(file), "hugetlb.%s.max", h->page_size);
		if (faccessat(t->dir, file, F_OK, 0) < 0)
			return err_set(EINVAL,
				"%s: pageSize \"%s\": this machine has no huge pages of that size "
				"(/sys/kernel/mm/hugepages lists them)",
				field, h->page_size);
		r = cg_put(t, field, file, "%" PRIu64, h->limit);
		if (r < 0)
			return r;
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.max", h->page_size);
		if (faccessat(t->dir, file, F_OK, 0) == 0)
			r = cg_put(t, field, file, "%" PRIu64, h->limit);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_rdma(struct cg_target *t, const struct cg_resources *res)
{
	char handles[48], objects[48];

	for (size_t i = 0; i < res->nrdma; i++) {
		const struct cg_rdma_limit *d = &res->rdma[i];
		if (!*d->device || strpbrk(d->device, " \n"))
			return err_set(EINVAL,
				F "rdma: expected a device name such as \"mlx5_1\", found \"%s\"",
				d->device);
		if (!d->hca_handles.set && !d->hca_objects.set)
			return err_set(EINVAL,
				F "rdma: device \"%s\": expected hcaHandles or hcaObjects, found "
				  "neither",
				d->device);
		int r = cg_require(t, "rdma", F "rdma", false);
		if (r <= 0)
			return r;
		handles[0] = objects[0] = '\0';
		if (d->hca_handles.set)
			snprintf(
				handles, sizeof(handles), " hca_handle=%" PRIu64, d->hca_handles.v);
		if (d->hca_objects.set)
			snprintf(
				objects, sizeof(objects), " hca_object=%" PRIu64, d->hca_objects.v);
		r = cg_put(t, F "rdma", "rdma.max", "%s%s%s", d->device, handles, objects);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Writes a value line by line, because files such as io.max accept one line with each write. A 0
 * for pids.max becomes 1, because with 0 the container's first process could not be made.
 */
static int put_lines(struct cg_target *t, const char *field, const struct cg_unified *u)
{
	const char *line = u->value;
	uint64_t n;

	if (streq(u->file, "pids.max") && str_to_u64(line, &n) >= 0 && n == 0)
		line = "1";

	do {
		size_t len = strcspn(line, "\n");
		if (len || !*u->value) {
			int r = cg_put(t, field, u->file, "%.*s", (int)len, line);
			if (r < 0)
				return r;
		}
		line += len;
	} while (*line++ && *line);
	return 0;
}

static int apply_unified(struct cg_target *t, const struct cg_resources *res)
{
	char field[128], controller[64];
	size_t len;

	for (size_t i = 0; i < res->nunified; i++) {
		const struct cg_unified *u = &res->unified[i];
		int r = cg_check_unified(u->file, &len);
		if (r < 0)
			return r;
		snprintf(field, sizeof(field), F "unified[\"%.80s\"]", u->file);
		if (len >= sizeof(controller))
			return err_set(EINVAL,
				"%s: found a controller name of %zu bytes, expected at most %zu",
				field, len, sizeof(controller) - 1);
		memcpy(controller, u->file, len);
		controller[len] = '\0';
		/*
		 * The cgroup.* files and the *.pressure files belong to no controller, so no
		 * controller has to be enabled for them.
		 */
		const char *dot = u->file + len;
		if (!streq(controller, "cgroup") && !streq(dot, ".pressure"))
			r = cg_require(t, controller, field, cg_is_default(u));
		else
			r = 1;
		if (r > 0)
			r = put_lines(t, field, u);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Refuses or ignores settings that only cgroup v1 has. The specification wants an error for a
 * setting that cannot be converted, and crun reports one. Kernel memory limits are ignored with a
 * warning, as with runc, because even cgroup v1 has dropped them.
 */
static int check_v1_only(const struct cgroup *cg, const struct cg_resources *res)
{
	const struct {
		bool set;
		const char *field, *instead;
	} refused[] = {
		{res->memory.swappiness.set, "memory.swappiness",
			"sysctl vm.swappiness of the host"},
		{res->memory.disable_oom_killer.v, "memory.disableOOMKiller",
			"process.oomScoreAdj"},
		{is_given(res->cpu.realtime_runtime), "cpu.realtimeRuntime", "cpu.quota"},
		{res->cpu.realtime_period.v != 0, "cpu.realtimePeriod", "cpu.period"},
		{res->block_io.leaf_weight.v != 0, "blockIO.leafWeight", "blockIO.weight"},
		{res->block_io.leaf_weight_device.n != 0, "blockIO.weightDevice[].leafWeight",
			"blockIO.weightDevice[].weight"},
		{res->net_class_id.v != 0, "network.classID", "a classifier by cgroup path"},
		{res->nnet_priorities != 0, "network.priorities", "a classifier by cgroup path"},
	};

	if (is_given(res->memory.kernel) || is_given(res->memory.kernel_tcp))
		log_warn(
			F "memory.kernel and kernelTCP are ignored: cgroup v2 counts kernel memory "
			  "in memory.limit");
	if (res->memory.use_hierarchy.set && !res->memory.use_hierarchy.v)
		log_warn(F "memory.useHierarchy is ignored: cgroup v2 is always hierarchical");
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		if (!refused[i].set)
			continue;
		if (!cg->lenient)
			return err_set(EOPNOTSUPP,
				F "%s: cgroup v2 has no such setting; take it out, or use %s",
				refused[i].field, refused[i].instead);
		log_warn("limit not applied: " F "%s: cgroup v2 has no such setting",
			refused[i].field);
	}
	return 0;
}

/*
 * Returns whether systemd must be told the limits. A scope that was just started knows its limits
 * already, except those that depend on the contents of the cgroup's files.
 */
static bool tell_systemd(const struct cgroup *cg, const struct cg_resources *res)
{
	return cg->manager == CG_SYSTEMD &&
	       (!cg->unit_current || res->nunified || res->block_io.weight.v ||
		       res->block_io.weight_device.n);
}

int cg_apply_noting(const struct cgroup *cg, const struct cg_resources *res, struct cg_undo *undo)
{
	/* cg_change() cannot take the devices back, so they come last. */
	static int (*const groups[])(struct cg_target *, const struct cg_resources *) = {apply_pids,
		apply_memory, cg_apply_io, apply_cpu, apply_hugepages, apply_rdma, apply_unified,
		cg_apply_devices};
	struct cg_target t = {.cg = cg, .undo = undo};

	/*
	 * Writes nothing without a cgroup, because cg_create() has reported the missing cgroup if
	 * limits were asked for.
	 */
	if (!cg->path)
		return 0;
	int r = check_v1_only(cg, res);
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	t.dir = dir;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		r = groups[i](&t, res);
		if (r < 0)
			return r;
	}
	return tell_systemd(cg, res) ? cg_systemd_update(cg) : 0;
}
