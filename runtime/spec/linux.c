/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the properties of linux (config-linux.md), except resources, seccomp and sysctl, which
 * have files of their own.
 */
#include <linux/mempolicy.h>
#include <net/if.h>

#include "spec/names.h"

struct namespace
{
	int type;
	const char *path;
};

static const struct field namespace_fields[] = {
	FIELD(ENUM, "type", namespace, type, REQUIRED, .names = spec_namespace_names),
	FIELD(STRING, "path", namespace, path, .flags = FIELD_ABSOLUTE), {0}};

static const struct object_type namespace_type = {
	.size = sizeof(struct namespace), .fields = namespace_fields};

/*
 * Parses linux.namespaces. config.json has a list of namespaces; struct spec has one entry for each
 * type of namespace.
 */
static int parse_namespaces(struct parser *p, const struct json *node, void *obj)
{
	struct spec *s = obj;
	const struct namespace *v;
	size_t n;
	int r = parse_array(p, node, &namespace_type, &v, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct spec_namespace *ns = &s->ns[v[i].type];
		if (ns->set)
			return parse_error(p,
				"expected each type once, found \"%s\" again in entry %zu",
				spec_name_of(spec_namespace_names, (uint64_t)v[i].type), i);
		*ns = (struct spec_namespace){.set = true, .index = i, .path = v[i].path};
	}
	return 0;
}

static const struct spec_name device_types[] = {
	{"c", 'c'}, {"b", 'b'}, {"u", 'c'}, {"p", 'p'}, {NULL, 0}};

static int check_device(struct parser *p, const struct json *node, void *obj)
{
	struct spec_device *d = obj;

	/*
	 * Programs written in Go put the whole st_mode of stat(2) into fileMode, including the file
	 * type. The bits of the file type are dropped, because the property `type` decides the
	 * type.
	 */
	d->file_mode.v &= 07777;
	return 0;
}

/*
 * The ranges of major and minor numbers are checked, because mknod(2) would silently cut numbers
 * that are larger than the kernel's 12 and 20 bits.
 */
static const struct field device_fields[] = {
	FIELD(STRING, "path", spec_device, path, .flags = FIELD_REQUIRED | FIELD_ABSOLUTE),
	FIELD(ENUM, "type", spec_device, type, REQUIRED, .names = device_types),
	FIELD(INT, "major", spec_device, major, RANGE(0, 4095)),
	FIELD(INT, "minor", spec_device, minor, RANGE(0, 1048575)),
	FIELD(OPT_INT, "fileMode", spec_device, file_mode, RANGE(0, UINT16_MAX)),
	FIELD(OPT_INT, "uid", spec_device, uid, RANGE(0, SPEC_ID_MAX)),
	FIELD(OPT_INT, "gid", spec_device, gid, RANGE(0, SPEC_ID_MAX)), {0}};

static const struct object_type device_type = {
	.size = sizeof(struct spec_device), .fields = device_fields, .check = check_device};

bool spec_is_interface_name(const char *s)
{
	return *s && strlen(s) < IFNAMSIZ && !streq(s, ".") && !streq(s, "..") &&
	       !s[strcspn(s, "/: \t\n\v\f\r")];
}

static int check_net_device(struct parser *p, const struct json *node, void *obj)
{
	const struct spec_net_device *d = obj;
	const char *expected = "expected an interface name: 1 to 15 bytes without blanks, '/' or "
			       "':', found \"%.80s\"";

	if (!spec_is_interface_name(d->name))
		return parse_error(p, expected, d->name);
	if (d->new_name && !spec_is_interface_name(d->new_name))
		return parse_error_at(p, "name", expected, d->new_name);
	return 0;
}

static const struct field net_device_fields[] = {
	FIELD(STRING, "name", spec_net_device, new_name), {0}};

static const struct object_type net_device_type = {.size = sizeof(struct spec_net_device),
	.fields = net_device_fields,
	.check = check_net_device};

static int check_time_offset(struct parser *p, const struct json *node, void *obj)
{
	((struct spec_time_offset *)obj)->set = true;
	return 0;
}

static const struct field time_offset_fields[] = {
	FIELD(INT, "secs", spec_time_offset, secs, RANGE(INT64_MIN, INT64_MAX)),
	FIELD(INT, "nanosecs", spec_time_offset, nanosecs, RANGE(0, 999999999)), {0}};

static const struct object_type time_offset_type = {.size = sizeof(struct spec_time_offset),
	.fields = time_offset_fields,
	.check = check_time_offset};

/*
 * Checks the keys of linux.timeOffsets. The keys are names of clocks, so an unknown key is an
 * error, although elsewhere in config.json unknown properties are ignored.
 */
