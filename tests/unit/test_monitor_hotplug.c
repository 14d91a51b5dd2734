/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how the monitor attaches and detaches devices, with an engine of the test, and a guest that
 * answers wrongly, late or never.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>

#include "base/clock.h"
#include "base/fd.h"
#include "unit/rig/monitor_hotplug.h"

#define NET \
	"\"net\":{\"interfaces\":[{\"name\":\"eth1\",\"mac\":\"02:00:00:00:00:01\",\"up\":true," \
	"\"mtu\":1500,\"ipv6\":{\"disabled\":false,\"acceptRa\":1,\"autoconf\":1}," \
	"\"sysctls\":{},\"addresses\":[]}],\"routes\":[],\"neighbours\":[]}"

static void attached_and_detached(void **state)
{
	set_up();
	attach();
	silent(command);
	answer(told("attach"), 0, "");
	replied(0, "");
	assert_true(hotplug_refuse(&m) < 0); /* a checkpoint is refused now */
	int fd = open_disk();
	ask(DISK, fd);
	close(fd);
	replied(EEXIST, "/dev/x is attached already");
	tear_down();

	set_up();
	attach();
	answer(told("attach"), 0, "");
	replied(0, "");
	ask(NO_DISK, -1);
	uint64_t id = told("detach");
	answer(id + 1, 0, ""); /* a reply to no message */
	assert_null(fake.pending);
	answer(id, 0, "");
	answer(id, 0, ""); /* a second reply to the same message */
	hotplug_on_changed(&m);
	replied(0, "");
	assert_int_equal(fake.detached, 1);
	assert_int_equal(hotplug_refuse(&m), 0);
	answer(id, EBUSY, "late");
	silent(command);
	tear_down();
}

static void busy(void **state)
{
	set_up();
	attach();
	answer(told("attach"), 0, "");
	replied(0, "");
	ask(NO_DISK, -1);
	answer(told("detach"), EBUSY, "a program has it open");
	replied(EBUSY, "a program has it open");
	assert_int_equal(fake.detached, 0);
	tear_down();
}

/* A guest cannot make a command believe that a device was never attached, or may be attached. */
static void guest_lies(void **state)
{
	static const int codes[] = {ENOENT, ETIMEDOUT, EINTR};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		set_up();
		attach();
		answer(told("attach"), codes[i], "a lie");
		hotplug_on_changed(&m);
		replied(EIO, "a lie");
		attach();
		answer(told("attach"), 0, "");
		replied(0, "");
		ask(NO_DISK, -1);
		answer(told("detach"), codes[i], "a lie");
		replied(EIO, "a lie");
		assert_int_equal(fake.detached, 1);
		assert_true(hotplug_refuse(&m) < 0);
		tear_down();
	}
}

static void guest_cannot(void **state)
{
	set_up();
	attach();
	answer(told("attach"), ENODEV, "bad\\nluck");
	silent(command);
	hotplug_on_changed(&m); /* the device is taken out before the command learns of the error */
	replied(ENODEV, "bad");
	assert_int_equal(fake.detached, 1);
	assert_int_equal(hotplug_refuse(&m), 0);
	fake.result = -ENOSPC;
	tear_down();

	set_up();
	fake.result = -ENOSPC;
	attach();
	replied(ENOSPC, "the engine's error");
	silent(guest);
	assert_int_equal(hotplug_refuse(&m), 0);
	tear_down();
}

/* An agent that never answers holds up no command, and the device can still be detached. */
static void guest_never_answers(void **state)
{
	set_up();
	attach();
	uint64_t late = told("attach");
	hotplug_check_deadline(&m, clock_ms());
	silent(command);
	hotplug_check_deadline(&m, clock_ms() + 3600000);
	replied(ETIMEDOUT, "disk /dev/x stays attached");
	answer(late, 0, "");
	ask(NO_DISK, -1);
	(void)told("detach");
	hotplug_check_deadline(&m, clock_ms() + 3600000);
	replied(ETIMEDOUT, "stays attached");
	assert_int_equal(fake.detached, 0);
	ask(NO_DISK, -1);
	answer(told("detach"), 0, "");
	hotplug_on_changed(&m);
	replied(0, "");
	assert_int_equal(fake.detached, 1);
	tear_down();
}

