/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/spec_properties.h"

#include "base/str.h"

#define U16_BAD \
	{ \
		"-1", "65536", "18446744073709551616" \
	}
#define U32_BAD \
	{ \
		"-1", "4294967296", "99999999999999999999999" \
	}
/*
 * Values that are no id. The kernel takes 4294967295 as -1, which stands for "leave the id as it
 * is", so a container with this id would keep the id of root.
 */
#define ID_BAD \
	{ \
		"-1", "4294967295", "4294967296", "99999999999999999999999" \
	}
#define U64_BAD \
	{ \
		"-1", "18446744073709551616", "-9223372036854775809" \
	}
#define I64_BAD \
	{ \
		"9223372036854775808", "-9223372036854775809", "-1e3" \
	}
#define LIMIT_BAD \
	{ \
		"-2", "9223372036854775808", "-9223372036854775808" \
	}
#define LIST_BAD \
	{ \
		"\"x\"", "\"1,\"", "\"3-1\"", "\",1\"", "\"1-\"", "\"1--2\"", "\"-1\"", \
			"\"999999\"", "\" \"" \
	}
#define PATH_BAD \
	{ \
		"\"relative\"", "\"./x\"" \
	}
#define PATHS_BAD \
	{ \
		"[\"relative\"]", "[\"/good\", \"\"]" \
	}
#define NAME_BAD \
	{ \
		"\"x\"", "\"lower_case\"", "\" \"" \
	}
#define NAMES_BAD \
	{ \
		"[\"x\"]", "[\"\"]" \
	}
#define HOOKS(name) \
	{"hooks." name, 'A', 0, {NULL}}, {"hooks." name "[].path", 's', REQ, PATH_BAD}, \
		{"hooks." name "[].args", 'S', 0, {NULL}}, \
		{"hooks." name "[].env", 'S', 0, {NULL}}, \
	{ \
		"hooks." name "[].timeout", 'i', 0, \
		{ \
			"0", "-1", "2147483648" \
		} \
	}
#define ID_MAP(name) \
	{name, 'A', CROSS, {NULL}}, {name "[].containerID", 'i', 0, ID_BAD}, \
		{name "[].hostID", 'i', CROSS, ID_BAD}, \
	{ \
		name "[].size", 'i', REQ, \
		{ \
			"0", "-1", "4294967296" \
		} \
	}
#define BLOCK "linux.resources.blockIO"
#define THROTTLE(name) \
	{BLOCK "." name, 'A', 0, {NULL}}, {BLOCK "." name "[].major", 'i', 0, U32_BAD}, \
		{BLOCK "." name "[].minor", 'i', 0, U32_BAD}, \
	{ \
		BLOCK "." name "[].rate", 'i', 0, U64_BAD \
	}
#define WEIGHT_BAD \
	{ \
		"9", "1", "1001", "-1", "65536" \
	}
#define MEMORY "linux.resources.memory"
#define CPU "linux.resources.cpu"
#define RULES "linux.seccomp.syscalls"

