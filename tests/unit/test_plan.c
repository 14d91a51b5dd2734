/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares plans with golden files. tests/golden/NAME.json is a config.json, and NAME.plan is the
 * output of `caisson plan` for it, under the facts in the table below. After an intended change run
 * UPDATE_GOLDEN=1 meson test plan and read the difference.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fd.h"
#include "plan/plan.h"

#define FACTS .bundle = "/bundle", .keyring = "_ses.x"

static const struct golden {
	const char *config, *plan;
	struct plan_env env;
} goldens[] = {
	{"default", "default", {FACTS, .cgroup = true}},
	{"default", "default-run", {FACTS, .cgroup = true, .attached = true}},
	{"default", "default-systemd",
		{FACTS, .cgroup = true, .cgroup_attach = true, .notify_dir = "/run/n"}},
	{"default", "default-nested", {FACTS, .in_userns = true, .no_pivot = true}},
	{"default", "default-tree", {FACTS, .cgroup = true, .tree_namespace = true}},
	{"rootless", "rootless", {FACTS, .rootless = true, .uid = 1000, .gid = 1000}},
	{"full", "full", {FACTS, .cgroup = true}},
	{"joined", "joined", {FACTS, .cgroup = true, .no_new_keyring = true}},
	{"empty", "empty", {FACTS}},
	{"default", "default-vm", {FACTS, .isolation = PLAN_VM, .cgroup = true}},
	{"vm", "vm", {FACTS, .isolation = PLAN_VM, .cgroup = true, .cgroup_attach = true}},
	{"vm-privileged", "vm-privileged", {FACTS, .isolation = PLAN_VM}},
	{"vm-net", "vm-net", {FACTS, .isolation = PLAN_VM}},
	{"vm-rootless", "vm-rootless",
		{FACTS, .isolation = PLAN_VM, .rootless = true, .uid = 1000, .gid = 1000}},
	/* an ordinary user's bundle without a user namespace */
	{"default", "default-vm-user",
		{FACTS, .isolation = PLAN_VM, .rootless = true, .uid = 1000, .gid = 1000}},
	{"vm-foreign", "vm-foreign", {FACTS, .isolation = PLAN_VM, .cgroup = true}},
};

static const struct spec *load(struct arena *a, const char *name)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct spec *s = NULL;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.json", GOLDEN_DIR, name);
	if (fd_read_file(AT_FDCWD, path, &text, SPEC_MAX_SIZE) < 0 ||
		spec_parse(a, strbuf_str(&text), text.len, path, &s) < 0)
		fail_msg("%s", err_msg());
	return s;
}

static void compare(const char *name, const struct strbuf *got)
{
	_cleanup_strbuf_ struct strbuf want = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.plan", GOLDEN_DIR, name);
	if (getenv("UPDATE_GOLDEN"))
		assert_int_equal(fd_replace_file(AT_FDCWD, path, got->s, got->len, 0644), 0);
	if (fd_read_file(AT_FDCWD, path, &want, 1 << 20) < 0)
		fail_msg("%s", err_msg());
	assert_string_equal(strbuf_str(got), strbuf_str(&want));
}

static void test_goldens(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		_cleanup_arena_ struct arena a = {0};
		_cleanup_strbuf_ struct strbuf text = {0};
		struct plan p;

		if (plan_build(&a, load(&a, goldens[i].config), &goldens[i].env, &p) < 0)
			fail_msg("%s: %s", goldens[i].plan, err_msg());
		assert_int_equal(plan_print(&p, &text), 0);
		compare(goldens[i].plan, &text);
	}
}

static void test_exec(void **state)
{
	static const char *const configs[] = {"default", "full", "rootless", "vm"};

	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		_cleanup_arena_ struct arena a = {0};
		_cleanup_strbuf_ struct strbuf text = {0};
		const struct spec *s = load(&a, configs[i]);
		struct plan_exec_env env = {.spec = s, .process = s->process, .keyring = "_ses.x"};
		if (streq(configs[i], "vm"))
			env.isolation = PLAN_VM;
		char name[64];
		struct plan p;

		assert_int_equal(plan_build_exec(&a, &env, &p), 0);
		assert_int_equal(plan_print(&p, &text), 0);
		snprintf(name, sizeof(name), "%s-exec", configs[i]);
		compare(name, &text);
	}
}

/*
 * Checks in the plan of each golden configuration that every slot (the index of a descriptor) is in
 * range, and that a step opens the slot before another step uses it.
 */
static void test_slots(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(goldens); i++) {
		_cleanup_arena_ struct arena a = {0};
		bool opened[256] = {false};
		struct plan p;

		assert_int_equal(
			plan_build(&a, load(&a, goldens[i].config), &goldens[i].env, &p), 0);
		assert_true(p.nslots < 256);
		for (size_t k = 0; k < p.n; k++) {
			const struct step *s = &p.steps[k];
			bool opens = s->kind == STEP_OPEN_ROOT || s->kind == STEP_OPEN_SOURCE ||
				     s->kind == STEP_OPEN_NAMESPACE ||
				     s->kind == STEP_COMPILE_SECCOMP || s->kind == STEP_CONNECT ||
				     s->kind == STEP_CONNECT_NET;
			assert_true(s->slot < p.nslots);
			for (size_t j = 0; s->kind == STEP_DEVICE_NODES && j < s->nodes.n; j++) {
				assert_false(opened[s->nodes.v[j].slot]);
				opened[s->nodes.v[j].slot] = true;
			}
			if (s->slot < 0)
				continue;
			/*
			 * In VM mode a mount's source has two steps with the same slot: the host
			 * copies the source's mounts, and the guest finds the source in the share.
			 * So the guest's step may open the slot again.
			 */
			if (s->place != PLACE_GUEST)
				assert_true(opened[s->slot] == !opens);
			opened[s->slot] = true;
		}
	}
}

