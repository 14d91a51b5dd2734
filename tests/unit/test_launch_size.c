/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how `caisson update --memory` follows a microVM's guest (launch/vm_size.h), with a monitor
 * of the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "launch/vm_update.h"
#include "machine/machine_config.h"
#include "monitor/control.h"

#define MIB (UINT64_C(1) << 20)

/* What the test's monitor says of the guest, and what it was asked. */
static struct {
	int listener, stop;
	pthread_t thread;
	/* The guest has so much, and takes what it is asked for if it follows. */
	uint64_t wanted, given, requested, plugged, before;
	bool follows;
	bool old; /* it is of a caisson that does not say what was asked for before */
	unsigned requests;
	uint64_t limit; /* the last one that came, with `grow` */
	bool grow;
	uint64_t count; /* the last number of vCPUs that came, with `check` */
	bool check;
	unsigned updates, undos; /* how many requests "update" came, and how many with `undo` */
	bool cannot_shrink;      /* it fails after it has asked the guest for less memory */
	bool no_hotplug;         /* the guest's kernel cannot put a vCPU on line */
} monitor;

static struct container c;
static struct vm_size_memory before; /* what vm_size_grow_memory() has said last */
static char dir[] = "/tmp/launch-size-XXXXXX";

/* Does what resize() of monitor/machine_size.c does for a machine of 512 MiB. */
static void take_limit(const struct agent_frame *f)
{
	monitor.before = monitor.requested;
	if (json_get_u64(f->json, "undo", &monitor.requested) >= 0) {
		if (json_get_u64(f->json, "balloon", &monitor.wanted) < 0)
			abort();
		return;
	}
	if (json_get_u64(f->json, "limit", &monitor.limit) < 0)
		return;
	monitor.grow = json_get_true(f->json, "grow");
	if (monitor.limit == UINT64_MAX)
		monitor.requested = monitor.plugged;
	else
		monitor.requested = monitor.limit > 384 * MIB ? monitor.limit - 384 * MIB : 0;
	if (monitor.follows)
		monitor.plugged = monitor.requested;
}

static void reply(int sock)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame f = {0};
	struct agent_reader reader = {0};

	if (agent_reader_receive(&reader, sock) != 1 || agent_reader_next(&reader, &f) != 1 ||
		agent_begin(&w, "reply") < 0)
		abort();
	monitor.requests++;
	if (json_get_u64(f.json, "count", &monitor.count) >= 0)
		monitor.check = json_get_true(f.json, "check");
	else if (!streq(f.type, "update"))
		take_limit(&f);
	else if (json_get_true(f.json, "undo"))
		monitor.undos++;
	else
		monitor.updates++;
	const bool shrinks = json_get(f.json, "limit") && !monitor.grow;
	json_out_i64(&w.json, "errno",
		monitor.no_hotplug || (shrinks && monitor.cannot_shrink) ? EOPNOTSUPP : 0);
	json_out_str(&w.json, "message", monitor.no_hotplug ? "CONFIG_HOTPLUG_CPU" : "");
	json_out_u64(&w.json, "wanted", monitor.wanted);
	json_out_u64(&w.json, "given", monitor.given);
	json_out_u64(&w.json, "requested", monitor.requested);
	json_out_u64(&w.json, "plugged", monitor.plugged);
	if (!monitor.old)
		json_out_u64(&w.json, "before", monitor.before);
	if (agent_send(&w, sock, NULL, 0) < 0)
		abort();
	agent_reader_release(&reader);
}

static void *serve(void *unused)
{
	struct pollfd p[] = {
		{.fd = monitor.listener, .events = POLLIN}, {.fd = monitor.stop, .events = POLLIN}};

	while (poll(p, ARRAY_SIZE(p), -1) > 0 && !p[1].revents) {
		_cleanup_fd_ int sock = accept4(monitor.listener, NULL, NULL, SOCK_CLOEXEC);

		if (sock >= 0)
			reply(sock);
	}
	return NULL;
}