#define FORCED "{\"type\":\"detach\",\"kind\":\"disk\",\"name\":\"/dev/x\",\"force\":true}"

/* With "force" the device of a guest that refuses, or never answers, is detached on the host. */
static void guest_is_forced(void **state)
{
	for (int answers = 0; answers < 2; answers++) {
		set_up();
		attach();
		answer(told("attach"), 0, "");
		replied(0, "");
		ask(FORCED, -1);
		uint64_t late = told("detach");
		hotplug_check_deadline(&m, clock_ms());
		assert_null(fake.pending);
		if (answers)
			answer(late, EBUSY, "a program has it open");
		else
			hotplug_check_deadline(&m, clock_ms() + 3600000);
		silent(command);
		hotplug_on_changed(&m);
		replied(0, "");
		assert_int_equal(fake.detached, 1);
		assert_int_equal(hotplug_refuse(&m), 0);
		answer(late, 0, "");
		silent(command);
		tear_down();
	}
}

/* "force" does the same if the agent cannot even be asked, because it has ended its connection. */
static void guest_is_forced_without_agent(void **state)
{
	set_up();
	attach();
	answer(told("attach"), 0, "");
	replied(0, "");
	fd_close(&guest);
	ask(FORCED, -1);
	assert_non_null(fake.pending);
	hotplug_on_changed(&m);
	replied(0, "");
	assert_int_equal(fake.detached, 1);
	assert_int_equal(hotplug_refuse(&m), 0);
	tear_down();
}

/* Each of these is refused before anything is made, and the connection ends. */
static void bad_requests(void **state)
{
	static const struct {
		const char *json, *text;
		bool fd;
	} bad[] = {
		{"{\"type\":\"attach\",\"kind\":\"tank\",\"name\":\"x\"}", "expected a kind", true},
		{"{\"type\":\"attach\",\"kind\":\"disk\"}", "expected a kind and a name", true},
		{DISK, "0 descriptors came: expected 1", false},
		{"{\"type\":\"attach\",\"kind\":\"disk\",\"name\":\"x\"}", "serial number", true},
		{"{\"type\":\"attach\",\"kind\":\"disk\",\"name\":\"x\",\"serial\":\"1\","
		 "\"readOnly\":true}",
			"open for reading", true},
		{"{\"type\":\"attach\",\"kind\":\"net\",\"name\":\"eth1\",\"offloads\":0," NET "}",
			"expected a tap that does not block", true},
		{"{\"type\":\"attach\",\"kind\":\"net\",\"name\":\"eth1\"}", "found nothing", true},
		{NO_DISK, "was not attached", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		set_up();
		int fd = open_disk();
		ask(bad[i].json, bad[i].fd ? fd : -1);
		close(fd);
		assert_null(fake.pending);
		silent(guest);
		_cleanup_agent_frame_ struct agent_frame f = next(command);
		if (!strstr(json_get_str(f.json, "message"), bad[i].text))
			fail_msg("%s: %s", bad[i].json, json_get_str(f.json, "message"));
		assert_true(m.clients[0].sock < 0);
		assert_int_equal(hotplug_refuse(&m), 0);
		tear_down();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attached_and_detached),
		cmocka_unit_test(busy),
		cmocka_unit_test(guest_lies),
		cmocka_unit_test(guest_cannot),
		cmocka_unit_test(guest_never_answers),
		cmocka_unit_test(guest_is_forced),
		cmocka_unit_test(guest_is_forced_without_agent),
		cmocka_unit_test(bad_requests),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
