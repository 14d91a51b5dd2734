/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the result of spec_parse() for small documents: defaults, names, mount options, and the
 * documents that caisson writes itself.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "unit/rig/strings.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)
#define DOC(body) "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"}" body "}"
#define PROCESS(body) DOC(",\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"" body "}")
#define VM(body) DOC(",\"vm\":{" body "}")

/*
 * Checks that in a minimal document an absent number differs from 0, and that every absent list can
 * be read without a check for NULL.
 */
static void test_minimal(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s;
	const char *text = PROCESS(",\"consoleSize\":{\"height\":5,\"width\":5},"
				   "\"capabilities\":{}");

	assert_int_equal(spec_parse(&a, text, strlen(text), "x", &s), 0);
	assert_null(s->hostname);
	assert_false(s->has_resources || s->personality.set || s->time_boottime.set);
	assert_null(s->seccomp);
	assert_null(s->vm);
	assert_null(s->masked_paths.v[0]);
	assert_null(s->readonly_paths.v[0]);
	assert_null(s->process->env.v[0]);
	assert_false(s->process->oom_score_adj.set || s->process->io_priority.set);
	assert_false(s->process->user.umask.set);
	assert_non_null(s->process->capabilities);
	/* If process.terminal is not set, the parser must ignore process.consoleSize. */
	assert_int_equal(s->process->console_height, 0);
	for (int i = 0; i < SPEC_NS_COUNT; i++)
		assert_false(s->ns[i].set);
}

static void test_vm_defaults(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s;
	const char *text = VM("\"kernel\":{\"path\":\"\"},\"hypervisor\":{\"path\":\"\"},"
			      "\"image\":{\"path\":\"/i\",\"format\":\"\"},"
			      "\"hwconfig\":{\"memory\":5}");

	assert_int_equal(spec_parse(&a, text, strlen(text), "x", &s), 0);
	assert_null(s->vm->kernel_path);
	assert_null(s->vm->hypervisor_path);
	assert_null(s->vm->hypervisor_parameters.v[0]);
	assert_null(s->vm->dtdevs.v[0]);
	assert_string_equal(s->vm->image_format, "raw");
	assert_int_equal(s->vm->memory.v, 5);
}

static void test_unknown_capability(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s;
	unsigned n = 0;
	const char *text = PROCESS(",\"capabilities\":{\"bounding\":[\"CAP_KILL\",\"CAP_X\"]}");

	/*
	 * The parser must accept the unknown capability CAP_X with a warning in the log, as the
	 * specification demands.
	 */
	assert_int_equal(spec_parse(&a, text, strlen(text), "config.json", &s), 0);
	assert_true(s->process->capabilities->bounding == CAP(KILL));
	assert_string_equal(err_msg(), "");
	assert_int_equal(spec_parse_capability("CAP_SYSLOG", &n), 0);
	assert_int_equal(n, CAP_SYSLOG);
	assert_int_equal(spec_parse_capability("CAP_X", &n), -EINVAL);
	assert_non_null(strstr(err_msg(), "\"CAP_X\""));
}

/*
 * Each row has mount options and the flags that they must give. If two options contradict each
 * other, the later one must win.
 */
static const struct {
	const char *options[3];
	uint64_t set, clr, rec_set, rec_clr;
	uint32_t sb, sb_clr, propagation;
} option_cases[] = {
	{{"defaults"}, 0, 0, 0, 0, 0, 0, 0},
	{{"ro", "rw"}, 0, MOUNT_ATTR_RDONLY, 0, 0, 0, 0, 0},
	{{"rw", "ro"}, MOUNT_ATTR_RDONLY, 0, 0, 0, 0, 0, 0},
	{{"noatime", "strictatime"}, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, 0, 0, 0, 0, 0},
	{{"strictatime", "atime"}, 0, MOUNT_ATTR__ATIME, 0, 0, 0, 0, 0},
	{{"noatime", "relatime"}, 0, MOUNT_ATTR__ATIME, 0, 0, 0, 0, 0},
	{{"noatime", "norelatime"}, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0, 0, 0, 0, 0},
	{{"noatime", "nodiratime"}, MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODIRATIME, MOUNT_ATTR__ATIME,
		0, 0, 0, 0, 0},
	{{"nosymfollow", "nodev"}, MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NODEV, 0, 0, 0, 0, 0, 0},
	{{"rro", "rnoatime"}, 0, 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0, 0,
		0},
	{{"ro", "rrw"}, MOUNT_ATTR_RDONLY, 0, 0, MOUNT_ATTR_RDONLY, 0, 0, 0},
	{{"rnosuid", "rsuid"}, 0, 0, 0, MOUNT_ATTR_NOSUID, 0, 0, 0},
	{{"sync", "async"}, 0, 0, 0, 0, 0, MS_SYNCHRONOUS, 0},
	{{"async", "sync"}, 0, 0, 0, 0, MS_SYNCHRONOUS, 0, 0},
	{{"lazytime", "iversion"}, 0, 0, 0, 0, MS_LAZYTIME | MS_I_VERSION, 0, 0},
	{{"silent", "loud"}, 0, 0, 0, 0, 0, MS_SILENT, 0},
	{{"shared", "rprivate"}, 0, 0, 0, 0, 0, 0, MS_PRIVATE | MS_REC},
};

