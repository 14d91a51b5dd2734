/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses linux.resources (config-linux.md "Control groups"). The file of update --resources holds a
 * resources object, too.
 */
#include <ctype.h>

#include "spec/parse.h"

static const struct spec_name rule_types[] = {{"a", 'a'}, {"b", 'b'}, {"c", 'c'}, {NULL, 0}};

static int check_rule(struct parser *p, const struct json *node, void *obj)
{
	struct cg_device_rule *rule = obj;

	if (!rule->type)
		rule->type = 'a';
	if (!parse_has(node, "major"))
		rule->major = -1;
	if (!parse_has(node, "minor"))
		rule->minor = -1;
	if (!rule->access)
		rule->access = "";
	if (rule->access[strspn(rule->access, "rwm")])
		return parse_error_at(p, "access",
			"expected a composition of r, w and m, found \"%.80s\"", rule->access);
	return 0;
}

static const struct field rule_fields[] = {FIELD(BOOL, "allow", cg_device_rule, allow),
	FIELD(ENUM, "type", cg_device_rule, type, .names = rule_types),
	FIELD(INT, "major", cg_device_rule, major, RANGE(-1, UINT32_MAX)),
	FIELD(INT, "minor", cg_device_rule, minor, RANGE(-1, UINT32_MAX)),
	FIELD(STRING, "access", cg_device_rule, access), {0}};

static const struct object_type rule_type = {
	.size = sizeof(struct cg_device_rule), .fields = rule_fields, .check = check_rule};

/* A row of the table of properties for a memory limit in bytes. -1 stands for unlimited. */
#define MEMORY_LIMIT(name, member) \
	FIELD(OPT_INT, name, cg_resources, memory.member, RANGE(-1, INT64_MAX))

static int check_memory(struct parser *p, const struct json *node, void *obj)
{
	struct cg_resources *res = obj;
	struct opt_u64 *swappiness = &res->memory.swappiness;

	/*
	 * Docker writes -1 for a swappiness that was not given, which is UINT64_MAX as an unsigned
	 * number, so this value counts as absent.
	 */
	if (swappiness->v == UINT64_MAX)
		*swappiness = (struct opt_u64){0};
	if (swappiness->v > 100)
		return parse_error_at(p, "swappiness",
			"expected a number from 0 to 100, found %llu",
			(unsigned long long)swappiness->v);
	return 0;
}

static const struct field memory_fields[] = {MEMORY_LIMIT("limit", limit),
	MEMORY_LIMIT("reservation", reservation), MEMORY_LIMIT("swap", swap),
	MEMORY_LIMIT("kernel", kernel), MEMORY_LIMIT("kernelTCP", kernel_tcp),
	FIELD(OPT_INT, "swappiness", cg_resources, memory.swappiness, RANGE(0, UINT64_MAX)),
	FIELD(OPT_BOOL, "disableOOMKiller", cg_resources, memory.disable_oom_killer),
	FIELD(OPT_BOOL, "useHierarchy", cg_resources, memory.use_hierarchy),
	FIELD(OPT_BOOL, "checkBeforeUpdate", cg_resources, memory.check_before_update), {0}};

static const struct object_type memory_type = {.fields = memory_fields, .check = check_memory};

static int check_cpu(struct parser *p, const struct json *node, void *obj)
{
	const struct cg_resources *res = obj;

	if (res->cpu.burst.set && res->cpu.quota.set && res->cpu.quota.v > 0 &&
		res->cpu.burst.v > (uint64_t)res->cpu.quota.v)
		return parse_error_at(p, "burst", "expected at most the quota, %lld, found %llu",
			(long long)res->cpu.quota.v, (unsigned long long)res->cpu.burst.v);
	return 0;
}

static const struct field cpu_fields[] = {
	FIELD(OPT_INT, "shares", cg_resources, cpu.shares, RANGE(0, UINT64_MAX)),
	FIELD(OPT_INT, "quota", cg_resources, cpu.quota, RANGE(INT64_MIN, INT64_MAX)),
	FIELD(OPT_INT, "burst", cg_resources, cpu.burst, RANGE(0, UINT64_MAX)),
	FIELD(OPT_INT, "period", cg_resources, cpu.period, RANGE(0, UINT64_MAX)),
	FIELD(OPT_INT, "realtimeRuntime", cg_resources, cpu.realtime_runtime,
		RANGE(INT64_MIN, INT64_MAX)),
	FIELD(OPT_INT, "realtimePeriod", cg_resources, cpu.realtime_period, RANGE(0, UINT64_MAX)),
	FIELD(LIST, "cpus", cg_resources, cpu.cpus), FIELD(LIST, "mems", cg_resources, cpu.mems),
	FIELD(OPT_INT, "idle", cg_resources, cpu.idle, RANGE(0, 1)), {0}};

