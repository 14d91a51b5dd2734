/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how the monitor attaches and detaches devices, and changes the number of vCPUs and the
 * balloon, with an engine of the test, a guest that answers wrongly, late or never, and commands
 * that are killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/fd.h"
#include "monitor/monitor_internal.h"

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
	struct engine_balloon balloon;
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

static int fake_set_balloon(struct engine *e, uint64_t bytes)
{
	fake.balloon.wanted = bytes;
	return 0;
}

static void fake_get_balloon(struct engine *e, struct engine_balloon *ret)
{
	*ret = fake.balloon;
}

static const struct engine_ops ops = {.change = fake_change,
	.changed = fake_changed,
	.set_balloon = fake_set_balloon,
	.get_balloon = fake_get_balloon};

static struct monitor m;
static int guest, command; /* the test's ends of the sockets */

static void set_up(void)
{
	static const struct machine_config machine = {
		.cpus = 1, .max_cpus = 3, .memory = MACHINE_MEMORY_DEFAULT};
	static const struct monitor_args args = {.machine = &machine};

	int agent[2], client[2];

	m = (struct monitor){.a = &args, .engine = {.ops = &ops}, .phase = PHASE_RUNNING};
	memset(&fake, 0, sizeof(fake));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	m.agent = agent[0];
	guest = agent[1];
	m.clients[0].sock = client[0];
	command = client[1];
}

static void tear_down(void)
{
	hotplug_release(&m);
	fd_close(&m.agent);
	fd_close(&guest);
	fd_close(&command);
	if (m.clients[0].sock >= 0)
		client_close(&m.clients[0]);
}

/* Sends a request, with a descriptor if fd >= 0, as a command does. */
static void ask(const char *json, int fd)
{
	struct agent_header h = {(uint32_t)strlen(json), 0};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec v[] = {{&h, sizeof(h)}, {(char *)json, strlen(json)}};
	struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.bytes);
	}
	assert_true(sendmsg(command, &msg, 0) > 0);
	monitor_on_client(&m, &m.clients[0]);
}

/* Reads the next message at one of the test's sockets. Fails if there is none. */
static struct agent_frame next(int sock)
{
	struct agent_reader reader = {0};
	struct agent_frame f = {0};