static void refuse(const char *config, const struct plan_env *env, const char *field)
{
	_cleanup_arena_ struct arena a = {0};
	const struct spec *s = NULL;
	struct plan p;

	assert_int_equal(spec_parse(&a, config, strlen(config), "config.json", &s), 0);
	assert_true(plan_build(&a, s, env, &p) < 0);
	assert_non_null(strstr(err_msg(), field));
}

#define HEAD "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"namespaces\":["

static void test_refused(void **state)
{
	const struct plan_env root = {FACTS}, user = {FACTS, .rootless = true, .uid = 1000};

	refuse(HEAD "{\"type\":\"pid\"}]}}", &root,
		"linux.namespaces: there is no mount namespace");
	refuse(HEAD "{\"type\":\"mount\"}]}}", &user, "linux.namespaces: an ordinary user");
	refuse(HEAD "{\"type\":\"mount\"},{\"type\":\"user\"}]}}", &root,
		"User namespaces enabled, but no uid mappings found: linux.uidMappings");
	refuse(HEAD
		"{\"type\":\"mount\"}]},\"annotations\":{\"io.caisson.vm.net\":\"vhost-user:/s\"}}",
		&root, "annotation io.caisson.vm.net: /s: a vhost-user back end serves microVMs");
}

#define VM_NAMESPACES \
	"{\"type\":\"mount\"},{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":" \
	"\"network\"}"

/* Checks that the plan refuses what a microVM cannot do, and names the property of config.json. */
static void test_refused_in_a_vm(void **state)
{
	const struct plan_env vm = {FACTS, .isolation = PLAN_VM};
	const struct plan_env user = {FACTS, .isolation = PLAN_VM, .rootless = true, .uid = 1000};

	refuse(HEAD "{\"type\":\"mount\"},{\"type\":\"user\"}]}}", &user,
		"there is no network namespace");
	refuse(HEAD "{\"type\":\"mount\"}]}}", &vm, "there is no network namespace");
	refuse(HEAD "{\"type\":\"mount\"},{\"type\":\"network\"}]}}", &vm,
		"there is no pid namespace");
	refuse(HEAD
		"{\"type\":\"mount\"},{\"type\":\"network\"},{\"type\":\"pid\"},{\"type\":\"uts\"},"
		"{\"type\":\"ipc\",\"path\":\"/x\"}]}}",
		&vm, "linux.namespaces[4]");
	refuse(HEAD VM_NAMESPACES
		"],\"devices\":[{\"path\":\"/dev/sda\",\"type\":\"b\",\"major\":8,"
		"\"minor\":0}]}}",
		&vm, "linux.devices[0]: /dev/sda (b 8:0)");
	refuse(HEAD VM_NAMESPACES "],\"memoryPolicy\":{\"mode\":\"MPOL_LOCAL\"}}}", &vm,
		"linux.memoryPolicy");
	refuse(HEAD VM_NAMESPACES "],\"seccomp\":{\"defaultAction\":\"SCMP_ACT_NOTIFY\","
				  "\"listenerPath\":\"/x\"}}}",
		&vm, "linux.seccomp");
	refuse(HEAD VM_NAMESPACES "]},\"mounts\":[{\"destination\":\"/a\",\"source\":\"/b\","
				  "\"type\":\"bind\",\"options\":[\"rshared\"]}]}",
		&vm, "mounts[0].options");
	refuse(HEAD VM_NAMESPACES
		"]},\"vm\":{\"kernel\":{\"path\":\"\"},\"hwConfig\":{\"irqs\":[1]}}}",
		&vm, "vm.hwConfig.irqs");
}

/*
 * Checks that the plan refuses, for a guest that runs without caisson's agent, every property that
 * only the agent could carry out.
 */
static void test_refused_for_foreign(void **state)
{
	static const char *const fields[][2] = {
		{"\"mounts\":[{\"destination\":\"/a\",\"source\":\"/b\",\"type\":\"bind\"}]",
			"mounts"},
		{"\"hostname\":\"a\"", "hostname"},
		{"\"hooks\":{\"startContainer\":[{\"path\":\"/a\"}]}", "hooks.startContainer"},
		{"\"hooks\":{\"createContainer\":[{\"path\":\"/a\"}]}", "hooks.createContainer"},
		{"\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"}", "process.args"},
		{"\"process\":{\"args\":[\"init\"],\"cwd\":\"/\",\"env\":[\"A=b\"]}",
			"process.env"},
		{"\"process\":{\"args\":[\"init\"],\"cwd\":\"/\",\"user\":{\"uid\":1,\"gid\":1}}",
			"process.user"},
	};
	const struct plan_env vm = {FACTS, .isolation = PLAN_VM};
	char text[2048];

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		snprintf(text, sizeof(text),
			HEAD VM_NAMESPACES "]},\"annotations\":{\"io.caisson.vm.guest\":"
					   "\"foreign\"},%s}",
			fields[i][0]);
		refuse(text, &vm, fields[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goldens),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_in_a_vm),
		cmocka_unit_test(test_refused_for_foreign),
	};
	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