static const struct object_type cpu_type = {.fields = cpu_fields, .check = check_cpu};

static const struct field pids_fields[] = {
	FIELD(OPT_INT, "limit", cg_resources, pids_limit, RANGE(INT64_MIN, INT64_MAX)), {0}};

static const struct object_type pids_type = {.fields = pids_fields};

/*
 * Checks a weight of blockIO, which must be from 10 to 1000. Engines write 0 for a weight that was
 * not given (Docker always does), so 0 counts as absent.
 */
static int check_weight(struct parser *p, const char *name, struct opt_u64 *weight)
{
	if (weight->v == 0)
		weight->set = false;
	else if (weight->v < 10)
		return parse_error_at(p, name,
			"expected 0 for none, or a number from 10 to 1000, found %llu",
			(unsigned long long)weight->v);
	return 0;
}

struct weight_device {
	uint64_t major, minor;
	struct opt_u64 weight, leaf_weight;
};

static int check_weight_device(struct parser *p, const struct json *node, void *obj)
{
	struct weight_device *d = obj;

	if (!d->weight.set && !d->leaf_weight.set)
		return parse_error(p, "expected weight or leafWeight, found neither");
	int r = check_weight(p, "weight", &d->weight);
	if (r >= 0)
		r = check_weight(p, "leafWeight", &d->leaf_weight);
	return r;
}

static const struct field weight_device_fields[] = {
	FIELD(INT, "major", weight_device, major, RANGE(0, UINT32_MAX)),
	FIELD(INT, "minor", weight_device, minor, RANGE(0, UINT32_MAX)),
	FIELD(OPT_INT, "weight", weight_device, weight, RANGE(0, 1000)),
	FIELD(OPT_INT, "leafWeight", weight_device, leaf_weight, RANGE(0, 1000)), {0}};

static const struct object_type weight_device_type = {.size = sizeof(struct weight_device),
	.fields = weight_device_fields,
	.check = check_weight_device};

/*
 * Parses blockIO.weightDevice into two lists, one of weights and one of leaf weights, because one
 * entry may have both and the kernel has a file for each of the two.
 */
static int parse_weight_devices(struct parser *p, const struct json *node, void *obj)
{
	struct cg_resources *res = obj;
	const struct weight_device *v;
	size_t n;
	int r = parse_array(p, node, &weight_device_type, &v, &n);

	if (r < 0)
		return r;
	struct cg_device_value *weights = arena_array(p->arena, n + 1, sizeof(*weights));
	struct cg_device_value *leaves = arena_array(p->arena, n + 1, sizeof(*leaves));
	if (!weights || !leaves)
		return -ENOMEM;
	res->block_io.weight_device.v = weights;
	res->block_io.leaf_weight_device.v = leaves;
	for (size_t i = 0; i < n; i++) {
		struct cg_device_value value = {.major = v[i].major, .minor = v[i].minor};
		value.value = v[i].weight.v;
		if (v[i].weight.set)
			weights[res->block_io.weight_device.n++] = value;
		value.value = v[i].leaf_weight.v;
		if (v[i].leaf_weight.set)
			leaves[res->block_io.leaf_weight_device.n++] = value;
	}
	return 0;
}

static const struct field throttle_fields[] = {
	FIELD(INT, "major", cg_device_value, major, RANGE(0, UINT32_MAX)),
	FIELD(INT, "minor", cg_device_value, minor, RANGE(0, UINT32_MAX)),
	FIELD(INT, "rate", cg_device_value, value, RANGE(0, UINT64_MAX)), {0}};

static const struct object_type throttle_type = {
	.size = sizeof(struct cg_device_value), .fields = throttle_fields};

static int check_block_io(struct parser *p, const struct json *node, void *obj)
{
	struct cg_resources *res = obj;
	int r = check_weight(p, "weight", &res->block_io.weight);

	if (r >= 0)
		r = check_weight(p, "leafWeight", &res->block_io.leaf_weight);
	return r;
}

#define THROTTLE(name, member) \
	FIELD(ARRAY, name, cg_resources, block_io.member, .type = &throttle_type)

static const struct field block_io_fields[] = {
	FIELD(OPT_INT, "weight", cg_resources, block_io.weight, RANGE(0, 1000)),
	FIELD(OPT_INT, "leafWeight", cg_resources, block_io.leaf_weight, RANGE(0, 1000)),
	FIELD(CUSTOM, "weightDevice", cg_resources, block_io.weight_device,
		.type = &weight_device_type, .custom = parse_weight_devices),
	THROTTLE("throttleReadBpsDevice", throttle_read_bps),
	THROTTLE("throttleWriteBpsDevice", throttle_write_bps),
	THROTTLE("throttleReadIOPSDevice", throttle_read_iops),
	THROTTLE("throttleWriteIOPSDevice", throttle_write_iops), {0}};

