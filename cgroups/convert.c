/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Converts values and names to what cgroup v2 and systemd expect. All functions are pure: they make
 * no system calls.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cgroups/cg_internal.h"

#define SHARES_MAX 262144
#define SHARES_MIN 2
#define WEIGHT_MAX 10000

/*
 * Returns the binary logarithm of v, which is at least 1. The logarithm is computed bit by bit,
 * because linking libm for this one formula would make the program larger.
 */
static double log2_of(double v)
{
	double result = 0, bit = 0.5;

	while (v >= 2) {
		v /= 2;
		result += 1;
	}
	for (int i = 0; i < 52; i++, bit /= 2) {
		v *= v;
		if (v >= 2) {
			v /= 2;
			result += bit;
		}
	}
	return result;
}

static double power_of_10(double exponent)
{
	const double ln10 = 2.302585092994045684;
	double result = 1;

	for (; exponent >= 1; exponent -= 1)
		result *= 10;
	double x = exponent * ln10, term = 1, sum = 1;
	for (int i = 1; i < 40; i++) {
		term *= x / i;
		sum += term;
	}
	return result * sum;
}

/*
 * Computes cpu.weight from cpu.shares as runc 1.3.2 and crun 1.23 (2025) do: by the quadratic
 * through (2, 1), (1024, 100) and (262144, 10000) in logarithmic space. An older formula of runc
 * and crun, 1 + (shares - 2) * 9999 / 262142, made the default of 1024 shares a weight of 39, so
 * that such a container got less than the other processes of the host, whose default is 100.
 */
uint64_t cg_weight_from_shares(uint64_t shares)
{
	if (shares <= SHARES_MIN)
		return shares ? 1 : 0;
	if (shares >= SHARES_MAX)
		return WEIGHT_MAX;
	double l = log2_of((double)shares);
	double weight = power_of_10((l * l + 125 * l) / 612.0 - 7.0 / 34.0);
	uint64_t floor = (uint64_t)weight;
	/*
	 * The weight is rounded up, unless it is above a whole number only because of rounding
	 * errors of the double.
	 */
	return weight - (double)floor > 1e-9 * weight ? floor + 1 : floor;
}

uint64_t cg_io_weight_from_blkio(uint64_t weight)
{
	return 1 + (weight - 10) * 9999 / 990;
}

int cg_swap_from_spec(struct opt_i64 limit, struct opt_i64 swap, int64_t *ret)
{
	const char *field = "linux.resources.memory.swap";
	bool limited = limit.set && limit.v != 0;

	if (!swap.set || swap.v == 0) {
		/*
		 * Without a limit of swap, swap is unlimited (-1) if memory is unlimited, as on
		 * cgroup v1.
		 */
		*ret = -1;
		return limited && limit.v < 0;
	}
	*ret = swap.v;
	if (swap.v < -1)
		return err_set(EINVAL,
			"%s: expected -1 (unlimited) or a number of bytes, found %lld", field,
			(long long)swap.v);
	if (swap.v == -1 || (limited && limit.v < 0))
		return 1;
	if (!limited)
		return err_set(EINVAL,
			"%s is memory and swap together and needs memory.limit, which is not set",
			field);
	if (swap.v < limit.v)
		return err_set(EINVAL,
			"%s is memory and swap together: expected at least memory.limit, %lld, "
			"found %lld",
			field, (long long)limit.v, (long long)swap.v);
	*ret = swap.v - limit.v;
	return 1;
}

