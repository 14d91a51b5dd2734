/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests linux.resources in VM mode: which part of it applies in the guest, which part on the host,
 * and how the guest's part is sent to the guest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/orders.h"
#include "cgroups/cgroup.h"
#include "machine/machine_config.h"
#include "plan/vm.h"

#define MIB (INT64_C(1) << 20)

static struct arena a;

static int tear_down(void **state)
{
	arena_release(&a);
	return 0;
}

static struct cg_resources parse(const char *text)
{
	struct cg_resources res = {0};
	struct json *node;

	if (json_parse(&a, text, strlen(text), "test", &node) < 0 ||
		spec_parse_resources(&a, node, "test", &res) < 0)
		fail_msg("%s", err_msg());
	return res;
}

static const char all[] =
	"{\"devices\": [{\"allow\": false}, {\"allow\": true, \"type\": \"c\", \"major\": 10,"
	" \"minor\": 229, \"access\": \"rw\"}],"
	"\"memory\": {\"limit\": 104857600, \"reservation\": 1000000, \"swap\": -1,"
	" \"checkBeforeUpdate\": true},"
	"\"cpu\": {\"quota\": 50000, \"period\": 100000, \"cpus\": \"0\"}, \"pids\": {\"limit\": "
	"0},"
	"\"blockIO\": {\"weight\": 100}, \"rdma\": {\"mlx5_1\": {\"hcaHandles\": 3}},"
	"\"hugepageLimits\": [{\"pageSize\": \"2MB\", \"limit\": 4194304}],"
	"\"unified\": {\"memory.high\": \"50M\", \"cpu.weight\": \"50\", \"pids.max\": \"7\","
	" \"io.max\": \"8:0 rbps=1\", \"hugetlb.2MB.max\": \"0\", \"cpuset.cpus\": \"0\","
	" \"cgroup.max.depth\": \"2\", \"misc.max\": \"x 1\", \"cpux.max\": \"1\"}}";

static void check_unified(const struct cg_resources *res, size_t n, const char *const *want)
{
	assert_int_equal(res->nunified, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(res->unified[i].file, want[i]);
}

static void split(void **state)
{
	static const char *const guest[] = {
		"memory.high", "pids.max", "hugetlb.2MB.max", "cgroup.max.depth", "cpux.max"};
	static const char *const host[] = {"cpu.weight", "io.max", "cpuset.cpus", "misc.max"};
	const struct cg_resources res = parse(all);
	struct plan_vm_limits l, again;

	assert_int_equal(plan_vm_split_limits(&a, &res, &l), 0);
	check_unified(&l.guest, ARRAY_SIZE(guest), guest);
	check_unified(&l.host, ARRAY_SIZE(host), host);
	assert_int_equal(l.guest.ndevices, 2);
	assert_int_equal(l.guest.memory.limit.v, 100 * MIB);
	assert_true(l.guest.pids_limit.set);
	assert_int_equal(l.guest.nhugepages, 1);
	assert_false(l.guest.cpu.quota.set || l.guest.block_io.weight.set || l.guest.nrdma);
	assert_int_equal(l.host.ndevices + l.host.nhugepages, 0);
	assert_false(l.host.memory.limit.set || l.host.memory.swap.set || l.host.pids_limit.set ||
		     l.host.memory.reservation.set || l.host.memory.check_before_update.set);
	assert_int_equal(l.host.cpu.quota.v, 50000);
	assert_string_equal(l.host.cpu.cpus, "0");
	assert_int_equal(l.host.block_io.weight.v, 100);
	assert_int_equal(l.host.nrdma, 1);
	/*
	 * If the guest's part of the limits is split again, all of it must stay in the guest's
	 * part.
	 */
	assert_int_equal(plan_vm_split_limits(&a, &l.guest, &again), 0);
	check_unified(&again.guest, ARRAY_SIZE(guest), guest);
	assert_false(cg_wants_limits(&again.host));
}

static struct cg_resources send(const struct cg_resources *limits)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct cg_resources *got;

	assert_int_equal(agent_limits_pack(limits, &bytes), 0);
	void *copy = arena_alloc(&a, bytes.len);
	assert_non_null(copy);
	memcpy(copy, bytes.s, bytes.len);
	if (agent_limits_unpack(copy, bytes.len, &got) < 0)
		fail_msg("%s", err_msg());
	return *got;
}

/*
 * Sends the guest's part of the limits in the way that `caisson update` does, and compares it with
 * what the guest would read.
 */
