/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the orders for the guest's agent. The test writes and reads the orders of each golden
 * configuration, which must not change them. If a byte is changed, reading must fail, or must give
 * orders that are safe to use. The orders must not contain what only the host needs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <sys/mount.h>

#include "agent/orders.h"
#include "base/fd.h"

/*
 * distance between the bytes that the test changes; 5 has no common factor with the sizes of
 * structures, so bytes at every offset in a structure are changed
 */
#define STRIDE 5

static const struct spec *parse(struct arena *a, const char *text, size_t len)
{
	const struct spec *s = NULL;

	if (spec_parse(a, text, len, "config.json", &s) < 0)
		fail_msg("%s", err_msg());
	return s;
}

static const struct spec *load(struct arena *a, const char *name)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.json", GOLDEN_DIR, name);
	if (fd_read_file(AT_FDCWD, path, &text, SPEC_MAX_SIZE) < 0)
		fail_msg("%s", err_msg());
	return parse(a, strbuf_str(&text), text.len);
}

static struct agent_orders make_create(struct arena *a, const struct spec *s)
{
	static uint64_t filter[] = {0x0006000000000000, 0x7fff000000000006};
	const struct plan_env env = {
		.isolation = PLAN_VM, .bundle = "/bundle", .keyring = "_ses.x", .cgroup = true};
	struct agent_orders o;
	struct plan plan;

	if (plan_build(a, s, &env, &plan) < 0 || agent_orders_for_create(a, &plan, s, &o) < 0)
		fail_msg("%s", err_msg());
	o.id = "x";
	o.state = "{\"status\":\"\",\"pid\":0}";
	o.filter = filter;
	o.nfilter = ARRAY_SIZE(filter);
	for (size_t i = 0; i < o.nslots; i++)
		o.mount_flags[i] = i % 2 ? MOUNT_ATTR_NOSUID : 0;
	return o;
}

static struct agent_orders make_exec(struct arena *a, const struct spec *s)
{
	const struct plan_exec_env env = {.isolation = PLAN_VM,
		.spec = s,
		.process = s->process,
		.cgroup_attach = true,
		.keyring = "_ses.x"};
	struct agent_orders o;
	struct plan plan;

	if (plan_build_exec(a, &env, &plan) < 0 || agent_orders_for_exec(a, &plan, s, &o) < 0)
		fail_msg("%s", err_msg());
	o.subgroup = "sub";
	return o;
}

static void *copy_of(struct arena *a, const struct strbuf *b)
{
	void *bytes = arena_alloc(a, b->len);

	assert_non_null(bytes);
	memcpy(bytes, b->s, b->len);
	return bytes;
}

static void assert_same_text(const char *a, const char *b)
{
	assert_true(!a == !b);
	if (a)
		assert_string_equal(a, b);
}

static void assert_survives(struct arena *a, const struct agent_orders *o)
{
	_cleanup_strbuf_ struct strbuf bytes = {0}, again = {0}, before = {0}, after = {0};
	struct agent_orders *got = NULL;

	if (agent_orders_pack(o, &bytes) < 0 ||
		agent_orders_unpack(copy_of(a, &bytes), bytes.len, &got) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(plan_print(&o->plan, &before), 0);
	assert_int_equal(plan_print(&got->plan, &after), 0);
	assert_string_equal(strbuf_str(&before), strbuf_str(&after));
	assert_same_text(o->id, got->id);
	assert_same_text(o->state, got->state);
	assert_same_text(o->subgroup, got->subgroup);
	assert_int_equal(o->uid, got->uid);
	assert_int_equal(o->delegate, got->delegate);
	assert_int_equal(o->image, got->image);
	assert_int_equal(o->overlay, got->overlay);
	assert_int_equal(o->root_readonly, got->root_readonly);
	assert_int_equal(o->resources.ndevices, got->resources.ndevices);
	assert_int_equal(o->resources.memory.limit.v, got->resources.memory.limit.v);
	assert_int_equal(o->nslots, got->nslots);
	if (o->nslots)
		assert_memory_equal(
			o->mount_flags, got->mount_flags, o->nslots * sizeof(*o->mount_flags));
	assert_int_equal(o->nfilter, got->nfilter);
	assert_int_equal(agent_orders_pack(got, &again), 0);
	assert_int_equal(again.len, bytes.len);
	assert_memory_equal(again.s, bytes.s, bytes.len);
}

static void orders_survive(void **state)
{
	static const char *const configs[] = {"default", "vm", "vm-privileged", "vm-net"};

	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		_cleanup_arena_ struct arena a = {0};
		const struct spec *s = load(&a, configs[i]);
		struct agent_orders create = make_create(&a, s), exec = make_exec(&a, s);
		assert_survives(&a, &create);
		assert_survives(&a, &exec);
	}
}

static bool has_step_of(const struct plan *p, enum step_place place)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].place == place && p->steps[i].kind != STEP_BARRIER)
			return true;
	return false;
}

