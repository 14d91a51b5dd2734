/* SPDX-License-Identifier: Apache-2.0 */
/* Tests how the monitor changes the number of vCPUs and the memory, with an engine of the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/control.h"
#include "unit/rig/monitor.h"

#define MIB (UINT64_C(1) << 20)

/* What the engine of the test was asked for, and what it answers. */
static struct {
	struct engine_balloon balloon;
	struct engine_hot_memory memory;
} fake;

static int fake_set_balloon(struct engine *e, uint64_t bytes)
{
	fake.balloon.wanted = bytes;
	return 0;
}

static void fake_get_balloon(struct engine *e, struct engine_balloon *ret)
{
	*ret = fake.balloon;
}

static void fake_request_memory(struct engine *e, uint64_t bytes)
{
	fake.memory.requested = bytes;
}

static void fake_get_memory(struct engine *e, struct engine_hot_memory *ret)
{
	*ret = fake.memory;
}

static const struct engine_ops ops = {.set_balloon = fake_set_balloon,
	.get_balloon = fake_get_balloon,
	.request_memory = fake_request_memory,
	.get_memory = fake_get_memory};

static void set_up(void)
{
	static const struct machine_config machine = {.cpus = 1,
		.max_cpus = 3,
		.memory = MACHINE_MEMORY_DEFAULT,
		.hot_memory = 256 * MIB};

	rig_monitor(&ops, &machine);
	memset(&fake, 0, sizeof(fake));
}

static void tear_down(void)
{
	rig_monitor_end();
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
		"{\"type\":\"cpus\",\"count\":18446744073709551615,\"clamp\":true}",
		"{\"type\":\"cpus\",\"count\":3,\"check\":true}"};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		uint64_t id, count;

		set_up();
		ask(requests[i], -1);
		_cleanup_agent_frame_ struct agent_frame f = next(guest);
		assert_string_equal(f.type, "cpus");
		assert_int_equal(json_get_u64(f.json, "count", &count), 0);
		assert_int_equal(count, 3);
		assert_int_equal(json_get_true(f.json, "check"), i == 2);
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
	set_up();
	/* 512 MiB, of which the kernel needs 128 and a 64th part */
	assert_int_equal(balloon_for("104857600"), (512 - 128 - 8 - 100) * MIB);
	fake.balloon.given = 7 * MIB;
	assert_int_equal(balloon_for(NULL), (512 - 128 - 8 - 100) * MIB);
	assert_int_equal(balloon_for("104857601"), (512 - 128 - 8 - 100) * MIB - 4096);
	assert_int_equal(balloon_for("1"), (512 - 128 - 8) * MIB - 4096);
	assert_int_equal(balloon_for("0"), 0);
	assert_int_equal(balloon_for("394264576"), 0); /* 376 MiB: all that there is */
	assert_int_equal(balloon_for("18446744073709551615"), 0);
	assert_int_equal(fake.balloon.wanted, 0);
	assert_non_null(strstr(refusal("{\"type\":\"memory\",\"limit\":-1}"), "expected a limit"));
	tear_down();
}

/* Sends a limit in bytes, of which the guest is to be given memory only if `grow` is set. */
static uint64_t growth_for(uint64_t limit, bool grow)
{
	char json[96];

	snprintf(json, sizeof(json), "{\"type\":\"memory\",\"limit\":%llu,\"grow\":%s}",
		(unsigned long long)limit, grow ? "true" : "false");
	ask(json, -1);
	replied(0, "");
	return fake.memory.requested;
}

/* A limit above what the guest has at its start, without its kernel, asks it to take more. */
static void growth(void **state)
{
	set_up();
	assert_int_equal(growth_for(384 * MIB, false), 0);
	assert_int_equal(growth_for(384 * MIB + 1, false), 2 * MIB);
	assert_int_equal(growth_for(500 * MIB, false), 116 * MIB);
	assert_int_equal(growth_for(768 * MIB, false), 256 * MIB);
	fake.memory.plugged = 256 * MIB;
	assert_int_equal(fake.balloon.wanted, 0);
	assert_int_equal(growth_for(500 * MIB, true), 256 * MIB); /* it gives none yet */
	assert_int_equal(growth_for(UINT64_MAX, false), 256 * MIB);
	assert_int_equal(growth_for(100 * MIB, true), 256 * MIB);
	assert_int_equal(fake.balloon.wanted, 0);
	assert_int_equal(growth_for(100 * MIB, false), 0);
	assert_true(fake.balloon.wanted > 0);
	assert_int_equal(growth_for(500 * MIB, true), 116 * MIB);
	assert_true(fake.balloon.wanted > 0);
	assert_int_equal(growth_for(500 * MIB, false), 116 * MIB);
	assert_int_equal(fake.balloon.wanted, 0);
	assert_int_equal(growth_for(0, false), 0);
	assert_non_null(strstr(refusal("{\"type\":\"memory\",\"limit\":805306369}"),
		"expected at most 805306368"));
	assert_int_equal(fake.memory.requested, 0);
	tear_down();
}

