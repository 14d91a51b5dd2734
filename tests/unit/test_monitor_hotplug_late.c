/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests what the monitor does if the hypervisor answers late or never about a device that a command
 * attaches, detaches or resizes, and if the command is killed meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "engine/qemu_commands.h"
#include "unit/rig/monitor_hotplug.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engine_is_late),
		cmocka_unit_test(qemu_hangs),
		cmocka_unit_test(disk_is_late),
		cmocka_unit_test(killed_commands),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
