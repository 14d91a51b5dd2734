/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells systemd the limits of a scope after they have changed.
 *
 * Theory of operation. With each change of a property, and on daemon-reload, systemd writes all
 * control files that it has properties for, with the values that it remembers. Therefore, after
 * cg_apply() has written the files, caisson tells systemd what the files contain. This includes
 * values that an update did not mention (the period of a quota, the memory limit of a swap limit)
 * and values that `unified` wrote. Two kinds of values do not survive a write by systemd: systemd
 * rounds cpu.max to whole percents, and it writes memory.oom.group and other files without having a
 * property for them. caisson writes these files again afterwards.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"
#include "cgroups/systemd/sdbus.h"

#define TEXT_MAX 4096
#define BFQ_DEFAULT 100

typedef int put_fn(struct sdbus *s, sd_bus_message *m, const char *property, const char *text);

static int put_number(struct sdbus *s, sd_bus_message *m, const char *property, const char *text)
{
	uint64_t v = UINT64_MAX;
	int r = streq(text, "max") ? 0 : str_to_u64(text, &v);

	if (r < 0)
		return err_set(EIO, "systemd property %s: expected a number, found \"%.80s\"",
			property, text);
	/* systemd refuses TasksMax=0, so caisson sends 1 instead. */
	return sd_put(s, m, property, "t", v == 0 && streq(property, "TasksMax") ? 1 : v);
}

/* Adds the weight of the CPU. A weight of 0 stands for an idle cgroup, as systemd has it too. */
static int put_weight(struct sdbus *s, sd_bus_message *m, const char *property, const char *text)
{
	return streq(text, "0") ? sd_put_idle(s, m) : put_number(s, m, property, text);
}

static int put_quota(struct sdbus *s, sd_bus_message *m, const char *property, const char *text)
{
	uint64_t period;
	int64_t quota = -1;

	if (sscanf(text, "max %" SCNu64, &period) != 1 &&
		sscanf(text, "%" SCNd64 " %" SCNu64, &quota, &period) != 2)
		return err_set(EIO, "systemd property %s: expected a quota, found \"%.80s\"",
			property, text);
	int r = sd_put(s, m, "CPUQuotaPeriodUSec", "t", period);
	return r < 0 ? r : sd_put_quota(s, m, quota, period);
}

/*
 * Adds a list of CPUs or memory nodes. An empty list needs no property, because systemd's default
 * is empty.
 */
static int put_list(struct sdbus *s, sd_bus_message *m, const char *property, const char *text)
{
	return sd_put_mask(s, m, property, text);
}

/*
 * The control files that systemd writes in a scope. If systemd has no property for a file, caisson
 * can only write the file again after systemd has written it.
 */
static const struct held_file {
	const char *file, *property;
	put_fn *put;
} files[] = {{"memory.min", "MemoryMin", put_number}, {"memory.low", "MemoryLow", put_number},
	{"memory.high", "MemoryHigh", put_number}, {"memory.max", "MemoryMax", put_number},
	{"memory.swap.max", "MemorySwapMax", put_number}, {"memory.zswap.max", NULL, NULL},
	{"memory.oom.group", NULL, NULL}, {"cpu.weight", "CPUWeight", put_weight},
	{"cpu.max", "CPUQuotaPerSecUSec", put_quota}, {"pids.max", "TasksMax", put_number},
	{"cpuset.cpus", "AllowedCPUs", put_list}, {"cpuset.mems", "AllowedMemoryNodes", put_list},
	{"io.weight", NULL, NULL}, {"io.bfq.weight", NULL, NULL}};

struct sd_held {
	/*
	 * Contents of each control file of the table `files`; NULL for a file that does not exist.
	 */
	const char *text[ARRAY_SIZE(files)];
};

/*
 * The cpu.weight of an idle cgroup reads as 0 up to Linux 6.11, and as 1 since Linux 6.12, so that
 * only cpu.idle tells it from a cgroup with the least weight. read_all() stores 0 with any kernel.
 */
static bool is_idle(int dir)
{
	uint64_t idle;

	return cg_read_u64(dir, "cpu.idle", &idle) == 0 && idle == 1;
}

