/* SPDX-License-Identifier: Apache-2.0 */
/* Tests documents in which several properties depend on each other, and the texts of the errors. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>

#include "spec/spec.h"

/*
 * Each row is a document, and a text that the error must contain, or NULL if the document is good.
 */
#define DOC(body) "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"}" body "}"
#define LINUX(body) DOC(",\"linux\":{" body "}")
#define NS(type) "\"namespaces\":[{\"type\":\"" type "\"}]"
#define PROCESS(body) DOC(",\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"" body "}")
#define MOUNT(body) DOC(",\"mounts\":[{\"destination\":\"/x\"" body "}]")
#define MAP(c, h, n) "{\"containerID\":" #c ",\"hostID\":" #h ",\"size\":" #n "}"
#define VM(body) DOC(",\"vm\":{" body "}")
#define SECCOMP(body) LINUX("\"seccomp\":{" body "}")

#define BOUND ",\"source\":\"/s\",\"options\":[\"bind\","

static const struct {
	const char *text;
	const char *error;
} documents[] = {
	/* The following rows test the document as a whole. */
	{"", "config.json is empty"},
	{"{", "not valid JSON"},
	{"[]", "config.json: expected an object, found an empty array"},
	{"null", "config.json: expected an object, found nothing"},
	{"{}", "config.json: ociVersion: expected a string, found nothing"},
	{"{\"ociVersion\":\"1.0.0\"}",
		"config.json: root: root must be specified: expected an object"},
	{"{\"ociVersion\":\"1.0.0\",\"ociVersion\":\"1.0.0\"}", "given twice"},
	{DOC(""), NULL},
	{DOC(",\"x\":{\"process\":7}"), NULL},

	/* The following rows test ociVersion. */
	{"{\"ociVersion\":\"1.3.0-rc.1+dev\",\"root\":{\"path\":\"r\"}}", NULL},
	{"{\"ociVersion\":\"1.99.0\",\"root\":{\"path\":\"r\"}}", NULL},
	{"{\"ociVersion\":\"1.0.0-rc5-dev\",\"root\":{\"path\":\"r\"}}", NULL},
	{"{\"ociVersion\":\"2.0.0\",\"root\":{\"path\":\"r\"}}",
		"ociVersion: expected a version 1.x (caisson knows the runtime specification up "
		"to 1.3.0), found \"2.0.0\""},

	/* The following rows check that hostname and domainname need a UTS namespace. */
	{DOC(",\"hostname\":\"h\""), "hostname: unable to set hostname without a private UTS "
				     "namespace: expected nothing"},
	{DOC(",\"domainname\":\"h\""), "domainname: unable to set domainname without a private UTS "
				       "namespace: expected nothing"},
	{DOC(",\"hostname\":\"\",\"domainname\":null"), NULL},
	{DOC(",\"hostname\":\"h\",\"linux\":{" NS("uts") "}"), NULL},

	/* The following rows check the texts of errors about types and ranges. */
	{PROCESS(",\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":\"x\"}]"),
		"config.json: process.rlimits[0].hard: expected a number from 0 to "
		"18446744073709551615, found \"x\""},
	{PROCESS(",\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]"),
		"process.rlimits[0].soft: expected at most the hard limit, 1, found 2"},
	{PROCESS(",\"oomScoreAdj\":1e2"),
		"process.oomScoreAdj: expected a whole number from -1000 to 1000, written without "
		"fraction and exponent, found 1e2"},
	{PROCESS(",\"ioPriority\":{\"class\":\"x\",\"priority\":0}"),
		"process.ioPriority.class: expected one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, "
		"IOPRIO_CLASS_IDLE, found \"x\""},
	{DOC(",\"process\":{\"args\":[],\"cwd\":\"/\"}"),
		"process.args: expected an array of at least one string, found an empty array"},
	{DOC(",\"process\":{\"cwd\":\"/\"}"),
		"process.args: expected an array of strings, found nothing"},
	{DOC(",\"process\":{\"args\":[\"x\"],\"cwd\":\"a\\tb\"}"),
		"process.cwd: expected an absolute path, found \"a?b\""},
	{DOC(",\"annotations\":{\"a.b\":1}"),
		"config.json: annotations[\"a.b\"]: expected a string, found 1"},

	/* The following rows test the object `process`. */
	{DOC(",\"process\":null"), NULL},
	{PROCESS(""), NULL},
	{PROCESS(",\"apparmorProfile\":\"\",\"capabilities\":null,\"rlimits\":null"), NULL},
	{PROCESS(",\"scheduler\":{\"policy\":\"SCHED_FIFO\"}"),
		"process.scheduler.priority: expected a number from 1 to 99"},
	{PROCESS(",\"scheduler\":{\"policy\":\"SCHED_FIFO\",\"priority\":1}"), NULL},
	{PROCESS(",\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"priority\":1}"),
		"process.scheduler.priority: expected nothing or 0"},
	{PROCESS(",\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"period\":1}"),
		"process.scheduler.period: expected nothing or 0"},
	{PROCESS(",\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"runtime\":2,\"deadline\":1}"),
		"process.scheduler: expected 0 < runtime <= deadline <= period"},

	/* The following rows test the array `mounts`. */
	{MOUNT(""), NULL},
	{MOUNT(",\"type\":\"bind\""), "mounts[0].source: expected the path to bind-mount"},
	{MOUNT(",\"options\":[\"rbind\"]"), "mounts[0].source: expected the path to bind-mount"},
	{MOUNT(",\"options\":[\"remount\",\"bind\",\"ro\"]"), NULL},
	{MOUNT(BOUND "\"nosiud\"]"), "mounts[0].options: expected options that a bind mount can"},
	{MOUNT(BOUND "\"remount\",\"nosiud\"]"), "mounts[0].options: expected options that"},
	{MOUNT(BOUND "\"size=64m\",\"x-systemd.automount\",\"nofail\",\"\"]"), NULL},
	/* the parser leaves an unknown option of tmpfs to the kernel */
	{MOUNT(",\"type\":\"tmpfs\",\"options\":[\"nosiud\"]"), NULL},
	{MOUNT(",\"options\":[\"copy-symlink\"]"), "mounts[0].options: copy-symlink, src-nofollow"},
	{MOUNT(",\"source\":\"/s\",\"options\":[\"bind\",\"copy-symlink\",\"dest-nofollow\"]"),
		"mounts[0].options: expected copy-symlink without src-nofollow"},
	{MOUNT(",\"source\":\"/s\",\"options\":[\"bind\",\"src-nofollow\",\"dest-nofollow\"]"),
		NULL},
	{MOUNT(",\"uidMappings\":[" MAP(0, 1, 1) "]"), "mounts[0].gidMappings: expected an id map"},
	{MOUNT(",\"gidMappings\":[" MAP(0, 1, 1) "]"), "mounts[0].uidMappings: expected an id map"},

	{MOUNT(BOUND "\"idmap=uids=0-1-1;gids=0-1-1\"]"), NULL},
	{MOUNT(BOUND "\"idmap=uids=0-1-1\"]"), "mounts[0].options: expected uids and gids"},
	{MOUNT(BOUND "\"idmap=x\"]"),
		"mounts[0].options: expected \"idmap=uids=...;gids=...\", found"},
	{MOUNT(BOUND "\"idmap=uids=0-1;gids=0-1-1\"]"),
		"mounts[0].options: expected ids in an idmap as"},
	{MOUNT(BOUND "\"idmap=uids=0-1-0;gids=0-1-1\"]"),
		"mounts[0].options: expected ids in an idmap as"},
	{MOUNT(BOUND "\"idmap=uids=0-4294967295-2;gids=0-1-1\"]"),
		"mounts[0].options: expected ids in an idmap as"},
	{MOUNT(BOUND "\"idmap=uids=0-1-1#;gids=0-1-1\"]"),
		"mounts[0].options: expected ids in an idmap as"},
	{MOUNT(BOUND "\"idmap=uids=0-1-2#1-5-2;gids=0-1-1\"]"),
		"mounts[0].options: expected ranges that do not overlap"},
	{MOUNT(BOUND "\"idmap=uids=@0-1-1;gids=0-1-1\"]"),
		"mounts[0].options: expected an id of linux.uidMappings"},
	{MOUNT(BOUND "\"idmap=uids=0-1-1\"],\"uidMappings\":[" MAP(
		 0, 1, 1) "],\"gidMappings\":[" MAP(0, 1, 1) "]"),
		"mounts[0].options: expected \"idmap\" without ids"},

	/* The following rows test linux.namespaces, and properties that need a namespace. */
	{LINUX("\"namespaces\":[{\"type\":\"ipc\"},{\"type\":\"ipc\"}]"),
		"linux.namespaces: expected each type once, found \"ipc\" again in entry 1"},
	{LINUX("\"namespaces\":[{\"type\":\"disk\"}]"),
		"linux.namespaces[0].type: expected one of cgroup, ipc, mount, network, pid, time, "
		"user, uts, found \"disk\""},
	{LINUX(NS("user")), NULL}, /* only the plan checks that a user namespace has id maps */
	{LINUX(NS("user") ",\"uidMappings\":[" MAP(0, 1, 1) "]"),
		"linux.gidMappings: expected an id map"},
	{LINUX("\"uidMappings\":[" MAP(0, 1, 1) "],\"gidMappings\":[" MAP(0, 1, 1) "]"),
		"linux.uidMappings: expected nothing without a user namespace"},
	{LINUX(NS("user") ",\"gidMappings\":[" MAP(0, 1, 1) "],\"uidMappings\":[" MAP(
		 0, 1, 10) "," MAP(10, 10, 1) "]"),
		"linux.uidMappings: expected ranges that do not overlap: the host ids of entries 0 "
		"and 1 do"},
	{LINUX(NS("user") ",\"uidMappings\":[" MAP(0, 1, 1) "],\"gidMappings\":[" MAP(
		 0, 1, 10) "," MAP(9, 11, 1) "]"),
		"linux.gidMappings: expected ranges that do not overlap: the container ids"},
	{LINUX(NS("user") ",\"uidMappings\":[" MAP(4294967294, 0, 1) "],\"gidMappings\":[" MAP(
		 0, 0, 4294967295) "]"),
		NULL},
	{LINUX("\"uidMappings\":[" MAP(4294967294, 0, 2) "]"),
		"linux.uidMappings[0].size: expected at most 1"},
	{LINUX("\"uidMappings\":[" MAP(0, 4294967293, 4) "]"),
		"linux.uidMappings[0].size: expected at most 2"},
	{LINUX("\"timeOffsets\":{\"boottime\":{\"secs\":1}}"),
		"linux.timeOffsets: expected nothing without a new time namespace"},
	{LINUX("\"namespaces\":[{\"type\":\"time\",\"path\":\"/x\"}],"
	       "\"timeOffsets\":{\"boottime\":{\"secs\":1}}"),
		"an existing one keeps its offsets"},
	{LINUX("\"timeOffsets\":{}"), NULL},
	{LINUX("\"netDevices\":{\"eth0\":{}}"),
		"linux.netDevices: expected nothing without a network namespace"},
	{LINUX(NS("network") ",\"netDevices\":{\"a\":{\"name\":\"e%d\"},\"b\":{\"name\":\"e%d\"}}"),
		NULL},

	/* The following rows test linux.sysctl. */
	{LINUX(NS("user") ",\"sysctl\":{\"user.max_user_namespaces\":\"0\"}"), NULL},
	{LINUX(NS("network") ",\"sysctl\":{\"user.max_user_namespaces\":\"0\"}"),
		"\"user.max_user_namespaces\" is not allowed without a user namespace"},
	{LINUX("\"sysctl\":{\"net.core.somaxconn\":\"1\"}"),
		"linux.sysctl: \"net.core.somaxconn\" is not allowed without a network namespace"},
	{LINUX(NS("network") ",\"sysctl\":{\"net/ipv4/conf/eth0.100/rp_filter\":\"1\"}"), NULL},
	/*
	 * The first separator in a sysctl's name decides how the name is read: if it is a dot, a
	 * slash later stands for a dot inside a component.
	 */
	{LINUX(NS("network") ",\"sysctl\":{\"net.ipv4.conf.eth0/100.rp_filter\":\"1\"}"), NULL},
	{LINUX(NS("network") ",\"sysctl\":{\"net.ipv4.conf.eth0//100.rp_filter\":\"1\"}"), NULL},
	{LINUX(NS("network") ",\"sysctl\":{\"net.ipv4.conf.eth0..100.rp_filter\":\"1\"}"),
		"linux.sysctl: expected names such as"},
	{LINUX(NS("network") ",\"sysctl\":{\"net/ipv4/conf/eth0..100/rp_filter\":\"1\"}"), NULL},
	{LINUX(NS("network") ",\"sysctl\":{\"net/ipv4/conf//rp_filter\":\"1\"}"),
		"linux.sysctl: expected names such as"},
	{LINUX(NS("network") ",\"sysctl\":{\"kernel.msgmax\":\"1\"}"),
		"\"kernel.msgmax\" is not allowed without an ipc namespace"},
	{LINUX(NS("ipc") ",\"sysctl\":{\"kernel.msgmax\":\"1\",\"fs.mqueue.msg_max\":\"2\"}"),
		NULL},
	{LINUX(NS("ipc") ",\"sysctl\":{\"kernel.domainname\":\"1\"}"),
		"\"kernel.domainname\" is not allowed without a uts namespace"},
	{LINUX(NS("uts") ",\"sysctl\":{\"kernel.hostname\":\"1\"}"), "use the property hostname"},
	{DOC(",\"linux\":{" NS(
		 "uts") ",\"sysctl\":{\"kernel/hostname\":\"1\"}},\"hostname\":\"2\""),
		"use the property hostname, which is \"2\""},
	{DOC(",\"linux\":{" NS(
		 "uts") ",\"sysctl\":{\"kernel.hostname\":\"1\"}},\"hostname\":\"1\""),
		NULL},
	{LINUX("\"sysctl\":{\"kernel.hostname\":\"1\"}"),
		"\"kernel.hostname\" is not allowed without a uts namespace"},
	{DOC(",\"linux\":{" NS(
		 "uts") ",\"sysctl\":{\"kernel.domainname\":\"1\"}},\"domainname\":\"2\""),
		"linux.sysctl: expected \"2\" for kernel.domainname"},
	{DOC(",\"linux\":{" NS(
		 "uts") ",\"sysctl\":{\"kernel.domainname\":\"1\"}},\"domainname\":\"1\""),
		NULL},
	{LINUX(NS("uts") ",\"sysctl\":{\"kernel.panic\":\"1\"}"),
		"\"kernel.panic\" is not allowed: it is not in a separate kernel namespace"},

	/*
	 * These rows of linux.resources have the values that Docker writes for limits that were not
	 * given.
	 */
	{LINUX("\"resources\":{\"blockIO\":{\"weight\":0},\"memory\":"
	       "{\"swappiness\":18446744073709551615}}"),
		NULL},
	{LINUX("\"resources\":{\"cpu\":{\"quota\":-1,\"burst\":5}}"), NULL},
	{LINUX("\"resources\":{\"cpu\":{\"quota\":4,\"burst\":5}}"),
		"linux.resources.cpu.burst: expected at most the quota, 4, found 5"},
	{LINUX("\"intelRdt\":{\"closID\":\"/\"}"), NULL},

	/* The following rows test linux.memoryPolicy. */
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_LOCAL\"}"), NULL},
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_PREFERRED\"}"), NULL},
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_WEIGHTED_INTERLEAVE\",\"nodes\":\"0\"}"), NULL},
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_DEFAULT\",\"nodes\":\"\"}"), NULL},
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_PREFERRED\",\"nodes\":\"\"}"), NULL},
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\"}"),
		"linux.memoryPolicy.nodes: expected a list of nodes with MPOL_BIND"},
	{LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_LOCAL\",\"nodes\":\"0\"}"),
		"linux.memoryPolicy.nodes: expected nothing with MPOL_LOCAL"},
	{LINUX("\"personality\":{\"domain\":\"LINUX\",\"flags\":[\"x\"]}"),
		"linux.personality.flags[0]: expected an empty array"},

	/* The following rows test linux.seccomp. */
	{SECCOMP("\"defaultAction\":\"SCMP_ACT_NOTIFY\""), "linux.seccomp.listenerPath: expected"},
	{SECCOMP("\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/ignored\""), NULL},
	{SECCOMP("\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerMetadata\":\"x\""),
		"linux.seccomp.listenerMetadata: expected nothing"},
	{SECCOMP("\"defaultAction\":\"SCMP_ACT_KILL\",\"defaultErrnoRet\":1"),
		"linux.seccomp.defaultErrnoRet: expected nothing: only SCMP_ACT_ERRNO and "
		"SCMP_ACT_TRACE have it"},

	/* The following rows test the object `vm`. */
	{VM(""), NULL},
	{VM("\"hwConfig\":{\"vcpus\":2}"), NULL},
	{VM("\"kernel\":{\"path\":\"\"},\"hypervisor\":{\"path\":\"\"},"
	    "\"image\":{\"path\":\"\",\"format\":\"\"},\"hwconfig\":{\"vcpus\":3}"),
		NULL},
	{VM("\"kernel\":{\"path\":\"/k\"},\"hwconfig\":{\"vcpus\":0}"),
		"vm.hwconfig.vcpus: expected a number from 1"},
	{VM("\"kernel\":{\"path\":\"/k\"},\"hwconfig\":{},\"hwConfig\":{}"),
		"vm.hwconfig: expected nothing"},
};