/* Memory that the guest was asked to take and has not taken is not kept for a later limit. */
static void growth_that_the_guest_does_not_follow(void **state)
{
	set_up();
	assert_int_equal(growth_for(768 * MIB, true), 256 * MIB);
	fake.memory.plugged = 2 * MIB; /* of 256 */
	assert_int_equal(growth_for(500 * MIB, true), 116 * MIB);
	assert_int_equal(growth_for(100 * MIB, true), 2 * MIB);
	assert_int_equal(growth_for(768 * MIB, true), 256 * MIB);
	assert_int_equal(growth_for(UINT64_MAX, true), 2 * MIB);
	assert_int_equal(growth_for(100 * MIB, false), 0);
	/* It could not free two blocks: it is not to keep them, nor to take them again. */
	fake.memory.plugged = 4 * MIB;
	assert_int_equal(growth_for(100 * MIB, true), 0);
	assert_int_equal(growth_for(UINT64_MAX, false), 0);
	tear_down();
}

/* A command that could not finish takes back what it gave; it can ask for no other size. */
static void growth_undone(void **state)
{
	static const char *const bad[] = {"-1", "1", "268435457", "270532608", "\"2097152\"",
		"0,\"balloon\":1", "0,\"balloon\":-4096", "0,\"balloon\":\"4096\"",
		"0,\"balloon\":1099511627776"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char json[96];

		set_up();
		assert_int_equal(growth_for(500 * MIB, true), 116 * MIB);
		snprintf(json, sizeof(json), "{\"type\":\"memory\",\"undo\":%s}", bad[i]);
		assert_non_null(strstr(refusal(json), "expected what the "));
		assert_int_equal(fake.memory.requested, 116 * MIB);
		tear_down();
	}
	set_up();
	fake.memory.plugged = 116 * MIB;
	assert_int_equal(growth_for(768 * MIB, true), 256 * MIB);
	ask("{\"type\":\"memory\",\"undo\":121634816}", -1);
	uint64_t asked;
	_cleanup_agent_frame_ struct agent_frame f = next(command);
	assert_int_equal(json_get_u64(f.json, "before", &asked), 0);
	assert_int_equal(asked, 256 * MIB);
	assert_int_equal(fake.memory.requested, 116 * MIB);
	assert_int_equal(fake.balloon.wanted, 0);
	ask("{\"type\":\"memory\",\"undo\":0,\"balloon\":4096}", -1);
	_cleanup_agent_frame_ struct agent_frame second = next(command);
	assert_string_equal(json_get_str(second.json, "message"), "");
	assert_int_equal(fake.balloon.wanted, 4096);
	assert_int_equal(fake.memory.requested, 0);
	tear_down();
}

/* Sends the request "memory" to a monitor that gives this answer. */
static void expect_error(const char *answer, const char *text)
{
	_cleanup_agent_writer_ struct agent_writer told = {0}, asked = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	int socks[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	assert_int_equal(agent_begin(&told, "reply"), 0);
	json_out_u64(&told.json, "errno", EPROTO);
	json_out_str(&told.json, "message", answer);
	assert_true(agent_send(&told, socks[1], NULL, 0) >= 0);
	assert_int_equal(agent_begin(&asked, "memory"), 0);
	assert_int_equal(control_call(socks[0], &asked, NULL, 10000, &reply), -EPROTO);
	assert_string_equal(err_msg(), text);
	close(socks[0]);
	close(socks[1]);
}

/* A monitor that was started by an older caisson does not know the request. */
static void older_monitor(void **state)
{
	expect_error("unknown request \"memory\"",
		"unknown request \"memory\": the microVM was started by another version of "
		"caisson: start it anew");
	expect_error("cpus: something else", "cpus: something else");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(growth_that_the_guest_does_not_follow),
		cmocka_unit_test(vcpus_refused),
		cmocka_unit_test(vcpus_changed),
		cmocka_unit_test(balloon),
		cmocka_unit_test(growth),
		cmocka_unit_test(growth_undone),
		cmocka_unit_test(older_monitor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