	assert_int_equal(fcntl(sock, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(agent_reader_receive(&reader, sock), 1);
	assert_int_equal(agent_reader_next(&reader, &f), 1);
	assert_int_equal(reader.len, 0);
	agent_reader_release(&reader);
	return f;
}

/* The next message to the command must be a reply with this errno and text. */
static void replied(int code, const char *text)
{
	_cleanup_agent_frame_ struct agent_frame f = next(command);
	int64_t got;

	assert_string_equal(f.type, "reply");
	assert_int_equal(json_get_i64(f.json, "errno", &got), 0);
	if (got != code || !strstr(json_get_str(f.json, "message"), text))
		fail_msg("reply %lld: %s", (long long)got, json_get_str(f.json, "message"));
}

static void silent(int sock)
{
	char byte;

	assert_int_equal(recv(sock, &byte, 1, MSG_DONTWAIT), -1);
}

/* The guest must have got a message of this type. Returns the message's id. */
static uint64_t told(const char *type)
{
	_cleanup_agent_frame_ struct agent_frame f = next(guest);
	uint64_t id;

	assert_string_equal(f.type, type);
	assert_int_equal(json_get_u64(f.json, "id", &id), 0);
	return id;
}

static void answer(uint64_t id, int code, const char *text)
{
	char json[256];
	_cleanup_arena_ struct arena a = {0};
	struct agent_frame f = {.type = "reply"};

	snprintf(json, sizeof(json),
		"{\"type\":\"reply\",\"id\":%llu,\"errno\":%d,\"message\":\"%s\"}",
		(unsigned long long)id, code, text);
	assert_int_equal(json_parse(&a, json, strlen(json), "test", &f.json), 0);
	assert_int_equal(monitor_on_frame(&m, &f), 0);
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

/* With "force" the device of a guest that refuses, or never answers, is detached on the host. */
static void guest_is_forced(void **state)
{
	static const char request[] = "{\"type\":\"detach\",\"kind\":\"disk\","
				      "\"name\":\"/dev/x\",\"force\":true}";

	for (int answers = 0; answers < 2; answers++) {
		set_up();
		attach();
		answer(told("attach"), 0, "");
		replied(0, "");
		ask(request, -1);
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

/* Sends a request and returns the message of its reply's error, or "" if there is none. */
static const char *refusal(const char *json)
{
	static char text[ERR_MAX];

	ask(json, -1);
	_cleanup_agent_frame_ struct agent_frame f = next(command);
	snprintf(text, sizeof(text), "%s", json_get_str(f.json, "message"));
	return text;
}

static void vcpus_refused(void **state)
{
	static const struct {
		const char *json, *text;
	} bad[] = {
		{"{\"type\":\"cpus\"}", "expected a count from 1"},
		{"{\"type\":\"cpus\",\"count\":0}", "expected a count from 1"},
		{"{\"type\":\"cpus\",\"count\":4}", "4 vCPUs: expected at most 3"},
		{"{\"type\":\"cpus\",\"count\":4,\"clamp\":false}", "expected at most 3"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		set_up();
		assert_non_null(strstr(refusal(bad[i].json), bad[i].text));
		silent(guest);
		tear_down();
	}
	set_up();
	fd_close(&m.agent);
	assert_non_null(strstr(refusal("{\"type\":\"cpus\",\"count\":2}"), "not running"));
	tear_down();
}

/* The guest gets the number, but never more than the machine has. */
static void vcpus_changed(void **state)
{
	static const char *const requests[] = {"{\"type\":\"cpus\",\"count\":3}",
		"{\"type\":\"cpus\",\"count\":18446744073709551615,\"clamp\":true}"};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		uint64_t id, count;

		set_up();
		ask(requests[i], -1);
		_cleanup_agent_frame_ struct agent_frame f = next(guest);
		assert_string_equal(f.type, "cpus");
		assert_int_equal(json_get_u64(f.json, "count", &count), 0);
		assert_int_equal(count, 3);
		silent(command);
		assert_int_equal(json_get_u64(f.json, "id", &id), 0);
		answer(id, EIO, "it cannot");
		replied(EIO, "it cannot");
		tear_down();
	}
}

/* Asks for the balloon of a limit, or only reads it (NULL). Returns what the engine had to do. */
static uint64_t balloon_for(const char *limit)
{
	uint64_t wanted, given;
	char json[96];

	snprintf(json, sizeof(json),
		limit ? "{\"type\":\"memory\",\"limit\":%s}" : "{\"type\":\"memory\"}", limit);
	ask(json, -1);
	_cleanup_agent_frame_ struct agent_frame f = next(command);
	assert_int_equal(json_get_u64(f.json, "wanted", &wanted), 0);
	assert_int_equal(json_get_u64(f.json, "given", &given), 0);
	assert_int_equal(wanted, fake.balloon.wanted);
	assert_int_equal(given, fake.balloon.given);
	return wanted;
}

static void balloon(void **state)
{
	const uint64_t mib = 1 << 20;

	set_up();
	/* 512 MiB, of which the kernel needs 128 and a 64th part */
	assert_int_equal(balloon_for("104857600"), (512 - 128 - 8 - 100) * mib);
	fake.balloon.given = 7 * mib;
	assert_int_equal(balloon_for(NULL), (512 - 128 - 8 - 100) * mib);
	assert_int_equal(balloon_for("104857601"), (512 - 128 - 8 - 100) * mib - 4096);
	assert_int_equal(balloon_for("1"), (512 - 128 - 8) * mib - 4096);
	assert_int_equal(balloon_for("0"), 0);
	assert_int_equal(balloon_for("394264576"), 0); /* 376 MiB: all that there is */
	assert_int_equal(balloon_for("18446744073709551615"), 0);
	assert_int_equal(fake.balloon.wanted, 0);
	assert_non_null(strstr(refusal("{\"type\":\"memory\",\"limit\":-1}"), "expected a limit"));
	tear_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attached_and_detached),
		cmocka_unit_test(busy),
		cmocka_unit_test(guest_cannot),
		cmocka_unit_test(guest_never_answers),
		cmocka_unit_test(guest_is_forced),
		cmocka_unit_test(killed_commands),
		cmocka_unit_test(bad_requests),
		cmocka_unit_test(vcpus_refused),
		cmocka_unit_test(vcpus_changed),
		cmocka_unit_test(balloon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
