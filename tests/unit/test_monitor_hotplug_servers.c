/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests what the monitor says of a disk's server that ends. The test is the server: a process that
 * does nothing, whose messages and whose end the test chooses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/hotplug_servers.h"
#include "unit/rig/monitor.h"

#define DISK "{\"type\":\"attach\",\"kind\":\"disk\",\"name\":\"/dev/x\"}"
#define NO_DISK "{\"type\":\"detach\",\"kind\":\"disk\",\"name\":\"/dev/x\"}"

static pid_t server;
static int control; /* the server's end of its socket for control */

static int change(struct engine *e, struct engine_change *c)
{
	return 0;
}

static int changed(struct engine *e)
{
	return 0;
}

static const struct engine_ops ops = {.change = change, .changed = changed};

static void set_up(void)
{
	static const struct machine_config machine;
	int disk[2], controls[2];

	rig_monitor(&ops, &machine);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, disk), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, controls), 0);
	server = fork();
	if (server == 0) {
		pause();
		_exit(0);
	}
	int fds[] = {disk[0], pidfd_open(server, 0), controls[0]};
	ask_fds(DISK, fds, 3);
	control = controls[1];
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(disk[1]);
	hotplug_on_changed(&m);
}

static void set_up_attached(void)
{
	set_up();
	answer(told("attach"), 0, "");
	replied(0, "");
}

/* Detaches the disk, so that the monitor waits for the end of the server. */
static void detach(void)
{
	ask(NO_DISK, -1);
	answer(told("detach"), 0, "");
	hotplug_on_changed(&m);
	silent(command);
}

static void say(int32_t error, const char *why)
{
	struct blk_message message = {.type = BLK_ENDED, .error = error};

	memcpy(message.why, why, strlen(why) < BLK_WHY_MAX ? strlen(why) : BLK_WHY_MAX);
	assert_int_equal(write(control, &message, sizeof(message)), sizeof(message));
}

static void end_server(void)
{
	struct pollfd p[HOTPLUG_MAX];

	fd_close(&control);
	kill(server, SIGKILL);
	assert_int_equal(waitpid(server, NULL, 0), server);
	hotplug_poll_servers(&m, p);
	assert_true(poll(p, ARRAY_SIZE(p), 0) > 0);
	assert_int_equal(hotplug_serve_servers(&m, p), 0);
}

/* The command learns that the device is gone, and of the error. */
static void replied_detached(int code, const char *text)
{
	_cleanup_agent_frame_ struct agent_frame f = next(command);
	int64_t got;

	assert_int_equal(json_get_i64(f.json, "errno", &got), 0);
	assert_int_equal(got, code);
	assert_true(json_get_true(f.json, "detached"));
	assert_non_null(strstr(json_get_str(f.json, "message"), text));
	assert_int_equal(hotplug_refuse(&m), 0);
}