static int check_time_offsets(struct parser *p, const struct json *node, void *obj)
{
	for (const struct json *n = node->first; n; n = n->next)
		if (!streq(n->key, "monotonic") && !streq(n->key, "boottime"))
			return parse_error(p,
				"expected the clocks monotonic and boottime, found \"%.80s\"",
				n->key);
	return 0;
}

static const struct field time_offsets_fields[] = {
	FIELD(OBJECT, "monotonic", spec, time_monotonic, .type = &time_offset_type),
	FIELD(OBJECT, "boottime", spec, time_boottime, .type = &time_offset_type), {0}};

static const struct object_type time_offsets_type = {
	.fields = time_offsets_fields, .check = check_time_offsets};

struct personality {
	uint32_t domain, flags;
};

/*
 * The list of the flags of linux.personality is empty, because config-linux.md says: "Currently no
 * flag values are supported."
 */
static const struct spec_name no_flags[] = {{NULL, 0}};

static const struct field personality_fields[] = {
	FIELD(ENUM, "domain", personality, domain, REQUIRED, .names = spec_personality_names),
	FIELD(FLAGS, "flags", personality, flags, .names = no_flags), {0}};

static const struct object_type personality_type = {
	.size = sizeof(struct personality), .fields = personality_fields};

static int parse_personality(struct parser *p, const struct json *node, void *obj)
{
	struct personality personality = {0};
	int r = parse_object(p, node, &personality_type, &personality);

	((struct spec *)obj)->personality =
		(struct opt_u64){.set = true, .v = personality.domain | personality.flags};
	return r;
}

/*
 * Checks linux.intelRdt. closID becomes the name of a directory in the resctrl file system, so it
 * may not lead out of that file system; "/" stands for the root of the file system.
 */
static int check_intel_rdt(struct parser *p, const struct json *node, void *obj)
{
	const struct spec_intel_rdt *rdt = obj;
	const char *id = rdt->clos_id;

	if (id && !streq(id, "/") && (strchr(id, '/') || streq(id, ".") || streq(id, "..")))
		return parse_error_at(p, "closID",
			"expected \"/\" or a name without '/', not \".\" or \"..\", found "
			"\"%.80s\"",
			id);
	if (rdt->mem_bw_schema && !str_starts(rdt->mem_bw_schema, "MB:"))
		return parse_error_at(p, "memBwSchema",
			"expected a line that starts with \"MB:\", found \"%.80s\"",
			rdt->mem_bw_schema);
	return 0;
}

static const struct field intel_rdt_fields[] = {
	FIELD(STRING, "closID", spec_intel_rdt, clos_id, .flags = FIELD_ONE_LINE),
	FIELD(STRINGS, "schemata", spec_intel_rdt, schemata, .flags = FIELD_ONE_LINE),
	FIELD(STRING, "l3CacheSchema", spec_intel_rdt, l3_cache_schema, .flags = FIELD_ONE_LINE),
	FIELD(STRING, "memBwSchema", spec_intel_rdt, mem_bw_schema, .flags = FIELD_ONE_LINE),
	FIELD(BOOL, "enableMonitoring", spec_intel_rdt, enable_monitoring), {0}};

static const struct object_type intel_rdt_type = {.size = sizeof(struct spec_intel_rdt),
	.fields = intel_rdt_fields,
	.check = check_intel_rdt};

struct memory_policy {
	struct spec_memory_policy policy;
	uint32_t flags;
};

static int check_memory_policy(struct parser *p, const struct memory_policy *m)
{
	const int mode = m->policy.mode;
	const char *name = spec_name_of(spec_mempolicy_mode_names, (uint64_t)mode);
	bool no_nodes = mode == MPOL_DEFAULT || mode == MPOL_LOCAL;

	if (no_nodes && m->policy.nodes)
		return parse_error_at(p, "nodes", "expected nothing with %s, found \"%.80s\"", name,
			m->policy.nodes);
	/*
	 * The mode MPOL_PREFERRED is allowed without nodes, because set_mempolicy(2) then takes it
	 * as MPOL_LOCAL.
	 */
	if (!no_nodes && mode != MPOL_PREFERRED && !m->policy.nodes)
		return parse_error_at(
			p, "nodes", "expected a list of nodes with %s, found nothing", name);
	if ((m->flags & MPOL_F_STATIC_NODES) && (m->flags & MPOL_F_RELATIVE_NODES))
		return parse_error_at(p, "flags",
			"expected at most one of MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES, "
			"found both");
	return 0;
}

static const struct field memory_policy_fields[] = {
	FIELD(ENUM, "mode", memory_policy, policy.mode, REQUIRED,
		.names = spec_mempolicy_mode_names),
	FIELD(LIST, "nodes", memory_policy, policy.nodes),
	FIELD(FLAGS, "flags", memory_policy, flags, .names = spec_mempolicy_flag_names), {0}};

static const struct object_type memory_policy_type = {
	.size = sizeof(struct memory_policy), .fields = memory_policy_fields};