/*
 * Checks the limit of 0 processes in linux.resources.pids. Its meaning depends on the ociVersion in
 * the document.
 */
static void test_no_pids(void **state)
{
	static const struct {
		const char *version;
		int64_t limit;
	} rows[] = {
		{"1.0.2-dev", -1},
		{"1.0.0", -1},
		{"1.2.1", -1},
		{"1.2.99+dev", -1},
		{"1.3.0-rc.1", 0},
		{"1.3.0", 0},
		{"1.10.0", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_arena_ struct arena a = {0};
		struct cg_resources later = {.pids_limit = {true, 0}};
		const struct spec *s;
		char text[256];
		int len = snprintf(text, sizeof(text),
			"{\"ociVersion\":\"%s\",\"root\":{\"path\":\"r\"},"
			"\"linux\":{\"resources\":{\"pids\":{\"limit\":0}}}}",
			rows[i].version);
		assert_int_equal(spec_parse(&a, text, (size_t)len, "config.json", &s), 0);
		assert_true(s->resources.pids_limit.set);
		if (s->resources.pids_limit.v != rows[i].limit)
			fail_msg("%s: pids.limit 0 became %lld", rows[i].version,
				(long long)s->resources.pids_limit.v);
		spec_settle_resources(s, &later);
		assert_int_equal(later.pids_limit.v, rows[i].limit);
		later.pids_limit.v = 5;
		spec_settle_resources(s, &later);
		assert_int_equal(later.pids_limit.v, 5);
	}
}

static void test_documents(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		_cleanup_arena_ struct arena a = {0};
		const char *text = documents[i].text, *error = documents[i].error;
		const struct spec *s;
		err_clear();
		int r = spec_parse(&a, text, strlen(text), "config.json", &s);
		if (!error && r < 0)
			fail_msg("%s: %s", text, err_msg());
		if (error && (r != -EINVAL || !strstr(err_msg(), error)))
			fail_msg("%s:\n%d %s\nexpected: %s", text, r, err_msg(), error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_no_pids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