static void to_the_guest(void **state)
{
	const struct cg_resources res = parse(all);
	struct plan_vm_limits l;

	assert_int_equal(plan_vm_split_limits(&a, &res, &l), 0);
	const struct cg_resources got = send(&l.guest);
	assert_int_equal(got.ndevices, 2);
	assert_int_equal(got.devices[1].major, 10);
	assert_int_equal(got.devices[1].minor, 229);
	assert_string_equal(got.devices[1].access, "rw");
	assert_true(got.devices[1].allow && got.devices[1].type == 'c' && !got.devices[0].allow);
	assert_int_equal(got.devices[0].major, -1);
	assert_int_equal(got.memory.limit.v, 100 * MIB);
	assert_int_equal(got.memory.reservation.v, 1000000);
	assert_int_equal(got.memory.swap.v, -1);
	assert_true(got.memory.check_before_update.v);
	assert_true(got.pids_limit.set && got.pids_limit.v == 0);
	assert_string_equal(got.hugepages[0].page_size, "2MB");
	assert_int_equal(got.hugepages[0].limit, 4194304);
	check_unified(&got, l.guest.nunified,
		(const char *const[]){"memory.high", "pids.max", "hugetlb.2MB.max",
			"cgroup.max.depth", "cpux.max"});
	assert_string_equal(got.unified[0].value, "50M");
	/*
	 * A limit that an update does not name must arrive in the guest as not set, because an
	 * update changes only what it names.
	 */
	const struct cg_resources none = send(&(struct cg_resources){0});
	assert_false(none.ndevices || none.nunified || none.nhugepages || none.memory.limit.set ||
		     none.memory.swap.set || none.memory.reservation.set || none.pids_limit.set);
}

static void memory_limit(void **state)
{
	static const struct {
		const char *text;
		uint64_t limit;
		bool unified;
	} cases[] = {
		{"{}", 0, false},
		{"{\"memory\": {\"limit\": -1}}", 0, false},
		{"{\"memory\": {\"limit\": 5}}", 5, false},
		{"{\"memory\": {\"limit\": 5}, \"unified\": {\"memory.high\": \"3\"}}", 5, false},
		{"{\"memory\": {\"limit\": 5}, \"unified\": {\"memory.max\": \"7\"}}", 7, true},
		{"{\"unified\": {\"memory.max\": \"3G\"}}", UINT64_C(3) << 30, true},
		{"{\"unified\": {\"memory.max\": \"2k\"}}", 2048, true},
		{"{\"unified\": {\"memory.max\": \"max\"}}", 0, true},
		{"{\"unified\": {\"memory.max\": \"99999999P\"}}", UINT64_MAX, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct cg_resources res = parse(cases[i].text);
		const char *field;
		assert_int_equal(plan_vm_memory_limit(&res, &field), cases[i].limit);
		assert_string_equal(field, cases[i].unified
						   ? "linux.resources.unified[\"memory.max\"]"
						   : "linux.resources.memory.limit");
	}
}

/*
 * Checks the limits of the cgroup that holds the monitor on the host: they must leave the machine
 * the memory and the devices that it needs, whatever limits the container has.
 */
static void around_the_machine(void **state)
{
	static const char *const texts[] = {all, "{\"unified\": {\"memory.max\": \"50M\"}}"};
	const struct machine_config m = {.memory = 512 * MIB};
	struct cg_resources host;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const struct cg_resources res = parse(texts[i]);
		assert_int_equal(machine_host_resources(&a, &res, &m, &host), 0);
		assert_int_equal(host.memory.limit.v, 512 * MIB + (int64_t)MACHINE_OVERHEAD);
		assert_true(host.memory.upper_bound);
		for (size_t k = 0; k < host.nunified; k++)
			assert_null(strstr(host.unified[k].file, "memory"));
		assert_int_equal(host.ndevices, 4); /* all are denied but kvm, tun and vhost-net */
	}
	const struct cg_resources none = parse("{\"memory\": {\"limit\": -1}}");
	assert_int_equal(machine_host_resources(&a, &none, &m, &host), 0);
	assert_false(host.memory.limit.set);
}

/*
 * Checks how many network interfaces a machine can have that has the most devices of every other
 * kind. The number is limited because each device needs an interrupt line of its own.
 */
static void room_for_interfaces(void **state)
{
	const struct machine_config plain = {0}, disk = {.image = "/image"};

	assert_int_equal(machine_room_for_nics(&plain, 0), 8);
	assert_int_equal(machine_room_for_nics(&plain, PLAN_BACKENDS_MAX), 8);
	assert_int_equal(machine_room_for_nics(&disk, PLAN_BACKENDS_MAX - 1), 8);
	assert_int_equal(machine_room_for_nics(&disk, PLAN_BACKENDS_MAX), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(split, tear_down),
		cmocka_unit_test_teardown(to_the_guest, tear_down),
		cmocka_unit_test_teardown(memory_limit, tear_down),
		cmocka_unit_test_teardown(around_the_machine, tear_down),
		cmocka_unit_test(room_for_interfaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
