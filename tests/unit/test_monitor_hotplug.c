/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how the monitor attaches and detaches devices, with an engine of the test, a guest that
 * answers wrongly, late or never, and commands that are killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/fd.h"
#include "engine/qemu_commands.h"
#include "unit/rig/monitor.h"

#define NET \
	"\"net\":{\"interfaces\":[{\"name\":\"eth1\",\"mac\":\"02:00:00:00:00:01\",\"up\":true," \
	"\"mtu\":1500,\"ipv6\":{\"disabled\":false,\"acceptRa\":1,\"autoconf\":1}," \
	"\"sysctls\":{},\"addresses\":[]}],\"routes\":[],\"neighbours\":[]}"
#define DISK "{\"type\":\"attach\",\"kind\":\"disk\",\"name\":\"/dev/x\",\"serial\":\"1\"}"
#define NO_DISK "{\"type\":\"detach\",\"kind\":\"disk\",\"name\":\"/dev/x\"}"

/* What the engine of the test was asked for, and what it answers. */
static struct {
	unsigned attached, detached;
	int result;
	struct engine_change *pending;
} fake;

static int fake_change(struct engine *e, struct engine_change *c)
{
	assert_null(fake.pending);
	fake.pending = c;
	return 0;
}

static int fake_changed(struct engine *e)
{
	struct engine_change *c = fake.pending;

	fake.pending = NULL;
	if (c->detach) {
		assert_int_equal(c->slot, 7);
		fake.detached++;
		return 0;
	}
	if (fake.result < 0)
		return err_set(-fake.result, "the engine's error");
	fake.attached++;
	c->slot = 7;
	return 0;
}

static int fake_resize_disk(struct engine *e, uint64_t size)
{
	return 0;
}

static const struct engine_ops ops = {
	.change = fake_change, .changed = fake_changed, .resize_disk = fake_resize_disk};

static void set_up(void)
{
	static const struct machine_config machine = {.image = "/disk.raw"};

	rig_monitor(&ops, &machine);
	memset(&fake, 0, sizeof(fake));
}

static void tear_down(void)
{
	rig_monitor_end();
}

static int open_disk(void)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void attach(void)
{
	int fd = open_disk();

	ask(DISK, fd);
	close(fd);
	assert_non_null(fake.pending);
	hotplug_on_changed(&m);
}

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

/* An hour from now, when all deadlines have passed. */
static int64_t in_an_hour(void)
{
	return clock_ms() + 3600000;
}

/* The request must be refused. The monitor then ends the connection, so the test makes another. */
static void refused(const char *json, int fd, const char *text)
{
	int socks[2];

	ask(json, fd);
	replied(EBUSY, text);
	assert_true(m.clients[0].sock < 0);
	close(command);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	m.clients[0].sock = socks[0];
	command = socks[1];
}

/* The engine is done with the change after its command has failed. */
static void engine_is_late(void **state)
{
	set_up();
	int fd = open_disk();
	ask(DISK, fd);
	hotplug_check_deadline(&m, clock_ms());
	silent(command);
	hotplug_check_deadline(&m, in_an_hour());
	replied(EIO, "disk /dev/x is not attached, and is taken out again as soon");
	for (int i = 0; i < 2; i++) {
		hotplug_check_deadline(&m, in_an_hour()); /* says nothing twice */
		refused(DISK, fd, "has not answered about disk /dev/x yet");
	}
	refused(NO_DISK, -1, "has not answered about disk /dev/x yet");
	hotplug_on_changed(&m); /* it has attached the device, and is told to take it out */
	silent(guest);
	assert_true(fake.pending->detach);
	hotplug_on_changed(&m);
	silent(command);
	assert_int_equal(hotplug_refuse(&m), 0);

	/* An engine that could not attach the device has nothing to take out. */
	ask(DISK, fd);
	hotplug_check_deadline(&m, in_an_hour());
	replied(EIO, "is not attached");
	fake.result = -ENOSPC;
	hotplug_on_changed(&m);
	assert_null(fake.pending);
	assert_int_equal(hotplug_refuse(&m), 0);
	fake.result = 0;

	/* The slot is usable again, and the same holds for a device that is detached. */
	attach();
	answer(told("attach"), 0, "");
	replied(0, "");
	ask(NO_DISK, -1);
	answer(told("detach"), 0, "");
	hotplug_check_deadline(&m, in_an_hour());
	replied(ETIMEDOUT, "disk /dev/x is detached as soon");
	refused(DISK, fd, "has not answered");
	hotplug_on_changed(&m);
	silent(command);
	assert_int_equal(hotplug_refuse(&m), 0);
	attach();
	answer(told("attach"), EIO, "no"); /* and if it is late while a device is taken out again */
	hotplug_check_deadline(&m, in_an_hour());
	replied(EIO, "is not attached");
	hotplug_on_changed(&m);
	assert_int_equal(hotplug_refuse(&m), 0);
	assert_int_equal(fake.detached, 3);
	close(fd);
	tear_down();
}

