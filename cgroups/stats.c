/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the "data" object of `events --stats` in the shape of runc's types/events.go, which
 * containerd, docker and cAdvisor read. The object has the layout of cgroup v1, and its numbers
 * come from the files of cgroup v2, converted as runc converts them. As with runc, PSI is inside
 * cpu, memory and blkio. "cgroup2" has the values that only cgroup v2 has, under the kernel's own
 * names.
 *
 * If a file does not exist, because its controller is not enabled, the numbers that come from it
 * are zeros, as with runc.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "cgroups/cg_internal.h"

#define FILE_MAX 65536

struct text {
	char s[FILE_MAX];
};

static bool is_missing(int r)
{
	/*
	 * Counts EOPNOTSUPP as a missing file, because some kernels answer it if PSI is switched
	 * off.
	 */
	return r == -ENOENT || r == -ENODEV || r == -EOPNOTSUPP;
}

/* Reads a file that may be missing. Returns 1, or 0 if there is no such file. */
static int read_optional(int dir, const char *file, struct text *t)
{
	int r = cg_read(dir, file, t->s, sizeof(t->s));

	if (is_missing(r)) {
		err_clear();
		return 0;
	}
	return r < 0 ? r : 1;
}

static uint64_t key_of(const char *text, const char *key)
{
	uint64_t v = 0;

	return cg_find_key(text, key, &v) < 0 ? 0 : v;
}

/* Reads a file that has one number. Returns the number, or 0 if there is no such file. */
static uint64_t number_of(int dir, const char *file)
{
	uint64_t v = 0;

	if (cg_read_u64(dir, file, &v) < 0) {
		err_clear();
		return 0;
	}
	return v;
}

/* Writes an object that has each "key value" line of the text as a member. */
static void put_flat(struct json_out *o, const char *key, const char *text)
{
	char name[64];

	json_out_object(o, key);
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		size_t n = strcspn(p, " \n");
		if (n == 0 || n >= sizeof(name) || p[n] != ' ')
			continue;
		memcpy(name, p, n);
		name[n] = '\0';
		if (strncmp(p + n + 1, "max", 3) == 0)
			json_out_str(o, name, "max");
		else
			json_out_u64(o, name, strtoull(p + n + 1, NULL, 10));
	}
	json_out_end_object(o);
}

static void put_pressure_line(struct json_out *o, const char *name, const char *line)
{
	double avg[3] = {0};
	unsigned long long total = 0;

	if (sscanf(line, "%*s avg10=%lf avg60=%lf avg300=%lf total=%llu", &avg[0], &avg[1], &avg[2],
		    &total) != 4)
		return;
	json_out_object(o, name);
	json_out_double(o, "avg10", avg[0]);
	json_out_double(o, "avg60", avg[1]);
	json_out_double(o, "avg300", avg[2]);
	json_out_u64(o, "total", total);
	json_out_end_object(o);
}

/*
 * Writes the object "psi" from a PSI file, which has two lines: "some avg10=0.00 avg60=0.00
 * avg300=0.00 total=0" and a line of the same form that begins with "full".
 */
static int put_psi(int dir, const char *file, struct json_out *o)
{
	char text[512];
	int r = cg_read(dir, file, text, sizeof(text));

	if (is_missing(r)) {
		err_clear();
		return 0;
	}
	if (r < 0)
		return r;
	const char *full = strstr(text, "full ");
	json_out_object(o, "psi");
	put_pressure_line(o, "some", text);
	if (full)
		put_pressure_line(o, "full", full);
	json_out_end_object(o);
	return 0;
}

static int put_cpu(int dir, struct json_out *o, struct text *t)
{
	int r = read_optional(dir, "cpu.stat", t);

	if (r < 0)
		return r;
	if (r == 0)
		t->s[0] = '\0';
	json_out_object(o, "cpu");
	json_out_object(o, "usage"); /* the numbers in this object are in nanoseconds */
	json_out_u64(o, "total", key_of(t->s, "usage_usec") * 1000);
	json_out_u64(o, "kernel", key_of(t->s, "system_usec") * 1000);
	json_out_u64(o, "user", key_of(t->s, "user_usec") * 1000);
	json_out_end_object(o);
	json_out_object(o, "throttling");
	json_out_u64(o, "periods", key_of(t->s, "nr_periods"));
	json_out_u64(o, "throttledPeriods", key_of(t->s, "nr_throttled"));
	json_out_u64(o, "throttledTime", key_of(t->s, "throttled_usec") * 1000);
	json_out_end_object(o);
	r = put_psi(dir, "cpu.pressure", o);
	json_out_end_object(o);
	return r;
}