static int set_up(void **state)
{
	static const struct spec spec;

	memset(&monitor, 0, sizeof(monitor));
	snprintf(dir + strlen(dir) - 6, 7, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	c = (struct container){.id = "size", .spec = &spec, .vm = true, .root_dir = -EBADF};
	c.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	monitor.listener = control_listen(c.dir);
	monitor.stop = eventfd(0, EFD_CLOEXEC);
	assert_true(monitor.listener >= 0 && monitor.stop >= 0);
	return pthread_create(&monitor.thread, NULL, serve, NULL);
}

static int tear_down(void **state)
{
	eventfd_write(monitor.stop, 1);
	pthread_join(monitor.thread, NULL);
	fd_close(&monitor.listener);
	fd_close(&monitor.stop);
	unlinkat(c.dir, CONTROL_SOCKET, 0);
	fd_close(&c.dir);
	return rmdir(dir);
}

/* Sets a memory limit in the two steps of `caisson update`, and returns the first error. */
static int follow(uint64_t limit, bool grow)
{
	const struct cg_resources limits = {.memory.limit = {.set = true, .v = (int64_t)limit}};

	err_clear();
	return grow ? vm_size_grow_memory(&c, &limits, &before)
		    : vm_size_shrink_memory(&c, &limits);
}

static void the_guest_follows(void **state)
{
	monitor.follows = true;
	assert_int_equal(follow(500 * MIB, true), 1);
	assert_int_equal(monitor.requests, 1);
	assert_true(monitor.grow);
	assert_int_equal(follow(500 * MIB, false), 0);
	assert_false(monitor.grow);
	assert_int_equal(monitor.plugged, 116 * MIB);
	assert_int_equal(follow(300 * MIB, false), 0);
	assert_int_equal(monitor.plugged, 0);
}

/*
 * A guest that still has memory which it could not give back earlier, or whose balloon is not as
 * large as it was to be, has enough for the new limit, so nothing is waited for before the limit is
 * set.
 */
static void a_guest_that_has_more_does_not_delay_a_limit(void **state)
{
	monitor.plugged = 64 * MIB;
	monitor.wanted = 10 * MIB;
	assert_int_equal(follow(200 * MIB, true), 0);
	assert_int_equal(monitor.requests, 1);
	assert_int_equal(follow(400 * MIB, true), 1);
	assert_int_equal(monitor.requests, 2);
}

/* A growth that the guest does not follow is an error, after which nothing more is asked for. */
static void a_growth_that_the_guest_does_not_follow_is_withdrawn(void **state)
{
	monitor.plugged = 2 * MIB;
	assert_int_equal(follow(500 * MIB, true), -ETIMEDOUT);
	assert_non_null(strstr(err_msg(), "taken 2 of the 116 MiB"));
	assert_true(monitor.grow);
	assert_int_equal(monitor.limit, UINT64_MAX);
	assert_int_equal(monitor.requested, 2 * MIB);
}

/* What a command could not finish is undone, and the command fails with the first error. */
static void a_growth_is_undone(void **state)
{
	monitor.follows = true;
	assert_int_equal(follow(400 * MIB, true), 1);
	assert_int_equal(follow(500 * MIB, true), 1);
	assert_int_equal(monitor.requested, 116 * MIB);
	assert_int_equal(vm_size_undo_memory(&c, &before, err_set(EINVAL, "pids.limit")), -EINVAL);
	assert_string_equal(err_msg(), "pids.limit");
	assert_int_equal(monitor.requested, 16 * MIB);
	/* The guest was to give memory, and what followed has failed. */
	monitor.wanted = 10 * MIB;
	assert_int_equal(follow(100 * MIB, true), 0);
	assert_int_equal(follow(100 * MIB, false), 0);
	monitor.wanted = 30 * MIB; /* as the real monitor makes it */
	assert_int_equal(monitor.requested, 0);
	assert_int_equal(vm_size_undo_memory(&c, &before, err_set(EINVAL, "a disk")), -EINVAL);
	assert_int_equal(monitor.requested, 16 * MIB);
	assert_int_equal(monitor.wanted, 10 * MIB);
	/* The monitor of an earlier caisson cannot undo anything. */
	monitor.old = true;
	assert_int_equal(follow(500 * MIB, true), 1);
	const unsigned requests = monitor.requests;
	assert_int_equal(vm_size_undo_memory(&c, &before, -EINVAL), -EINVAL);
	assert_int_equal(monitor.requests, requests);
}

/*
 * The vCPUs for a quota can be checked before they are changed, because `caisson update` changes
 * the limits of the guest in between.
 */
static void a_quota_is_checked_first(void **state)
{
	static struct spec_pair pair = {MACHINE_MAX_VCPUS, "4"};
	const struct spec with_maximum = {.annotations = {&pair, 1}};
	const struct cg_resources limits = {
		.cpu = {.quota = {.set = true, .v = 250000}, .period = {.set = true, .v = 100000}}};

	/* Without a maximum the vCPUs do not follow the quota, and there is nothing to check. */
	assert_int_equal(vm_size_check_quota(&c, &limits), 0);
	assert_int_equal(monitor.requests, 0);
	c.spec = &with_maximum;
	assert_int_equal(vm_size_check_quota(&c, &limits), 0);
	assert_int_equal(monitor.count, 3);
	assert_true(monitor.check);
	uint64_t cpus;
	assert_int_equal(vm_size_follow_quota(&c, &limits, &cpus), 0);
	assert_int_equal(monitor.count, 3);
	assert_false(monitor.check);
	monitor.no_hotplug = true;
	assert_int_equal(vm_size_check_quota(&c, &limits), -EOPNOTSUPP);
	assert_non_null(strstr(err_msg(), "CONFIG_HOTPLUG_CPU"));
}

/* vCPUs that were changed become as many as they were if what followed has failed. */
static void vcpus_are_taken_back(void **state)
{
	uint64_t cpus;

	monitor.before = 2;
	assert_int_equal(vm_size_set_cpus(&c, 300000, 100000, &cpus), 0);
	assert_int_equal(monitor.count, 3);
	assert_int_equal(vm_size_undo_cpus(&c, cpus, err_set(EINVAL, "pids.limit")), -EINVAL);
	assert_string_equal(err_msg(), "pids.limit");
	assert_int_equal(monitor.count, 2);
	/* Nothing is asked for if no vCPUs were changed. */
	const unsigned requests = monitor.requests;
	assert_int_equal(vm_size_undo_cpus(&c, 0, err_set(EINVAL, "pids.limit")), -EINVAL);
	assert_int_equal(monitor.requests, requests);
	/* The guest of an earlier caisson does not say how many there were. */
	monitor.old = true;
	assert_int_equal(vm_size_set_cpus(&c, 100000, 100000, &cpus), 0);
	assert_int_equal(vm_size_undo_cpus(&c, cpus, err_set(EINVAL, "pids.limit")), -EINVAL);
	assert_string_equal(err_msg(), "the vCPUs stay changed: pids.limit");
	assert_int_equal(monitor.requests, requests + 1);
}

/* If the last step fails, the guest gets its memory, its limits and its vCPUs back. */
static void a_guest_that_cannot_shrink_is_as_it_was(void **state)
{
	const struct cg_resources limits = {.memory.limit = {.set = true, .v = 100 * MIB}};
	struct vm_change change;

	monitor.follows = true;
	assert_int_equal(follow(500 * MIB, true), 1);
	monitor.wanted = 10 * MIB;
	for (int cannot = 0; cannot < 2; cannot++) {
		monitor.cannot_shrink = cannot;
		err_clear();
		int r = vm_update_guest(&c, &limits, &limits, 300000, &change);
		assert_int_equal(r, cannot ? -EOPNOTSUPP : 0);
		assert_int_equal(monitor.updates, cannot + 1);
		assert_int_equal(monitor.undos, cannot);
		if (!cannot) {
			assert_int_equal(monitor.requested, 0);
			r = vm_undo_guest(&c, &change, err_set(EINVAL, "a disk"));
			assert_int_equal(r, -EINVAL);
			assert_int_equal(monitor.undos, 1);
			monitor.undos = 0;
		}
		assert_int_equal(monitor.requested, 116 * MIB);
		assert_int_equal(monitor.wanted, 10 * MIB);
		/* The test's monitor has one `before`, which it also says of the vCPUs. */
		assert_int_equal(monitor.count, 116 * MIB);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_guest_follows),
		TEST(a_guest_that_has_more_does_not_delay_a_limit),
		TEST(a_growth_that_the_guest_does_not_follow_is_withdrawn),
		TEST(a_growth_is_undone),
		TEST(a_guest_that_cannot_shrink_is_as_it_was),
		TEST(a_quota_is_checked_first),
		TEST(vcpus_are_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