static void test_mount_options(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_cases); i++) {
		_cleanup_arena_ struct arena a = {0};
		struct spec_mount m = {0};
		struct spec_strings options = {.v = option_cases[i].options};
		while (options.v[options.n])
			options.n++;
		print_message("options %s,%s\n", options.v[0], options.v[1] ? options.v[1] : "");
		assert_int_equal(spec_parse_mount_options(&a, options, &m), 0);
		assert_int_equal(m.attr_set, option_cases[i].set);
		assert_int_equal(m.attr_clr, option_cases[i].clr);
		assert_int_equal(m.rec_attr_set, option_cases[i].rec_set);
		assert_int_equal(m.rec_attr_clr, option_cases[i].rec_clr);
		assert_int_equal(m.sb_flags, option_cases[i].sb);
		assert_int_equal(m.sb_flags_clr, option_cases[i].sb_clr);
		assert_int_equal(m.propagation, option_cases[i].propagation);
		assert_int_equal(m.data.n, 0);
	}
}

/*
 * Checks that the parser accepts every mount option that `caisson features` lists, and that this
 * list has every option of the specification's config.md.
 */
static void test_known_mount_options(void **state)
{
	const char *required[] = {"async", "atime", "bind", "defaults", "dev", "diratime",
		"dirsync", "exec", "iversion", "lazytime", "loud", "mand", "noatime", "nodev",
		"nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
		"nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev",
		"rdiratime", "relatime", "remount", "rexec", "rnoatime", "rnodiratime", "rnoexec",
		"rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate",
		"rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid",
		"rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime",
		"suid", "symfollow", "sync", "tmpcopyup", "unbindable", "idmap", "ridmap", "rnodev",
		"copy-symlink", "src-nofollow", "dest-nofollow"};
	const char *const *known = spec_known_mount_options();
	size_t n = 0;

	for (; known[n]; n++) {
		_cleanup_arena_ struct arena a = {0};
		struct spec_mount m = {0};
		struct spec_strings one = {.v = &known[n], .n = 1};
		assert_int_equal(spec_parse_mount_options(&a, one, &m), 0);
		assert_int_equal(m.data.n, 0);
	}
	assert_int_equal(n, ARRAY_SIZE(required));
	for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
		bool found = false;
		for (size_t j = 0; j < n; j++)
			found |= streq(known[j], required[i]);
		if (!found)
			fail_msg("%s is not a known mount option", required[i]);
	}
}

static size_t count(const char *const *names)
{
	size_t n = 0;

	while (names[n])
		n++;
	return n;
}

static void test_known(void **state)
{
	assert_int_equal(count(spec_known_namespaces()), 8);
	assert_int_equal(count(spec_known_capabilities()), CAP_CHECKPOINT_RESTORE + 1);
	assert_string_equal(spec_known_capabilities()[CAP_SYS_ADMIN], "CAP_SYS_ADMIN");
	assert_int_equal(count(spec_known_seccomp_actions()), 9);
	assert_int_equal(count(spec_known_seccomp_operators()), 7);
	assert_int_equal(count(spec_known_seccomp_archs()), 23);
	assert_int_equal(count(spec_known_seccomp_flags()), 4);
	assert_int_equal(count(spec_known_mempolicy_modes()), 7);
	assert_int_equal(count(spec_known_mempolicy_flags()), 3);
}

static const struct spec *write_default(struct arena *a, bool rootless)
{
	const struct spec_user_maps maps = {"0 1000 1\n", "0 1001 1\n"};
	_cleanup_json_out_ struct json_out out;
	const struct spec *s;
	const char *text;
	size_t len;

	assert_int_equal(json_out_init(&out, true), 0);
	assert_int_equal(spec_write_default(&out, rootless ? &maps : NULL), 0);
	assert_int_equal(json_out_text(&out, &text, &len), 0);
	if (spec_parse(a, text, len, "default", &s) < 0)
		fail_msg("%s", err_msg());
	return s;
}