/* Writes a list such as "0-2,5" as an array of its numbers. */
static void put_list(struct json_out *o, const char *key, const char *list)
{
	json_out_array(o, key);
	for (const char *p = list; *p >= '0' && *p <= '9';) {
		char *end;
		unsigned long first = strtoul(p, &end, 10), last = first;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && first < UINT16_MAX; first++)
			json_out_u64(o, NULL, first);
		p = *end == ',' ? end + 1 : end;
	}
	json_out_end_array(o);
}

/* Writes the object "cpuset". As with runc, the values that only cgroup v1 has are zeros. */
static int put_cpuset(int dir, struct json_out *o, struct text *t)
{
	static const char *const v1_only[] = {"cpu_exclusive", "mem_hardwall", "mem_exclusive",
		"memory_migrate", "memory_spread_page", "memory_spread_slab", "memory_pressure",
		"sched_load_balance", "sched_relax_domain_level"};

	json_out_object(o, "cpuset");
	int r = read_optional(dir, "cpuset.cpus.effective", t);
	if (r > 0)
		put_list(o, "cpus", t->s);
	if (r >= 0)
		r = read_optional(dir, "cpuset.mems.effective", t);
	if (r > 0)
		put_list(o, "mems", t->s);
	for (size_t i = 0; i < ARRAY_SIZE(v1_only); i++)
		json_out_u64(o, v1_only[i], 0);
	json_out_end_object(o);
	return r < 0 ? r : 0;
}

static void put_memory_entry(struct json_out *o, const char *key, uint64_t limit, uint64_t usage,
	uint64_t max, uint64_t failures)
{
	json_out_object(o, key);
	json_out_u64(o, "limit", limit);
	json_out_u64(o, "usage", usage);
	json_out_u64(o, "max", max);
	json_out_u64(o, "failcnt", failures);
	json_out_end_object(o);
}

/* Writes the object "memory". The object's swap counts include memory, as on cgroup v1. */
static int put_memory(int dir, struct json_out *o, struct text *t)
{
	uint64_t usage = number_of(dir, "memory.current"), limit = number_of(dir, "memory.max");
	uint64_t swap_usage = number_of(dir, "memory.swap.current"),
		 swap_limit = number_of(dir, "memory.swap.max"), both = UINT64_MAX;
	int r = read_optional(dir, "memory.events", t);

	if (r < 0)
		return r;
	uint64_t failures = r > 0 ? key_of(t->s, "max") : 0;
	if (limit != UINT64_MAX && swap_limit != UINT64_MAX)
		both = limit + swap_limit;
	json_out_object(o, "memory");
	r = read_optional(dir, "memory.stat", t);
	if (r <= 0)
		t->s[0] = '\0';
	json_out_u64(o, "cache", key_of(t->s, "file"));
	put_memory_entry(o, "usage", limit, usage, number_of(dir, "memory.peak"), failures);
	put_memory_entry(o, "swap", both, usage + swap_usage, 0, 0);
	put_memory_entry(o, "kernel", 0, 0, 0, 0);
	put_memory_entry(o, "kernelTCP", 0, 0, 0, 0);
	put_flat(o, "raw", t->s);
	if (r >= 0)
		r = put_psi(dir, "memory.pressure", o);
	json_out_end_object(o);
	return r;
}

static int put_pids(int dir, struct json_out *o, struct text *t)
{
	uint64_t current, limit = number_of(dir, "pids.max");
	int r = cg_read_u64(dir, "pids.current", &current);

	if (is_missing(r)) {
		/*
		 * Counts the lines of cgroup.procs if the cgroup has no pids controller, as runc
		 * does.
		 */
		r = read_optional(dir, "cgroup.procs", t);
		current = r > 0 && *t->s ? 1 : 0;
		for (const char *p = r > 0 ? t->s : ""; *p; p++)
			current += *p == '\n';
	}
	if (r < 0)
		return r;
	json_out_object(o, "pids");
	json_out_u64(o, "current", current);
	/* the member "limit" is 0 if there is no limit, as in runc */
	json_out_u64(o, "limit", limit == UINT64_MAX ? 0 : limit);
	json_out_end_object(o);
	return 0;
}

/*
 * Writes a list in the form of cgroup v1. The values are those of two keys in lines such as "8:0
 * rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
 */
static void put_io_list(
	struct json_out *o, const char *key, const char *text, const char *const keys[2])
{
	static const char *const ops[2] = {"Read", "Write"};
	unsigned long long major, minor;
	char find[32];