static bool holds(const struct strbuf *b, const char *text)
{
	return memmem(b->s, b->len, text, strlen(text)) != NULL;
}

/*
 * Checks that the guest, which may be hostile, does not get the environment of the host's hooks,
 * which may hold secrets.
 */
static void the_hosts_business_is_not_told(void **state)
{
	static const char config[] =
		"{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\"},"
		"\"hooks\":{\"createRuntime\":[{\"path\":\"/bin/a-path\","
		"\"args\":[\"an-arg\"],\"env\":[\"TOKEN=secret\"]}],"
		"\"startContainer\":[{\"path\":\"/in/the/guest\",\"env\":[\"A=b\"]}]},"
		"\"process\":{\"cwd\":\"/\",\"args\":[\"x\"],\"env\":[\"C=d\"]},"
		"\"linux\":{\"resources\":{\"cpu\":{\"cpus\":\"0-7\"},\"unified\":{\"io.max\":\"8:"
		"0 "
		"rbps=1\",\"pids.max\":\"7\"}},\"namespaces\":[{\"type\":\"pid\"},{\"type\":"
		"\"mount\"},"
		"{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"network\"}]}}";
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	const struct spec *s = parse(&a, config, strlen(config));
	struct agent_orders o = make_create(&a, s);

	assert_int_equal(agent_orders_pack(&o, &bytes), 0);
	assert_true(holds(&bytes, "/in/the/guest") && holds(&bytes, "A=b") && holds(&bytes, "C=d"));
	assert_false(holds(&bytes, "a-path") || holds(&bytes, "an-arg") || holds(&bytes, "secret"));
	assert_true(holds(&bytes, "pids.max"));
	assert_false(holds(&bytes, "0-7") || holds(&bytes, "io.max"));
	assert_true(has_step_of(&o.plan, PLACE_GUEST) && has_step_of(&o.plan, PLACE_INIT));
	assert_false(has_step_of(&o.plan, PLACE_HOST) || has_step_of(&o.plan, PLACE_MONITOR));
}

static int read_back(struct arena *a, const struct agent_orders *o)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct agent_orders *got = NULL;

	assert_int_equal(agent_orders_pack(o, &bytes), 0);
	return agent_orders_unpack(copy_of(a, &bytes), bytes.len, &got);
}

/*
 * Checks that orders with a bad slot (the index of a descriptor) or bad flags are refused, because
 * the guest's agent uses slots as indices of arrays, and the flags for its mounts.
 */
static void bad_orders_are_refused(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct agent_orders o = make_create(&a, load(&a, "vm"));
	struct step *steps = arena_array(&a, o.plan.n, sizeof(*steps));
	size_t open = 0;

	assert_non_null(steps);
	assert_int_equal(read_back(&a, &o), 0);
	memcpy(steps, o.plan.steps, o.plan.n * sizeof(*steps));
	o.plan.steps = steps;
	while (steps[open].kind != STEP_OPEN_ROOT)
		open++;
	const int slot = steps[open].slot, bad[] = {-1, -2, o.plan.nslots, INT32_MAX};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		steps[open].slot = bad[i];
		assert_int_equal(read_back(&a, &o), -EPROTO);
	}
	steps[open].slot = slot;
	assert_int_equal(read_back(&a, &o), 0);
	o.nslots--;
	assert_int_equal(read_back(&a, &o), -EPROTO);
	o.nslots++;
	o.mount_flags[slot] = MOUNT_ATTR_IDMAP;
	assert_int_equal(read_back(&a, &o), -EPROTO);
}

/*
 * Changes one byte of the orders at a time. If the reader accepts the changed orders, they must be
 * safe to use.
 */
static void changed_bytes(void **state)
{
	static const unsigned char values[] = {0x01, 0x80, 0xff};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct agent_orders o = make_create(&a, load(&a, "vm")), *got = NULL;
	size_t refused = 0;

	assert_int_equal(agent_orders_pack(&o, &bytes), 0);
	for (size_t i = 0; i < bytes.len; i += STRIDE) {
		_cleanup_arena_ struct arena own = {0};
		_cleanup_strbuf_ struct strbuf text = {0}, again = {0};
		char *copy = copy_of(&own, &bytes);
		copy[i] ^= (char)values[i / STRIDE % ARRAY_SIZE(values)];
		if (agent_orders_unpack(copy, bytes.len, &got) < 0) {
			refused++;
			continue;
		}
		assert_int_equal(plan_print(&got->plan, &text), 0);
		assert_int_equal(agent_orders_pack(got, &again), 0);
	}
	assert_true(refused > bytes.len / STRIDE / 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(orders_survive),
		cmocka_unit_test(the_hosts_business_is_not_told),
		cmocka_unit_test(bad_orders_are_refused),
		cmocka_unit_test(changed_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