static void test_default(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s = write_default(&a, false);

	assert_string_equal(s->oci_version, SPEC_VERSION);
	assert_true(s->process->terminal && s->process->no_new_privileges && s->root_readonly);
	assert_strings(s->process->args, "sh");
	assert_int_equal(s->nmounts, 7);
	assert_int_equal(s->resources.ndevices, 1);
	assert_false(s->resources.devices[0].allow);
	assert_false(s->ns[SPEC_NS_USER].set || s->ns[SPEC_NS_TIME].set);
	assert_true(s->ns[SPEC_NS_NETWORK].set && s->ns[SPEC_NS_CGROUP].set);
	assert_int_equal(s->process->rlimits[0].hard, 1024);
	assert_true(s->process->capabilities->bounding ==
		    (CAP(AUDIT_WRITE) | CAP(KILL) | CAP(NET_BIND_SERVICE)));
}

static void test_default_rootless(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s = write_default(&a, true);

	assert_true(s->ns[SPEC_NS_USER].set && !s->ns[SPEC_NS_NETWORK].set);
	assert_int_equal(s->uid_mappings.v[0].host_id, 1000);
	assert_int_equal(s->gid_mappings.v[0].host_id, 1001);
	assert_false(s->has_resources);
	assert_strings(s->mounts[2].data, "newinstance", "ptmxmode=0666", "mode=0620");
	assert_string_equal(s->mounts[5].source, "/sys");
	assert_true(s->mounts[5].rbind);
}

/* Writes text to a new file and stores the file's name in path. */
static void temporary(char *path, size_t size, const char *text)
{
	snprintf(path, size, "/tmp/caisson-test-spec-XXXXXX");
	_cleanup_fd_ int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void test_parts(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec_process *p;
	struct cg_resources res;
	char path[64];

	temporary(path, sizeof(path), "{\"args\":[\"a\"],\"cwd\":\"/\"}");
	assert_int_equal(spec_load_process(&a, path, &p), 0);
	assert_strings(p->args, "a");
	/* This document has no property that caisson knows, so it must give no limits. */
	assert_int_equal(spec_load_resources(&a, path, &res), 0);
	unlink(path);
	temporary(path, sizeof(path), "{\"pids\":{\"limit\":5},\"memory\":{\"limit\":\"x\"}}");
	assert_int_equal(spec_load_resources(&a, path, &res), -EINVAL);
	assert_non_null(strstr(err_msg(), ": memory.limit: expected a number from -1"));
	assert_int_equal(spec_load_process(&a, path, &p), -EINVAL);
	unlink(path);
	temporary(path, sizeof(path), "{\"pids\":{\"limit\":5}}");
	_cleanup_fd_ int saved = dup(STDIN_FILENO);
	_cleanup_fd_ int fd = open(path, O_RDONLY);
	assert_true(dup2(fd, STDIN_FILENO) == STDIN_FILENO);
	assert_int_equal(spec_load_resources(&a, "-", &res), 0);
	assert_int_equal(res.pids_limit.v, 5);
	dup2(saved, STDIN_FILENO);
	unlink(path);
}

/*
 * Tests crun's mount option "idmap", whose id maps have ids that are absolute, or relative to the
 * container's user namespace.
 */
static void test_idmap_option(void **state)
{
	static const char text[] =
		"{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"mounts\":["
		"{\"destination\":\"/a\",\"source\":\"/b\",\"options\":[\"rbind\","
		"\"ridmap=gids=7-8-9;uids=0-1000-10#@10-2001-4\"]},"
		"{\"destination\":\"/c\",\"source\":\"/d\",\"options\":[\"bind\",\"idmap=\"]}],"
		"\"linux\":{\"namespaces\":[{\"type\":\"user\"}],"
		"\"uidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":1},"
		"{\"containerID\":2000,\"hostID\":70000,\"size\":9}],"
		"\"gidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":1}]}}";
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s;

	assert_int_equal(spec_parse(&a, text, strlen(text), "config.json", &s), 0);
	const struct spec_mount *m = s->mounts;
	assert_true(m->ridmap && !m->idmap && m->uid_mappings.n == 2 && m->gid_mappings.n == 1);
	assert_int_equal(m->uid_mappings.v[0].container_id, 0);
	assert_int_equal(m->uid_mappings.v[0].host_id, 1000);
	assert_int_equal(m->uid_mappings.v[0].size, 10);
	assert_int_equal(m->uid_mappings.v[1].container_id, 10);
	assert_int_equal(m->uid_mappings.v[1].host_id, 70001);
	assert_int_equal(m->gid_mappings.v[0].host_id, 8);
	assert_true(m->data.n == 0);
	assert_true(m[1].idmap && m[1].uid_mappings.n == 0);
}