	json_out_array(o, key);
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		if (sscanf(p, "%llu:%llu", &major, &minor) != 2)
			continue;
		for (int i = 0; i < 2; i++) {
			snprintf(find, sizeof(find), " %s=", keys[i]);
			const char *at = strstr(p, find);
			if (!at || at > p + strcspn(p, "\n"))
				continue;
			json_out_object(o, NULL);
			json_out_u64(o, "major", major);
			json_out_u64(o, "minor", minor);
			json_out_str(o, "op", ops[i]);
			json_out_u64(o, "value", strtoull(at + strlen(find), NULL, 10));
			json_out_end_object(o);
		}
	}
	json_out_end_array(o);
}

static int put_blkio(int dir, struct json_out *o, struct text *t)
{
	int r = read_optional(dir, "io.stat", t);

	if (r < 0)
		return r;
	if (r == 0)
		t->s[0] = '\0';
	json_out_object(o, "blkio");
	put_io_list(o, "ioServiceBytesRecursive", t->s, (const char *const[]){"rbytes", "wbytes"});
	put_io_list(o, "ioServicedRecursive", t->s, (const char *const[]){"rios", "wios"});
	r = put_psi(dir, "io.pressure", o);
	json_out_end_object(o);
	return r;
}

/*
 * Writes the object "hugetlb". The page sizes come from the names of the files
 * hugetlb.SIZE.current. Like runc, caisson reports reserved pages if the kernel counts them.
 */
static void put_hugetlb(int dir, struct json_out *o, struct text *t)
{
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	char file[300], size[32];
	int end;

	json_out_object(o, "hugetlb");
	for (struct dirent *e; d && (e = readdir(d));) {
		end = 0;
		if (sscanf(e->d_name, "hugetlb.%31[0-9KMGB].current%n", size, &end) != 1 || !end ||
			e->d_name[end])
			continue;
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.current", size);
		if (faccessat(dir, file, F_OK, 0) < 0)
			snprintf(file, sizeof(file), "hugetlb.%s.current", size);
		uint64_t usage = number_of(dir, file);
		snprintf(file, sizeof(file), "hugetlb.%s.events", size);
		bool events = read_optional(dir, file, t) > 0;
		json_out_object(o, size);
		json_out_u64(o, "usage", usage);
		json_out_u64(o, "max", 0);
		json_out_u64(o, "failcnt", events ? key_of(t->s, "max") : 0);
		json_out_end_object(o);
	}
	json_out_end_object(o);
	if (d)
		closedir(d);
	else
		fd_close(&again);
}

static int put_cgroup2(int dir, struct json_out *o, struct text *t)
{
	static const char *const flat[] = {"cpu.stat", "memory.events", "memory.swap.events",
		"pids.events", "cgroup.events", "cgroup.stat", "misc.current"};
	static const char *const lines[] = {"io.stat", "rdma.current"};
	static const char *const single[] = {"memory.high", "memory.low", "memory.min",
		"memory.peak", "memory.swap.peak", "memory.zswap.current", "pids.peak",
		"cpu.weight"};
	int r = 0;

	json_out_object(o, "cgroup2");
	for (size_t i = 0; i < ARRAY_SIZE(flat) && r >= 0; i++)
		if ((r = read_optional(dir, flat[i], t)) > 0)
			put_flat(o, flat[i], t->s);
	for (size_t i = 0; i < ARRAY_SIZE(lines) && r >= 0; i++)
		if ((r = read_optional(dir, lines[i], t)) > 0)
			json_out_str(o, lines[i], t->s);
	for (size_t i = 0; i < ARRAY_SIZE(single) && r >= 0; i++) {
		r = read_optional(dir, single[i], t);
		if (r > 0 && streq(t->s, "max"))
			json_out_str(o, single[i], "max");
		else if (r > 0)
			json_out_u64(o, single[i], strtoull(t->s, NULL, 10));
	}
	json_out_end_object(o);
	return r < 0 ? r : 0;
}

int cg_stats(const struct cgroup *cg, struct json_out *o)
{
	static int (*const parts[])(int, struct json_out *, struct text *) = {
		put_cpu, put_cpuset, put_memory, put_pids, put_blkio};
	int r = 0;

	if (!cg->path)
		return err_set(ENOENT, "the container has no cgroup, and so no statistics");
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	_cleanup_free_ struct text *t = malloc(sizeof(*t));
	if (!t)
		return err_set(ENOMEM, "out of memory");
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
		r = parts[i](dir, o, t);
	if (r < 0)
		return r;
	put_hugetlb(dir, o, t);
	/*
	 * The objects "intel_rdt" and "network_interfaces" are empty here, because their numbers do
	 * not come from cgroups.
	 */
	json_out_object(o, "intel_rdt");
	json_out_end_object(o);
	json_out_null(o, "network_interfaces");
	return put_cgroup2(dir, o, t);
}