int cg_clean_path(struct arena *a, const char *path, const char **ret)
{
	char *out = arena_alloc(a, strlen(path) + 2);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	while (*path) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");
		if (len == 2 && memcmp(path, "..", 2) == 0)
			return err_set(EINVAL, "a cgroup path must not have \"..\" in it");
		if (len > NAME_MAX)
			return err_set(ENAMETOOLONG,
				"a cgroup name has %zu bytes, more than the %d allowed", len,
				NAME_MAX);
		for (size_t i = 0; i < len; i++)
			if ((unsigned char)path[i] < ' ' || path[i] == 0x7f)
				return err_set(EINVAL,
					"a cgroup path must not have control characters in it");
		if (len > 0 && !(len == 1 && *path == '.')) {
			out[n++] = '/';
			memcpy(out + n, path, len);
			n += len;
		}
		path += len;
	}
	if (n == 0)
		out[n++] = '/';
	if (n >= PATH_MAX / 2)
		return err_set(ENAMETOOLONG, "a cgroup path has %zu bytes, more than %d", n,
			PATH_MAX / 2 - 1);
	*ret = out;
	return 0;
}

int cg_expand_slice(struct arena *a, const char *slice, const char **ret)
{
	const char *suffix = ".slice";
	size_t len = strlen(slice), stem = len - strlen(suffix);
	_cleanup_strbuf_ struct strbuf path = {0};

	if (len <= strlen(suffix) || !streq(slice + stem, suffix) || strchr(slice, '/'))
		return err_set(EINVAL,
			"\"%s\" is not a systemd slice: expected a name such as "
			"\"machine.slice\"",
			slice);
	if (streq(slice, "-.slice")) {
		*ret = "/";
		return 0;
	}
	for (size_t at = 0; at < stem;) {
		size_t n = 0;
		while (at + n < stem && slice[at + n] != '-')
			n++;
		at += n;
		if (n == 0 || (at + 1 == stem && slice[at] == '-'))
			return err_set(EINVAL,
				"\"%s\" is not a systemd slice: an empty part beside a dash",
				slice);
		int r = strbuf_addf(&path, "/%.*s%s", (int)at, slice, suffix);
		if (r < 0)
			return r;
		at++;
	}
	*ret = arena_strdup(a, strbuf_str(&path));
	return *ret ? 0 : -ENOMEM;
}

/* Checks that systemd accepts the name of the unit as it is, without escapes. */
static int check_unit(const char *name)
{
	const char *good = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";
	size_t bad = strspn(name, good);

	if (strlen(name) > 255)
		return err_set(
			EINVAL, "systemd unit name \"%.40s...\" is longer than 255 bytes", name);
	if (name[bad])
		return err_set(EINVAL,
			"systemd unit name \"%s\": the character '%c' is not allowed", name,
			name[bad]);
	return 0;
}