/* A whole round with the engine for QEMU, to whose socket the test is QEMU. */
static void qemu_hangs(void **state)
{
	static const struct machine_config machine;
	static const struct engine_ops real = {.change = qemu_change, .changed = qemu_changed};
	struct qemu_commands q = {.hotplug = {.spares = 1}};
	char got[4096];
	int socks[2], fd = open_disk();

	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks), 0);
	rig_monitor(&real, &machine);
	q.qmp.sock = socks[0];
	m.engine.state = &q;
	m.engine.change_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ask(DISK, fd);
	hotplug_check_deadline(&m, in_an_hour());
	replied(EIO, "the hypervisor did not answer in 30 seconds");
	refused(DISK, fd, "has not answered about disk /dev/x yet");
	static const char *const answers[] = {"{\"return\":{},\"id\":\"hotplug-last\"}",
		"{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"hot0\"}}",
		"{\"return\":{},\"id\":\"hotplug-last\"}"};
	static const char *const commands[] = {"device_add", "device_del", "remove-fd"};
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		_cleanup_arena_ struct arena a = {0};
		struct json *message;
		eventfd_t n;
		ssize_t len = read(socks[1], got, sizeof(got) - 1);
		assert_true(len > 0);
		got[len] = '\0';
		assert_non_null(strstr(got, commands[i]));
		assert_true(hotplug_refuse(&m) < 0);
		assert_int_equal(
			json_parse(&a, answers[i], strlen(answers[i]), "QEMU", &message), 0);
		qemu_hotplug_on_message(&m.engine, message);
		if (eventfd_read(m.engine.change_done, &n) == 0)
			hotplug_on_changed(&m);
	}
	assert_int_equal(hotplug_refuse(&m), 0);
	ask(DISK, fd); /* the only slot is free */
	assert_true(read(socks[1], got, sizeof(got)) > 0);
	silent(command);
	close(fd);
	fd_close(&socks[0]);
	fd_close(&socks[1]);
	fd_close(&m.engine.change_done);
	rig_monitor_end();
}

/* A disk that does not become larger in time holds up no command, and other changes wait for it. */
static void disk_is_late(void **state)
{
	static const char grow[] = "{\"type\":\"grow\",\"size\":4096}";
	const struct engine_event done = {.kind = ENGINE_DISK_RESIZED};
	int fd = open_disk();

	set_up();
	m.disk.control = -EBADF;
	ask(grow, -1);
	disk_size_check_deadline(&m, clock_ms());
	silent(command);
	disk_size_check_deadline(&m, in_an_hour());
	replied(ETIMEDOUT, "did not answer in 30 seconds: the disk may still become larger");
	disk_size_check_deadline(&m, in_an_hour());
	silent(command);
	refused(grow, -1, "being saved or changed");
	refused(DISK, fd, "is being resized");
	disk_size_on_engine(&m, &done);
	silent(command);
	ask(grow, -1);
	disk_size_on_engine(&m, &done);
	replied(0, "");
	disk_size_check_deadline(&m, in_an_hour());
	silent(command);
	close(fd);
	tear_down();
}

static void hang_up(void)
{
	fd_close(&command);
	monitor_on_client(&m, &m.clients[0]);
	assert_true(m.clients[0].sock < 0);
}

/* The device of a command that was killed is detached again, whenever it was killed. */
static void killed_commands(void **state)
{
	set_up();
	int fd = open_disk();
	ask(DISK, fd);
	close(fd);
	hang_up(); /* before the engine has put the device in */
	hotplug_on_changed(&m);
	answer(told("attach"), 0, "");
	answer(told("detach"), 0, "");
	hotplug_on_changed(&m);
	assert_int_equal(fake.detached, 1);
	assert_int_equal(hotplug_refuse(&m), 0);
	tear_down();

	set_up();
	attach();
	hang_up(); /* before the agent has answered */
	answer(told("attach"), EIO, "no");
	hotplug_on_changed(&m);
	assert_int_equal(fake.detached, 1);
	tear_down();

	set_up();
	attach();
	answer(told("attach"), 0, "");
	replied(0, "");
	ask(NO_DISK, -1);
	hang_up(); /* a command that detaches is done although it was killed */
	answer(told("detach"), 0, "");
	hotplug_on_changed(&m);
	assert_int_equal(fake.detached, 1);
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
		cmocka_unit_test(engine_is_late),
		cmocka_unit_test(qemu_hangs),
		cmocka_unit_test(disk_is_late),
		cmocka_unit_test(killed_commands),
		cmocka_unit_test(bad_requests),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