/*
 * Parses linux.memoryPolicy. One member stores both the mode and the flags, because
 * set_mempolicy(2) takes the two as one argument.
 */
static int parse_memory_policy(struct parser *p, const struct json *node, void *obj)
{
	struct memory_policy *m = arena_alloc(p->arena, sizeof(*m));

	if (!m)
		return -ENOMEM;
	int r = parse_object(p, node, &memory_policy_type, m);
	if (r >= 0)
		r = check_memory_policy(p, m);
	m->policy.mode |= (int)m->flags;
	((struct spec *)obj)->memory_policy = &m->policy;
	return r;
}

static int check_user_namespace(struct parser *p, const struct spec *s)
{
	const char *uids = "uidMappings", *gids = "gidMappings";

	if (!s->uid_mappings.n != !s->gid_mappings.n)
		return parse_error_at(p, s->uid_mappings.n ? gids : uids,
			"expected an id map, because %s are given, found nothing",
			s->uid_mappings.n ? uids : gids);
	if (s->uid_mappings.n && !s->ns[SPEC_NS_USER].set)
		return parse_error_at(
			p, uids, "expected nothing without a user namespace in linux.namespaces");
	int r = spec_check_id_maps(p, uids, s->uid_mappings);
	if (r >= 0)
		r = spec_check_id_maps(p, gids, s->gid_mappings);
	return r;
}

static int check_net_devices(struct parser *p, const struct spec *s)
{
	if (s->nnet_devices && !s->ns[SPEC_NS_NETWORK].set)
		return parse_error_at(p, "netDevices",
			"expected nothing without a network namespace in linux.namespaces");
	for (size_t i = 0; i < s->nnet_devices; i++) {
		const struct spec_net_device *a = &s->net_devices[i];
		const char *name = a->new_name ? a->new_name : a->name;
		for (size_t j = 0; j < i; j++) {
			const struct spec_net_device *b = &s->net_devices[j];
			if (!strchr(name, '%') && streq(name, b->new_name ? b->new_name : b->name))
				return parse_error_at(p, "netDevices",
					"expected different names in the container, found \"%s\" "
					"for both \"%s\" and \"%s\"",
					name, b->name, a->name);
		}
	}
	return 0;
}

static int check_linux(struct parser *p, const struct json *node, void *obj)
{
	struct spec *s = obj;
	const struct spec_namespace *time = &s->ns[SPEC_NS_TIME];

	s->has_resources = parse_has(node, "resources");
	int r = check_user_namespace(p, s);
	if (r >= 0)
		r = check_net_devices(p, s);
	if (r < 0)
		return r;
	if ((s->time_monotonic.set || s->time_boottime.set) && (!time->set || time->path))
		return parse_error_at(p, "timeOffsets",
			"expected nothing without a new time namespace in linux.namespaces%s",
			time->path ? ": an existing one keeps its offsets" : "");
	return spec_check_sysctl(p, s);
}

static const struct field linux_fields[] = {
	FIELD(CUSTOM, "namespaces", spec, ns, .type = &namespace_type, .custom = parse_namespaces),
	FIELD(ARRAY, "uidMappings", spec, uid_mappings, .type = &spec_id_map_type),
	FIELD(ARRAY, "gidMappings", spec, gid_mappings, .type = &spec_id_map_type),
	FIELD_GROUP("timeOffsets", &time_offsets_type),
	FIELD(ARRAY, "devices", spec, devices, .type = &device_type),
	FIELD(MAP, "netDevices", spec, net_devices, .type = &net_device_type),
	FIELD(STRING, "cgroupsPath", spec, cgroups_path),
	FIELD(OBJECT, "resources", spec, resources, .type = &spec_resources_type),
	FIELD(OBJECT_PTR, "intelRdt", spec, intel_rdt, .type = &intel_rdt_type),
	FIELD(CUSTOM, "memoryPolicy", spec, memory_policy, .type = &memory_policy_type,
		.custom = parse_memory_policy),
	FIELD(ENUM, "rootfsPropagation", spec, rootfs_propagation, .names = spec_propagation_names),
	FIELD(OBJECT_PTR, "seccomp", spec, seccomp, .type = &spec_seccomp_type),
	FIELD(PAIRS, "sysctl", spec, sysctl),
	FIELD(STRINGS, "maskedPaths", spec, masked_paths, .flags = FIELD_ABSOLUTE),
	FIELD(STRINGS, "readonlyPaths", spec, readonly_paths, .flags = FIELD_ABSOLUTE),
	FIELD(STRING, "mountLabel", spec, mount_label),
	FIELD(CUSTOM, "personality", spec, personality, .type = &personality_type,
		.custom = parse_personality),
	{0}};

const struct object_type spec_linux_type = {.fields = linux_fields, .check = check_linux};