int cg_default_name(struct arena *a, const char *id, const char **ret)
{
	static const char prefix[] = "caisson-", suffix[] = ".scope";
	uint64_t hash = 0xcbf29ce484222325; /* start value of the FNV-1a hash function */

	if (strlen(prefix) + strlen(id) + strlen(suffix) <= NAME_MAX) {
		*ret = arena_printf(a, "%s%s", prefix, id);
		return *ret ? 0 : -ENOMEM;
	}
	for (const char *p = id; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3;
	*ret = arena_printf(a, "%s%.180s-%016" PRIx64, prefix, id, hash);
	return *ret ? 0 : -ENOMEM;
}

int cg_scope_names(struct arena *a, const struct cg_options *opt, bool user, struct cgroup *ret)
{
	const char *path = opt->cgroups_path, *expanded;
	const char *slice = user ? "user.slice" : "system.slice";

	if (!path || !*path) {
		const char *name;
		int r = cg_default_name(a, opt->id, &name);
		if (r < 0)
			return r;
		ret->scope = arena_printf(a, "%s.scope", name);
	} else {
		const char *first = strchr(path, ':'),
			   *second = first ? strchr(first + 1, ':') : NULL;
		if (!second || strchr(second + 1, ':') || !second[1])
			return err_set(EINVAL,
				"linux.cgroupsPath: with the systemd cgroup manager expected "
				"\"slice:prefix:name\", such as \"machine.slice:caisson:web\", "
				"found \"%s\"",
				path);
		if (first > path)
			slice = arena_strndup(a, path, (size_t)(first - path));
		const char *prefix = first + 1, *name = second + 1;
		int len = (int)(second - prefix);
		/*
		 * The name must not end in .slice, because systemd takes such a name for a slice,
		 * which cannot hold processes.
		 */
		if (strlen(name) > 6 && streq(name + strlen(name) - 6, ".slice"))
			return err_set(EINVAL,
				"linux.cgroupsPath: \"%s\" names a slice; a container needs a "
				"scope",
				path);
		ret->scope = len ? arena_printf(a, "%.*s-%s.scope", len, prefix, name)
				 : arena_printf(a, "%s.scope", name);
	}
	ret->slice = slice;
	if (!ret->scope || !ret->slice)
		return -ENOMEM;
	int r = check_unit(ret->scope);
	if (r == 0)
		r = check_unit(ret->slice);
	if (r == 0)
		r = cg_expand_slice(a, ret->slice, &expanded);
	return r < 0 ? err_ctx(r, "linux.cgroupsPath") : 0;
}

int cg_check_unified(const char *file, size_t *ret_len)
{
	static const char *const actions[] = {
		"cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze"};
	size_t dot = strcspn(file, ".");

	if (strchr(file, '/'))
		return err_set(EINVAL,
			"linux.resources.unified: \"%s\" must be a file name, without slashes",
			file);
	if (dot == 0 || !file[dot] || !file[dot + 1])
		return err_set(EINVAL,
			"linux.resources.unified: expected CONTROLLER.PARAMETER, such as "
			"memory.high, found \"%s\"",
			file);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (streq(file, actions[i]))
			return err_set(EINVAL,
				"linux.resources.unified: \"%s\" is an action, not a setting: only "
				"the runtime may write it",
				file);
	*ret_len = dot;
	return 0;
}

bool cg_is_default(const struct cg_unified *u)
{
	static const struct {
		const char *file, *value;
	} defaults[] = {
		{"cpu.weight", "100"},
		{"cpu.weight.nice", "0"},
		{"cpu.max", "max"},
		{"cpu.max", "max 100000"},
		{"cpu.max.burst", "0"},
		{"cpu.idle", "0"},
		{"io.weight", "100"},
		{"io.weight", "default 100"},
		{"memory.min", "0"},
		{"memory.low", "0"},
		{"memory.high", "max"},
		{"memory.max", "max"},
		{"memory.swap.high", "max"},
		{"memory.swap.max", "max"},
		{"memory.zswap.max", "max"},
		{"memory.oom.group", "0"},
		{"pids.max", "max"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		if (streq(u->file, defaults[i].file) && streq(u->value, defaults[i].value))
			return true;
	return str_starts(u->file, "hugetlb.") && streq(u->value, "max");
}

static bool wants_unified(const struct cg_resources *res)
{
	for (size_t i = 0; i < res->nunified; i++)
		if (!cg_is_default(&res->unified[i]))
			return true;
	return false;
}

static bool wants_cpu(const struct cg_resources *res)
{
	const __typeof__(res->cpu) *c = &res->cpu;

	return (c->shares.v && c->shares.v != CG_SHARES_DEFAULT) || c->quota.v > 0 ||
	       (c->period.v && c->period.v != CG_PERIOD_DEFAULT) || c->burst.v || c->idle.v > 0 ||
	       (c->cpus && *c->cpus) || (c->mems && *c->mems);
}

static bool above_zero(struct opt_i64 v)
{
	return v.set && v.v > 0;
}

bool cg_wants_limits(const struct cg_resources *res)
{
	const __typeof__(res->block_io) *io = &res->block_io;

	return above_zero(res->memory.limit) || above_zero(res->memory.reservation) ||
	       above_zero(res->memory.swap) || wants_cpu(res) ||
	       (res->pids_limit.set && res->pids_limit.v >= 0) ||
	       (io->weight.set && io->weight.v > 0) || io->weight_device.n ||
	       io->throttle_read_bps.n || io->throttle_write_bps.n || io->throttle_read_iops.n ||
	       io->throttle_write_iops.n || res->nhugepages || res->nrdma || wants_unified(res);
}