static const struct object_type block_io_type = {
	.fields = block_io_fields, .check = check_block_io};

/*
 * Checks the pageSize of a hugepageLimits entry, which has the form <size><unit-prefix>B in
 * config-linux.md.
 */
static int check_hugepage(struct parser *p, const struct json *node, void *obj)
{
	const struct cg_hugepage_limit *h = obj;
	const char *s = h->page_size;
	size_t digits = strspn(s, "0123456789");

	if (s[0] == '0' || digits == 0 || !strchr("KMG", s[digits]) || !streq(s + digits + 1, "B"))
		return parse_error_at(p, "pageSize",
			"expected a size such as \"64KB\", \"2MB\" or \"1GB\", found \"%.80s\"", s);
	return 0;
}

static const struct field hugepage_fields[] = {
	FIELD(STRING, "pageSize", cg_hugepage_limit, page_size, REQUIRED),
	FIELD(INT, "limit", cg_hugepage_limit, limit, RANGE(0, UINT64_MAX)), {0}};

static const struct object_type hugepage_type = {.size = sizeof(struct cg_hugepage_limit),
	.fields = hugepage_fields,
	.check = check_hugepage};

struct net_priority {
	const char *name;
	uint32_t priority;
};

static const struct field net_priority_fields[] = {
	FIELD(STRING, "name", net_priority, name, REQUIRED),
	FIELD(INT, "priority", net_priority, priority, RANGE(0, UINT32_MAX)), {0}};

static const struct object_type net_priority_type = {
	.size = sizeof(struct net_priority), .fields = net_priority_fields};

/*
 * Counts the entries of network.priorities. Only cgroup v1 has network priorities, and caisson does
 * not use cgroup v1, so the number of entries is enough for the message that refuses them.
 */
static int parse_net_priorities(struct parser *p, const struct json *node, void *obj)
{
	struct cg_resources *res = obj;
	const struct net_priority *v;

	return parse_array(p, node, &net_priority_type, &v, &res->nnet_priorities);
}

static const struct field network_fields[] = {
	FIELD(OPT_INT, "classID", cg_resources, net_class_id, RANGE(0, UINT32_MAX)),
	FIELD(CUSTOM, "priorities", cg_resources, nnet_priorities, .type = &net_priority_type,
		.custom = parse_net_priorities),
	{0}};

static const struct object_type network_type = {.fields = network_fields};

static int check_rdma(struct parser *p, const struct json *node, void *obj)
{
	const struct cg_rdma_limit *l = obj;

	if (!l->hca_handles.set && !l->hca_objects.set)
		return parse_error(p, "expected hcaHandles or hcaObjects, found neither");
	return 0;
}

static const struct field rdma_fields[] = {
	FIELD(OPT_INT, "hcaHandles", cg_rdma_limit, hca_handles, RANGE(0, UINT32_MAX)),
	FIELD(OPT_INT, "hcaObjects", cg_rdma_limit, hca_objects, RANGE(0, UINT32_MAX)), {0}};

static const struct object_type rdma_type = {
	.size = sizeof(struct cg_rdma_limit), .fields = rdma_fields, .check = check_rdma};

/*
 * Checks the keys of `unified`. The keys become names of files in the container's cgroup, so no key
 * may lead out of the cgroup's directory.
 */
static int check_resources(struct parser *p, const struct json *node, void *obj)
{
	const struct cg_resources *res = obj;

	for (size_t i = 0; i < res->nunified; i++) {
		const char *file = res->unified[i].file;
		if (strchr(file, '/') || file[0] == '.')
			return parse_error_at(p, "unified",
				"expected names of cgroup files such as \"memory.high\", found "
				"\"%.80s\"",
				file);
	}
	return 0;
}

static const struct field resources_fields[] = {
	FIELD(ARRAY, "devices", cg_resources, devices, .type = &rule_type),
	FIELD_GROUP("memory", &memory_type), FIELD_GROUP("cpu", &cpu_type),
	FIELD_GROUP("pids", &pids_type), FIELD_GROUP("blockIO", &block_io_type),
	FIELD(ARRAY, "hugepageLimits", cg_resources, hugepages, .type = &hugepage_type),
	FIELD_GROUP("network", &network_type),
	FIELD(MAP, "rdma", cg_resources, rdma, .type = &rdma_type),
	FIELD(PAIRS, "unified", cg_resources, unified), {0}};

const struct object_type spec_resources_type = {
	.size = sizeof(struct cg_resources), .fields = resources_fields, .check = check_resources};