const struct property spec_properties[] = {
	{"ociVersion", 's', REQ,
		{"\"1\"", "\"1.0\"", "\"1.0.0.0\"", "\"2.0.0\"", "\"0.1.0\"", "\"01.0.0\"",
			"\"v1.0.0\"", "\"1.0.0-\"", "\"1.0.0-a..b\"", "\"1.0.0+\""}},
	{"root", 'O', REQ, {NULL}},
	{"root.path", 's', REQ, {NULL}},
	{"root.readonly", 'b', 0, {NULL}},
	{"hostname", 's', 0,
		{"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""}},
	{"domainname", 's', 0,
		{"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""}},
	{"annotations", 'M', 0, {"{\"\": \"x\"}"}},
	{"mounts", 'A', 0, {NULL}},
	{"mounts[].destination", 's', REQ, {NULL}},
	{"mounts[].type", 's', 0, {NULL}},
	{"mounts[].source", 's', CROSS, {NULL}},
	{"mounts[].options", 'S', 0, {NULL}},
	ID_MAP("mounts[].uidMappings"),
	ID_MAP("mounts[].gidMappings"),
	HOOKS("prestart"),
	HOOKS("createRuntime"),
	HOOKS("createContainer"),
	HOOKS("startContainer"),
	HOOKS("poststart"),
	HOOKS("poststop"),
	{"hooks", 'O', 0, {NULL}},

	{"process", 'O', 0, {NULL}},
	{"process.terminal", 'b', 0, {NULL}},
	{"process.consoleSize", 'O', 0, {NULL}},
	{"process.consoleSize.height", 'i', 0, U16_BAD},
	{"process.consoleSize.width", 'i', 0, U16_BAD},
	{"process.user", 'O', 0, {NULL}},
	{"process.user.uid", 'i', 0, ID_BAD},
	{"process.user.gid", 'i', 0, ID_BAD},
	{"process.user.umask", 'i', 0, {"-1", "512"}},
	{"process.user.additionalGids", 'N', 0, {"[-1]", "[0, 4294967295]", "[1.5]"}},
	{"process.args", 'S', REQ, {"[]"}},
	{"process.env", 'S', 0, {NULL}},
	{"process.cwd", 's', REQ, PATH_BAD},
	{"process.capabilities", 'O', 0, {NULL}},
	{"process.capabilities.bounding", 'S', 0, {NULL}},
	{"process.capabilities.effective", 'S', 0, {NULL}},
	{"process.capabilities.inheritable", 'S', 0, {NULL}},
	{"process.capabilities.permitted", 'S', 0, {NULL}},
	{"process.capabilities.ambient", 'S', 0, {NULL}},
	{"process.rlimits", 'A', 0,
		{"[{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1},"
		 "{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":2}]"}},
	{"process.rlimits[].type", 's', REQ, NAME_BAD},
	{"process.rlimits[].soft", 'i', 0, U64_BAD},
	{"process.rlimits[].hard", 'i', CROSS, {"-1", "18446744073709551616", "1e3"}},
	{"process.noNewPrivileges", 'b', 0, {NULL}},
	{"process.apparmorProfile", 's', 0, {NULL}},
	{"process.selinuxLabel", 's', 0, {NULL}},
	{"process.oomScoreAdj", 'i', 0, {"-1001", "1001"}},
	{"process.scheduler", 'O', 0, {NULL}},
	{"process.scheduler.policy", 's', REQ, NAME_BAD},
	{"process.scheduler.nice", 'i', 0, {"-21", "20"}},
	{"process.scheduler.priority", 'i', 0, {"-1", "100"}},
	{"process.scheduler.flags", 'S', 0, NAMES_BAD},
	{"process.scheduler.runtime", 'i', CROSS, U64_BAD},
	{"process.scheduler.deadline", 'i', CROSS, U64_BAD},
	{"process.scheduler.period", 'i', 0, U64_BAD},
	{"process.ioPriority", 'O', 0, {NULL}},
	{"process.ioPriority.class", 's', REQ, NAME_BAD},
	{"process.ioPriority.priority", 'i', 0, {"-1", "8"}},
	{"process.execCPUAffinity", 'O', 0, {NULL}},
	{"process.execCPUAffinity.initial", 's', 0, LIST_BAD},
	{"process.execCPUAffinity.final", 's', 0, LIST_BAD},

	{"linux", 'O', CROSS, {NULL}},
	{"linux.namespaces", 'A', CROSS, {"[{\"type\":\"pid\"},{\"type\":\"pid\"}]"}},
	{"linux.namespaces[].type", 's', REQ, NAME_BAD},
	{"linux.namespaces[].path", 's', 0, PATH_BAD},
	ID_MAP("linux.uidMappings"),
	ID_MAP("linux.gidMappings"),
	{"linux.timeOffsets", 'O', 0, {"{\"realtime\": {}}"}},
	{"linux.timeOffsets.monotonic", 'O', CROSS, {NULL}},
	{"linux.timeOffsets.monotonic.secs", 'i', 0, I64_BAD},
	{"linux.timeOffsets.monotonic.nanosecs", 'i', 0, {"-1", "1000000000"}},
	{"linux.timeOffsets.boottime", 'O', CROSS, {NULL}},
	{"linux.timeOffsets.boottime.secs", 'i', 0, I64_BAD},
	{"linux.timeOffsets.boottime.nanosecs", 'i', 0, {"-1", "1000000000"}},
	{"linux.devices", 'A', 0, {NULL}},
	{"linux.devices[].path", 's', REQ, PATH_BAD},
	{"linux.devices[].type", 's', REQ, {"\"a\"", "\"cc\"", "\"C\""}},
	{"linux.devices[].major", 'i', 0, {"-1", "4096"}},
	{"linux.devices[].minor", 'i', 0, {"-1", "1048576"}},
	{"linux.devices[].fileMode", 'i', 0, {"-1", "65536"}},
	{"linux.devices[].uid", 'i', 0, ID_BAD},
	{"linux.devices[].gid", 'i', 0, ID_BAD},
	{"linux.netDevices", 'P', 0,
		{"{\"\": {}}", "{\"a b\": {}}", "{\"a/b\": {}}", "{\"sixteen-bytes-xx\": {}}",
			"{\"..\": {}}", "{\"a\": {\"name\": \"b\"}, \"b\": {}}"}},
	{"linux.netDevices{}.name", 's', 0,
		{"\"a b\"", "\"a:b\"", "\".\"", "\"sixteen-bytes-xx\""}},
	{"linux.cgroupsPath", 's', 0, {NULL}},
	{"linux.resources", 'O', 0, {NULL}},
	{"linux.resources.devices", 'A', 0, {NULL}},
	{"linux.resources.devices[].allow", 'b', 0, {NULL}},
	{"linux.resources.devices[].type", 's', 0, {"\"p\"", "\"ab\""}},
	{"linux.resources.devices[].major", 'i', 0, {"-2", "4294967296"}},
	{"linux.resources.devices[].minor", 'i', 0, {"-2", "4294967296"}},
	{"linux.resources.devices[].access", 's', 0, {"\"x\"", "\"rwx\""}},
	{MEMORY, 'O', 0, {NULL}},
	{MEMORY ".limit", 'i', 0, LIMIT_BAD},
	{MEMORY ".reservation", 'i', 0, LIMIT_BAD},
	{MEMORY ".swap", 'i', 0, LIMIT_BAD},
	{MEMORY ".kernel", 'i', 0, LIMIT_BAD},
	{MEMORY ".kernelTCP", 'i', 0, LIMIT_BAD},
	{MEMORY ".swappiness", 'i', 0, {"-1", "101"}},
	{MEMORY ".disableOOMKiller", 'b', 0, {NULL}},
	{MEMORY ".useHierarchy", 'b', 0, {NULL}},
	{MEMORY ".checkBeforeUpdate", 'b', 0, {NULL}},
	{CPU, 'O', 0, {NULL}},
	{CPU ".shares", 'i', 0, U64_BAD},
	{CPU ".quota", 'i', 0, I64_BAD},
	{CPU ".burst", 'i', 0, {"-1", "1000001", "18446744073709551616"}},
	{CPU ".period", 'i', 0, U64_BAD},
	{CPU ".realtimeRuntime", 'i', 0, I64_BAD},
	{CPU ".realtimePeriod", 'i', 0, U64_BAD},
	{CPU ".cpus", 's', 0, LIST_BAD},
	{CPU ".mems", 's', 0, LIST_BAD},
	{CPU ".idle", 'i', 0, {"-1", "2"}},
	{"linux.resources.pids", 'O', 0, {NULL}},
	{"linux.resources.pids.limit", 'i', 0, I64_BAD},
	{BLOCK, 'O', 0, {NULL}},
	{BLOCK ".weight", 'i', 0, WEIGHT_BAD},
	{BLOCK ".leafWeight", 'i', 0, WEIGHT_BAD},
	{BLOCK ".weightDevice", 'A', 0, {"[{\"major\": 1, \"minor\": 2}]"}},
	{BLOCK ".weightDevice[].major", 'i', 0, U32_BAD},
	{BLOCK ".weightDevice[].minor", 'i', 0, U32_BAD},
	{BLOCK ".weightDevice[].weight", 'i', 0, WEIGHT_BAD},
	{BLOCK ".weightDevice[].leafWeight", 'i', 0, WEIGHT_BAD},
	THROTTLE("throttleReadBpsDevice"),
	THROTTLE("throttleWriteBpsDevice"),
	THROTTLE("throttleReadIOPSDevice"),
	THROTTLE("throttleWriteIOPSDevice"),
	{"linux.resources.hugepageLimits", 'A', 0, {NULL}},
	{"linux.resources.hugepageLimits[].pageSize", 's', REQ,
		{"\"2\"", "\"MB\"", "\"02MB\"", "\"2TB\"", "\"2MBx\"", "\"2M\"", "\"2 MB\""}},
	{"linux.resources.hugepageLimits[].limit", 'i', 0, U64_BAD},
	{"linux.resources.network", 'O', 0, {NULL}},
	{"linux.resources.network.classID", 'i', 0, U32_BAD},
	{"linux.resources.network.priorities", 'A', 0, {NULL}},
	{"linux.resources.network.priorities[].name", 's', REQ, {NULL}},
	{"linux.resources.network.priorities[].priority", 'i', 0, U32_BAD},
	{"linux.resources.rdma", 'P', 0, {"{\"mlx\": {}}", "{\"mlx\": null}"}},
	{"linux.resources.rdma{}.hcaHandles", 'i', 0, U32_BAD},
	{"linux.resources.rdma{}.hcaObjects", 'i', 0, U32_BAD},
	{"linux.resources.unified", 'M', 0,
		{"{\"a/b\": \"\"}", "{\"..\": \"\"}", "{\"\": \"\"}", "{\"memory.max\": null}"}},
	{"linux.intelRdt", 'O', 0, {NULL}},
	{"linux.intelRdt.closID", 's', 0, {"\".\"", "\"..\"", "\"a/b\"", "\"/a\"", "\"a\\nb\""}},
	{"linux.intelRdt.schemata", 'S', 0, {"[\"a\\nb\"]"}},
	{"linux.intelRdt.l3CacheSchema", 's', 0, {"\"L3:0=f\\nx\""}},
	{"linux.intelRdt.memBwSchema", 's', 0, {"\"L3:0=f\"", "\"MB:0=1\\nx\""}},
	{"linux.intelRdt.enableMonitoring", 'b', 0, {NULL}},
	{"linux.memoryPolicy", 'O', 0, {NULL}},
	{"linux.memoryPolicy.mode", 's', REQ, {"\"x\"", "\"MPOL_LOCAL\"", "\"MPOL_DEFAULT\""}},
	{"linux.memoryPolicy.nodes", 's', CROSS, LIST_BAD},
	{"linux.memoryPolicy.flags", 'S', 0,
		{"[\"x\"]", "[\"MPOL_F_STATIC_NODES\", \"MPOL_F_RELATIVE_NODES\"]"}},
	{"linux.rootfsPropagation", 's', 0, NAME_BAD},
	{"linux.seccomp", 'O', 0, {NULL}},
	{"linux.seccomp.defaultAction", 's', REQ, {"\"x\"", "\"SCMP_ACT_ALLOW\""}},
	{"linux.seccomp.defaultErrnoRet", 'i', 0, {"-1", "4095", "4294967296"}},
	{"linux.seccomp.architectures", 'S', 0, NAMES_BAD},
	{"linux.seccomp.flags", 'S', 0, NAMES_BAD},
	{"linux.seccomp.listenerPath", 's', CROSS, {NULL}},
	{"linux.seccomp.listenerMetadata", 's', 0, {NULL}},
	{RULES, 'A', 0, {NULL}},
	{RULES "[].names", 'S', REQ, {"[]"}},
	{RULES "[].action", 's', REQ, {"\"x\"", "\"SCMP_ACT_KILL\""}},
	{RULES "[].errnoRet", 'i', 0, {"-1", "4095", "4294967296"}},
	{RULES "[].args", 'A', 0, {NULL}},
	{RULES "[].args[].index", 'i', 0, {"-1", "6"}},
	{RULES "[].args[].value", 'i', 0, U64_BAD},
	{RULES "[].args[].valueTwo", 'i', 0, U64_BAD},
	{RULES "[].args[].op", 's', REQ, NAME_BAD},
	{"linux.sysctl", 'M', 0,
		{"{\"kernel.hostname\": \"x\"}", "{\"vm.swappiness\": \"1\"}", "{\"net\": \"1\"}",
			"{\"net.ipv4..x\": \"1\"}", "{\"net/../kernel/panic\": \"1\"}",
			"{\"\": \"1\"}", "{\"network.x\": \"1\"}", "{\"net.a b\": \"1\"}",
			"{\"kernel.shmmax.x\": \"1\"}"}},
	{"linux.maskedPaths", 'S', 0, PATHS_BAD},
	{"linux.readonlyPaths", 'S', 0, PATHS_BAD},
	{"linux.mountLabel", 's', 0, {NULL}},
	{"linux.personality", 'O', 0, {NULL}},
	{"linux.personality.domain", 's', REQ, NAME_BAD},
	{"linux.personality.flags", 'S', 0, NAMES_BAD},

	{"vm", 'O', 0, {NULL}},
	{"vm.hypervisor", 'O', 0, {NULL}},
	{"vm.hypervisor.path", 's', REQ | EMPTY, PATH_BAD},
	{"vm.hypervisor.parameters", 'S', 0, {NULL}},
	{"vm.kernel", 'O', 0, {NULL}},
	{"vm.kernel.path", 's', REQ | EMPTY, PATH_BAD},
	{"vm.kernel.parameters", 'S', 0, {NULL}},
	{"vm.kernel.initrd", 's', 0, PATH_BAD},
	{"vm.image", 'O', 0, {NULL}},
	{"vm.image.path", 's', REQ | EMPTY, PATH_BAD},
	{"vm.image.format", 's', 0, {"\"x\"", "\"QCOW2\""}},
	{"vm.hwConfig", 'O', 0, {NULL}},
	{"vm.hwConfig.deviceTree", 's', 0, {NULL}},
	{"vm.hwConfig.vcpus", 'i', 0, {"0", "-1", "4294967296"}},
	{"vm.hwConfig.memory", 'i', 0, {"0", "-1", "18446744073709551616"}},
	{"vm.hwConfig.dtdevs", 'S', 0, {NULL}},
	{"vm.hwConfig.iomems", 'A', 0, {NULL}},
	{"vm.hwConfig.iomems[].firstGFN", 'i', 0, U64_BAD},
	{"vm.hwConfig.iomems[].firstMFN", 'i', REQ, U64_BAD},
	{"vm.hwConfig.iomems[].nrMFNs", 'i', REQ, U64_BAD},
	{"vm.hwConfig.irqs", 'N', 0, {"[-1]", "[4294967296]"}},
};

const size_t spec_property_count = ARRAY_SIZE(spec_properties);