/*
 * Checks that `exec --process` takes the properties that its file leaves out from the container's
 * process, except the program.
 */
static void test_process_inherits(void **state)
{
	static const char whole[] =
		"{\"args\":[\"a\"],\"cwd\":\"/\",\"env\":[\"A=1\"],\"terminal\":true,"
		"\"user\":{\"uid\":7,\"gid\":8,\"additionalGids\":[9],\"umask\":63},"
		"\"capabilities\":{\"bounding\":[\"CAP_KILL\"]},\"noNewPrivileges\":true,"
		"\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":1,\"hard\":2}],"
		"\"apparmorProfile\":\"p\",\"selinuxLabel\":\"l\",\"oomScoreAdj\":5,"
		"\"scheduler\":{\"policy\":\"SCHED_BATCH\"},"
		"\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":3},"
		"\"execCPUAffinity\":{\"initial\":\"0\",\"final\":\"0-1\"}}";
	static const char none[] = "{\"args\":[\"b\"],\"cwd\":\"/tmp\",\"apparmorProfile\":\"\"}";
	static const char other[] =
		"{\"args\":[\"b\"],\"cwd\":\"/tmp\",\"user\":{},\"capabilities\":{},"
		"\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":3,\"hard\":4}],"
		"\"apparmorProfile\":\"q\",\"selinuxLabel\":\"m\",\"oomScoreAdj\":0,"
		"\"scheduler\":{\"policy\":\"SCHED_IDLE\"},"
		"\"ioPriority\":{\"class\":\"IOPRIO_CLASS_IDLE\",\"priority\":0},"
		"\"execCPUAffinity\":{\"initial\":\"1\"}}";
	_cleanup_arena_ struct arena a = {0};
	const struct spec_process *from, *read;

	assert_int_equal(spec_parse_process(&a, whole, strlen(whole), "p", &from), 0);
	assert_int_equal(spec_parse_process(&a, none, strlen(none), "p", &read), 0);
	struct spec_process p = *read;
	spec_process_inherit(&p, from);
	assert_int_equal(memcmp(&p.user, &from->user, sizeof(p.user)), 0);
	assert_true(p.capabilities && p.capabilities->bounding == 1 << CAP_KILL);
	assert_true(p.nrlimits == 1 && p.rlimits[0].soft == 1);
	assert_string_equal(p.apparmor_profile, "p");
	assert_string_equal(p.selinux_label, "l");
	assert_true(p.oom_score_adj.set && p.oom_score_adj.v == 5);
	assert_true(p.scheduler && p.scheduler->policy == SCHED_BATCH);
	assert_true(p.io_priority.set && p.io_priority.v == (2 << 13 | 3));
	assert_string_equal(p.exec_affinity_initial, "0");
	assert_string_equal(p.exec_affinity_final, "0-1");
	assert_true(!p.no_new_privileges && !p.terminal && p.env.n == 0);
	assert_strings(p.args, "b");
	assert_string_equal(p.cwd, "/tmp");
	assert_int_equal(spec_parse_process(&a, other, strlen(other), "p", &read), 0);
	p = *read;
	spec_process_inherit(&p, from);
	assert_int_equal(memcmp(&p, read, sizeof(p)), 0);
	assert_true(p.user.uid == 0 && p.user.gid == 0);
}

static void test_load_errors(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec_process *p;
	struct cg_resources res;

	assert_int_equal(spec_load_process(&a, "/nonexistent/process.json", &p), -ENOENT);
	assert_string_equal(err_msg(), "/nonexistent/process.json not found");
	assert_int_equal(spec_load_process(&a, "/tmp", &p), -EISDIR);
	assert_int_equal(spec_load_process(&a, "/dev/zero", &p), -EFBIG);
	assert_int_equal(spec_load_process(&a, "/dev/null", &p), -EINVAL);
	assert_string_equal(err_msg(), "null is empty");
	assert_int_equal(spec_load_resources(&a, "/nonexistent/limits.json", &res), -ENOENT);
	assert_string_equal(err_msg(), "/nonexistent/limits.json not found");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_minimal),
		cmocka_unit_test(test_vm_defaults),
		cmocka_unit_test(test_unknown_capability),
		cmocka_unit_test(test_mount_options),
		cmocka_unit_test(test_known_mount_options),
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_default_rootless),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_idmap_option),
		cmocka_unit_test(test_process_inherits),
		cmocka_unit_test(test_load_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