static int read_all(struct arena *a, int dir, struct sd_held *ret)
{
	char text[TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int r = cg_read(dir, files[i].file, text, sizeof(text));
		ret->text[i] = NULL;
		if (r == -ENOENT || r == -ENODEV || r == -EOPNOTSUPP)
			continue;
		if (r < 0)
			return err_ctx(r, "read %s", files[i].file);
		bool idle = streq(files[i].file, "cpu.weight") && is_idle(dir);
		ret->text[i] = arena_strdup(a, idle ? "0" : text);
		if (!ret->text[i])
			return -ENOMEM;
	}
	return 0;
}

static const char *text_of(const struct sd_held *held, const char *file)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (streq(files[i].file, file))
			return held->text[i];
	return NULL;
}

/*
 * Computes systemd's weight, from 1 to 10000, from io.bfq.weight, from 1 to 1000. Both weights have
 * the default 100. systemd converts in the other direction by two straight lines, which meet at the
 * default.
 */
static uint64_t from_bfq(uint64_t weight)
{
	return weight <= BFQ_DEFAULT ? weight : BFQ_DEFAULT + (weight - BFQ_DEFAULT) * 11;
}

/*
 * Adds the "MAJOR:MINOR WEIGHT" lines. systemd takes the numbers from the name
 * /dev/block/MAJOR:MINOR, so a file of that name need not exist.
 */
static int put_device_weights(struct sdbus *s, sd_bus_message *m, const char *text, bool bfq)
{
	unsigned major, minor;
	uint64_t weight;
	char path[64];
	int r = s->sd_bus_message_open_container(m, 'r', "sv");

	if (r >= 0)
		r = s->sd_bus_message_append_basic(m, 's', "IODeviceWeight");
	if (r >= 0)
		r = s->sd_bus_message_open_container(m, 'v', "a(st)");
	if (r >= 0)
		r = s->sd_bus_message_open_container(m, 'a', "(st)");
	for (const char *p = text; r >= 0 && *p; p += strcspn(p, "\n"), p += *p == '\n') {
		if (sscanf(p, "%u:%u %" SCNu64, &major, &minor, &weight) != 3)
			continue;
		snprintf(path, sizeof(path), "/dev/block/%u:%u", major, minor);
		r = s->sd_bus_message_append(m, "(st)", path, bfq ? from_bfq(weight) : weight);
	}
	for (int i = 0; i < 3 && r >= 0; i++)
		r = s->sd_bus_message_close_container(m);
	return r < 0 ? err_set(-r, "systemd property IODeviceWeight: %s", strerror(-r)) : 0;
}

static int put_io(struct sdbus *s, sd_bus_message *m, const struct sd_held *held)
{
	const char *text = text_of(held, "io.bfq.weight"), *other = text_of(held, "io.weight");
	bool bfq = text && (!other || !streq(text, "default 100"));
	uint64_t weight;

	if (!bfq)
		text = other;
	if (!text || cg_find_key(text, "default", &weight) < 0)
		return 0;
	int r = sd_put(s, m, "IOWeight", "t", bfq ? from_bfq(weight) : weight);
	return r < 0 || !strchr(text, '\n') ? r : put_device_weights(s, m, text, bfq);
}

static int put_lines(int dir, const char *file, const char *text)
{
	char line[TEXT_MAX];
	int r = 0;

	do {
		size_t len = strcspn(text, "\n");
		snprintf(line, sizeof(line), "%.*s", (int)len, text);
		r = cg_write(dir, file, line);
		text += len;
	} while (r >= 0 && *text++);
	return r;
}

int sd_put_held(
	struct sdbus *s, sd_bus_message *m, struct arena *a, int dir, const struct sd_held **ret)
{
	struct sd_held *held = arena_alloc(a, sizeof(*held));
	int r = held ? read_all(a, dir, held) : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(files); i++)
		if (held->text[i] && files[i].put)
			r = files[i].put(s, m, files[i].property, held->text[i]);
	*ret = held;
	return r < 0 ? r : put_io(s, m, held);
}

int sd_put_back(struct arena *a, int dir, const struct sd_held *held, const char *path)
{
	struct sd_held now;
	int r = read_all(a, dir, &now);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(files); i++) {
		const char *was = held->text[i];
		if (!was || !now.text[i] || streq(was, now.text[i]))
			continue;
		log_debug("systemd changed %s from \"%s\" to \"%s\"", files[i].file, was,
			now.text[i]);
		r = put_lines(dir, files[i].file, was);
		if (r < 0)
			return cg_err_file(r, NULL, files[i].file, was, path);
	}
	return r;
}