static void told_of_the_last_write(void **state)
{
	static const struct {
		int32_t error;
		int code;
		const char *why, *text;
	} ends[] = {
		{0, 0, "", ""},
		{ENOSPC, ENOSPC, "no space",
			"disk /dev/x: not all that the guest wrote is in the "
			"image: no space"},
		{EDQUOT, EDQUOT, "quota", "quota"},
		{EIO, EIO, "broken",
			"disk /dev/x: not all that the guest wrote is in the image: "
			"broken"},
		/* A guest may have taken over the server. */
		{ENOENT, EIO, "a lie", "a lie"},
		{ETIMEDOUT, EIO, "a lie", "a lie"},
		{-1, EIO, "a lie", "a lie"},
		{INT32_MAX, EIO, "\033[2J", "?[2J"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		set_up_attached();
		detach();
		say(ends[i].error, ends[i].why);
		end_server();
		replied_detached(ends[i].code, ends[i].text);
		rig_monitor_end();
	}
}

static void killed_before_the_last_write(void **state)
{
	set_up_attached();
	detach();
	end_server();
	replied_detached(EIO, "disk /dev/x: caisson-disk was killed before all");
	rig_monitor_end();

	/* A message that is cut off says nothing, and neither does another message. */
	set_up_attached();
	detach();
	struct blk_message other = {.type = BLK_HELD};
	assert_int_equal(write(control, &other, sizeof(other)), sizeof(other));
	other.type = BLK_ENDED;
	assert_int_equal(write(control, &other, 20), 20);
	end_server();
	replied_detached(EIO, "was killed before all");
	rig_monitor_end();
}

static void why_without_end(void **state)
{
	char why[BLK_WHY_MAX + 1];

	memset(why, 'x', BLK_WHY_MAX);
	why[BLK_WHY_MAX] = '\0';
	set_up_attached();
	detach();
	say(EIO, why);
	end_server();
	replied_detached(EIO, "image: xxx");
	rig_monitor_end();
}

/* The command whose attach has failed gets that error, and not the one of the server's end. */
static void attach_has_failed(void **state)
{
	set_up();
	answer(told("attach"), ENODEV, "no driver");
	hotplug_on_changed(&m);
	silent(command);
	say(EIO, "broken");
	end_server();
	replied_detached(ENODEV, "no driver");
	rig_monitor_end();
}

/* When the machine ends, the user of `run` learns of the first disk that is not whole. */
static void machine_ends(void **state)
{
	struct monitor_args args = {.failure = memfd_create("failure", MFD_CLOEXEC)};
	char text[ERR_MAX] = "";

	set_up_attached();
	m.a = &args;
	say(ENOSPC, "no space");
	fd_close(&control);
	kill(server, SIGKILL);
	assert_int_equal(waitpid(server, NULL, 0), server);
	hotplug_release(&m);
	assert_true(pread(args.failure, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(
		text, "disk /dev/x: not all that the guest wrote is in the image: no space");
	rig_monitor_end();
	close(args.failure);
}

/* A guest that has taken over the server sends messages without end, and it does not end. */
static void machine_ends_but_the_server_talks(void **state)
{
	struct monitor_args args = {.failure = memfd_create("failure", MFD_CLOEXEC)};
	const struct blk_message other = {.type = BLK_HELD};
	char text[ERR_MAX] = "";

	set_up_attached();
	m.a = &args;
	kill(server, SIGKILL);
	assert_int_equal(waitpid(server, NULL, 0), server);
	server = fork();
	if (server == 0) {
		const int flags = fcntl(control, F_GETFL);

		(void)fcntl(control, F_SETFL, flags & ~O_NONBLOCK);
		alarm(20);
		while (write(control, &other, sizeof(other)) > 0)
			;
		_exit(0);
	}
	fd_close(&control);
	struct attached *d = &m.hotplug.devices[0];
	fd_close(&d->server);
	d->server = pidfd_open(server, 0);
	hotplug_end_servers(&m, 50);
	kill(server, SIGKILL);
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_true(pread(args.failure, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "disk /dev/x: "));
	assert_non_null(strstr(text, "did not end in time"));
	rig_monitor_end();
	close(args.failure);
}

static void bad_descriptors(void **state)
{
	static const struct machine_config machine;
	int file = memfd_create("file", MFD_CLOEXEC), sock[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	const int self = pidfd_open(getpid(), 0);
	const int fds[][3] = {{sock[0], self, file}, {file, self, sock[1]}, {sock[0], self, -1}};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		rig_monitor(&ops, &machine);
		ask_fds(DISK, fds[i], fds[i][2] < 0 ? 2 : 3);
		replied(EPROTO, "the pidfd and the control");
		rig_monitor_end();
	}
	close(sock[0]);
	close(sock[1]);
	close(self);
	close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(told_of_the_last_write),
		cmocka_unit_test(killed_before_the_last_write),
		cmocka_unit_test(why_without_end),
		cmocka_unit_test(attach_has_failed),
		cmocka_unit_test(machine_ends),
		cmocka_unit_test(machine_ends_but_the_server_talks),
		cmocka_unit_test(bad_descriptors),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
