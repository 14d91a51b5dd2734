/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the monitor against a guest that an attacker controls and that sends anything as its agent,
 * and tests what the monitor reports about a machine that failed. The test plays the guest at one
 * end of the agent's stream, and the runtime at one end of the channel. tests/vm does the same with
 * a real guest, and with bytes that are no message at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"

#define HELLO "{\"type\":\"hello\",\"version\":3,\"kernel\":\"6.1\"}"
#define CREATED "{\"type\":\"reached\",\"process\":0,\"barrier\":\"created\"}"
#define STEPS "{\"type\":\"steps\",\"process\":0,\"clock\":1,\"steps\":"
#define RUNNING "{\"type\":\"running\",\"process\":0,\"pid\":1}"

struct rig {
	struct monitor *m;
	struct plan plan;
	struct plan_env env;
	struct arena arena;
	struct strbuf orders;
	struct monitor_args args;
	int guest, runtime;
};

static void set_up(struct rig *g)
{
	int agent[2], channel[2];

	*g = (struct rig){.plan.nslots = 0};
	g->m = calloc(1, sizeof(*g->m));
	assert_non_null(g->m);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent), 0);
	assert_int_equal(channel_pair(channel), 0);
	g->args = (struct monitor_args){.plan = &g->plan,
		.env = &g->env,
		.id = "c1",
		.orders = &g->orders,
		.arena = &g->arena};
	g->env = (struct plan_env){.bundle = "/b", .keyring = "_ses.c1"};
	g->m->a = &g->args;
	g->m->agent = agent[0];
	g->guest = agent[1];
	g->m->channel = channel[0];
	g->runtime = channel[1];
	g->m->clock = -EBADF;
	g->m->starter = g->m->start_lock = g->m->console = g->m->share.seal = -EBADF;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		g->m->clients[i].sock = -EBADF;
	assert_int_equal(streams_init(&g->m->streams), 0);
}

static void tear_down(struct rig *g)
{
	streams_release(&g->m->streams);
	agent_reader_release(&g->m->reader);
	fd_close(&g->m->agent);
	fd_close(&g->m->channel);
	fd_close(&g->guest);
	fd_close(&g->runtime);
	strbuf_release(&g->orders);
	arena_release(&g->arena);
	free(g->m);
}

/*
 * Gives these bytes to the monitor's loop as if the guest had sent them. Returns 0, or the error
 * that ends the machine.
 */
static int feed(struct rig *g, const void *bytes, size_t len)
{
	assert_int_equal(write(g->guest, bytes, len), len);
	int r = agent_reader_receive(&g->m->reader, g->m->agent);
	while (r > 0) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(&g->m->reader, &f);
		if (r > 0) {
			r = monitor_on_frame(g->m, &f);
			r = r < 0 ? r : 1;
		}
	}
	return r;
}

static int say(struct rig *g, const char *json)
{
	const struct agent_header h = {htole32((uint32_t)strlen(json)), 0};
	char bytes[1024];

	assert_true(sizeof(h) + strlen(json) <= sizeof(bytes));
	memcpy(bytes, &h, sizeof(h));
	memcpy(bytes + sizeof(h), json, strlen(json));
	return feed(g, bytes, sizeof(h) + strlen(json));
}

/*
 * Gives the messages to the monitor one after the other, as if the guest's agent had sent them. The
 * last one must end the machine with an error that contains this text.
 */
static void ends(const char *const *json, const char *said)
{
	struct rig g;

	set_up(&g);
	for (; json[1]; json++)
		if (say(&g, *json) < 0)
			fail_msg("%s: %s", *json, err_msg());
	assert_true(say(&g, *json) < 0);
	if (!strstr(err_msg(), said))
		fail_msg("%s: \"%s\", expected \"%s\"", *json, err_msg(), said);
	for (const char *c = err_msg(); *c; c++)
		assert_true((unsigned char)*c >= ' ');
	tear_down(&g);
}

#define ENDS(said, ...) ends((const char *const[]){__VA_ARGS__, NULL}, said)

static void messages_out_of_turn(void **state)
{
	ENDS("of another version: expected 3", "{\"type\":\"hello\",\"version\":99}");
	ENDS("of another version", "{\"type\":\"hello\"}");
	ENDS("unexpected \"hello\"", HELLO, HELLO);
	ENDS("unexpected \"running\"", RUNNING);
	ENDS("unexpected \"running\"", HELLO, CREATED, RUNNING, RUNNING);
	ENDS("unexpected \"reached\"", HELLO, "{\"type\":\"reached\",\"process\":0}");
}

static void malformed(void **state)
{
	ENDS("unknown message \"nonsense\"", "{\"type\":\"nonsense\",\"process\":0}");
	ENDS("has no type", "{\"type\":1}");
	ENDS("has no type", "{\"type\":\"\\u001b[2J\",\"process\":0}");
	ENDS("not JSON", "{\"type\":");
	ENDS("process: expected a number", "{\"type\":\"running\",\"process\":-1}");
	ENDS("process: expected a number", "{\"type\":\"running\",\"process\":4294967295}");
	ENDS("malformed \"exited\"", "{\"type\":\"exited\",\"process\":0,\"status\":65536}");
	ENDS("malformed \"exited\"", "{\"type\":\"exited\",\"process\":0}");
	ENDS("malformed \"failed\"", "{\"type\":\"failed\",\"process\":0,\"errno\":0}");
	ENDS("malformed \"failed\"", "{\"type\":\"failed\",\"process\":0,\"errno\":-5}");
	/*
	 * The texts in these messages have control sequences that a terminal would obey, so the
	 * monitor must replace their control characters.
	 */
	ENDS("?[2Jcleared", "{\"type\":\"failed\",\"process\":0,\"errno\":22,"
			    "\"message\":\"\\u001b[2Jcleared\"}");
}

static void lengths(void **state)
{
	static const struct agent_header bad[] = {{UINT32_MAX, UINT32_MAX}, {0, 0}, {1, 0},
		{AGENT_JSON_MAX + 1, 0}, {2, AGENT_BLOB_MAX + 1}};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct agent_header h = {htole32(bad[i].json_len), htole32(bad[i].blob_len)};
		struct rig g;

		set_up(&g);
		assert_int_equal(feed(&g, &h, sizeof(h)), -EPROTO);
		assert_non_null(strstr(err_msg(), "of the agent has wrong lengths"));
		tear_down(&g);
	}
}

/* Checks that a guest can write only so many lines to the host's log, here standard error. */
static void log_lines(void **state)
{
	_cleanup_fd_ int file = memfd_create("log", MFD_CLOEXEC), before = dup(2);
	_cleanup_strbuf_ struct strbuf text = {0};
	struct rig g;
	int lines = 0;

	set_up(&g);
	assert_true(dup2(file, 2) >= 0);
	for (unsigned i = 0; i < GUEST_LINES_MAX + 50; i++)
		assert_int_equal(say(&g, "{\"type\":\"log\",\"message\":\"\\u001b[2J\"}"), 0);
	assert_true(dup2(before, 2) >= 0 && lseek(file, 0, SEEK_SET) == 0);
	assert_int_equal(fd_read_all(file, &text, 1 << 20, "the log"), 0);
	for (const char *p = strbuf_str(&text); (p = strchr(p, '\n')); p++)
		lines++;
	assert_null(strchr(strbuf_str(&text), '\x1b'));
	assert_int_equal(lines, GUEST_LINES_MAX + 1);
	tear_down(&g);
}

/*
 * Checks that the monitor passes on to the runtime every barrier that the guest says it has
 * reached, because the runtime checks whether the barrier is the expected one.
 */
static void barrier(void **state)
{
	struct rig g;

	set_up(&g);
	assert_int_equal(
		say(&g, "{\"type\":\"reached\",\"process\":0,\"barrier\":\"started\"}"), 0);
	assert_int_equal(g.m->phase, PHASE_PREPARING);
	assert_int_equal(channel_await(g.runtime, "created"), -EPROTO);
	assert_non_null(strstr(err_msg(), "\"started\""));
	tear_down(&g);
}

/* Checks that the monitor ignores messages about processes and requests that do not exist. */
static void messages_for_nobody(void **state)
{
	struct rig g;

	set_up(&g);
	assert_int_equal(say(&g, HELLO), 0);
	assert_int_equal(say(&g, "{\"type\":\"reply\",\"id\":7,\"errno\":0}"), 0);
	assert_int_equal(say(&g, "{\"type\":\"reply\"}"), 0);
	assert_int_equal(say(&g, "{\"type\":\"exited\",\"process\":5,\"status\":0}"), 0);
	assert_int_equal(say(&g, "{\"type\":\"failed\",\"process\":5,\"errno\":1}"), 0);
	assert_int_equal(say(&g, "{\"type\":\"running\",\"process\":5,\"pid\":1}"), 0);
	assert_int_equal(g.m->phase, PHASE_GREETED);
	tear_down(&g);
}

/*
 * Reads the next message that the monitor sends to the guest, but not the message's blob. Returns 0
 * if there is no message.
 */
static int next_message(struct rig *g, struct agent_reader *reader, struct agent_frame *ret)
{
	char byte;

	if (recv(g->guest, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
		assert_int_equal(agent_reader_receive(reader, g->guest), 1);
	return agent_reader_next(reader, ret);
}

static void orders_are_sent_once(void **state)
{
	struct agent_reader reader = {0};
	struct rig g;

	set_up(&g);
	assert_int_equal(strbuf_add(&g.orders, "the orders", 10), 0);
	assert_int_equal(say(&g, HELLO), 0);
	_cleanup_agent_frame_ struct agent_frame f = {0};
	assert_int_equal(next_message(&g, &reader, &f), 1);
	assert_string_equal(f.type, "create");
	assert_int_equal(f.blob_len, 10);
	assert_memory_equal(f.blob, "the orders", 10);
	/*
	 * The monitor must have freed the orders after it has sent them to the guest's agent,
	 * because the monitor lives as long as the container.
	 */
	assert_null(g.orders.s);
	agent_reader_release(&reader);
	tear_down(&g);
}

static void the_time_is_told_after_hello(void **state)
{
	struct agent_reader reader = {0};
	struct timespec now;
	uint64_t told;
	struct rig g;

	set_up(&g);
	assert_true(clock_watch(&g.m->clock) >= 0);
	clock_tell(g.m);
	assert_int_equal(next_message(&g, &reader, &(struct agent_frame){0}), 0);
	assert_int_equal(say(&g, HELLO), 0);
	/*
	 * clock_changed() must not block. It reads the timer that reports changes of the host's
	 * clock, and a blocking read would wait, because no change has come.
	 */
	clock_changed(g.m);
	for (int i = 0; i < 2; i++) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		assert_int_equal(next_message(&g, &reader, &f), 1);
		assert_string_equal(f.type, i == 0 ? "create" : "clock");
		assert_int_equal(json_get_u64(f.json, "time", &told), 0);
		clock_gettime(CLOCK_REALTIME, &now);
		assert_in_range((uint64_t)now.tv_sec - told / 1000000000, 0, 60);
	}
	agent_reader_release(&reader);
	fd_close(&g.m->clock);
	tear_down(&g);
}

static struct channel_span next_span(struct rig *g, struct channel_msg *m)
{
	struct channel_span s;
	int fd;

	assert_int_equal(channel_recv(g->runtime, m, &fd), 1);
	assert_int_equal(m->type, CHANNEL_SPAN);
	assert_int_equal(channel_read_span(m, &s), 0);
	return s;
}

/*
 * Checks how the monitor converts times of the guest to its own clock: they must lie between the
 * begin of the machine and now, in the same order. The guest's clock began a second ago, when the
 * machine began to run.
 */
static void times_of_the_guest(void **state)
{
	static const struct step steps[3] = {{.kind = STEP_PIVOT, .place = PLACE_INIT}};
	const uint64_t second = 1000000000, now = clock_ns();
	struct channel_span kernel, one, two, wrong;
	struct channel_msg m;
	char text[512];
	struct rig g;

	set_up(&g);
	g.plan.steps = steps;
	g.plan.n = ARRAY_SIZE(steps);
	g.args.tell_spans = true;
	g.m->spans.from = g.m->spans.guest.first = now - second;
	snprintf(text, sizeof(text), "{\"type\":\"hello\",\"version\":3,\"clock\":%" PRIu64 "}",
		second);
	assert_int_equal(say(&g, text), 0);
	assert_int_equal(next_span(&g, &m).place, PLACE_MONITOR);
	kernel = next_span(&g, &m);
	assert_int_equal(kernel.place, PLACE_GUEST);
	assert_string_equal(kernel.name, "the kernel boots");
	assert_true(kernel.begin == now - second && kernel.end >= now);
	snprintf(text, sizeof(text),
		"{\"type\":\"steps\",\"process\":0,\"clock\":%" PRIu64 ",\"steps\":["
		"{\"step\":1,\"begin\":%" PRIu64 ",\"end\":%" PRIu64 "},"
		"{\"step\":0,\"init\":true,\"begin\":%" PRIu64 ",\"end\":%" PRIu64 "},"
		"{\"step\":2,\"begin\":0,\"end\":18446744073709551615}]}",
		second + 1, second / 2, second / 2 + 1000, second / 2 + 1000, second / 2 + 5000);
	assert_int_equal(say(&g, text), 0);
	one = next_span(&g, &m);
	two = next_span(&g, &m);
	wrong = next_span(&g, &m);
	assert_true(one.place == PLACE_GUEST && one.number == 2);
	assert_true(two.place == PLACE_INIT && two.number == 1);
	assert_true(one.end - one.begin == 1000 && two.end - two.begin == 4000);
	assert_true(one.end == two.begin);
	/*
	 * The first step began when the guest's clock showed half a second, and the kernel had
	 * booted when it showed a second. So the step must begin about half a second before the end
	 * of the boot.
	 */
	assert_in_range(one.begin, kernel.end - second / 2 - second / 10, kernel.end - second / 2);
	assert_true(wrong.begin >= now - second && wrong.begin < one.begin);
	assert_in_range(wrong.end, two.end, clock_ns());
	/*
	 * The guest's clock may claim to have begun before the machine did. The times must then be
	 * moved to the begin of the machine.
	 */
	g.m->spans.guest.first = now;
	assert_int_equal(say(&g, "{\"type\":\"steps\",\"process\":0,\"clock\":1,\"steps\":["
				 "{\"step\":2,\"begin\":0,\"end\":1}]}"),
		0);
	wrong = next_span(&g, &m);
	assert_true(wrong.begin == now && wrong.end == now);
	tear_down(&g);
}

static void lies_about_steps(void **state)
{
	static const struct step steps[1] = {{.kind = STEP_PIVOT, .place = PLACE_INIT}};
	static const char *const lies[] = {"{\"type\":\"steps\",\"process\":0}",
		"{\"type\":\"steps\",\"process\":0,\"clock\":-1,\"steps\":[]}", STEPS "{}}",
		STEPS "[1]}", STEPS "[{\"step\":1,\"begin\":1,\"end\":1}]}"};
	static const char one[] = STEPS "[{\"step\":0,\"begin\":1,\"end\":1}]}";
	struct rig g;

	/* the runtime has not asked the guest to report its steps */
	ENDS("unexpected \"steps\"", HELLO, one);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		set_up(&g);
		g.plan.steps = steps;
		g.plan.n = ARRAY_SIZE(steps);
		g.args.tell_spans = true;
		assert_int_equal(say(&g, lies[i]), -EPROTO);
		assert_non_null(strstr(err_msg(), "malformed \"steps\""));
		tear_down(&g);
	}
	set_up(&g);
	g.plan.steps = steps;
	g.plan.n = ARRAY_SIZE(steps);
	g.args.tell_spans = true;
	assert_int_equal(say(&g, one), 0);
	assert_int_equal(say(&g, one), 0);
	assert_int_equal(say(&g, one), -EPROTO);
	tear_down(&g);
}

static void last_words(void **state)
{
	static const char said[] = "[ 1.0] started\n[ 2.0] Kernel panic - not syncing: why\n"
				   "[ 2.0] CPU: 0 PID: 1\n[ 2.0] Call Trace:\n";
	struct machine_config machine = {.hypervisor = HYPERVISOR_KVM};
	struct rig g;

	set_up(&g);
	g.m->guest_log = -EBADF;
	g.args.machine = &machine;
	assert_int_equal(monitor_last_words(g.m, err_set(EIO, "it failed")), -EIO);
	assert_string_equal(err_msg(), "it failed; the guest said nothing");
	/*
	 * The error message must quote the reason that the guest's kernel gives for its panic, and
	 * not the place in the kernel.
	 */
	g.m->log_len = strlen(said);
	memcpy(g.m->log, said, g.m->log_len);
	assert_int_equal(monitor_last_words(g.m, err_set(EIO, "it failed")), -EIO);
	assert_string_equal(err_msg(), "it failed; the guest's last words: \"[ 1.0] started|"
				       "[ 2.0] Kernel panic - not syncing: why\"");
	assert_int_equal(monitor_name_other(g.m, err_set(ETIMEDOUT, "not ready")), -ETIMEDOUT);
	assert_string_equal(err_msg(), "not ready; --hypervisor qemu runs it in software");
	assert_int_equal(monitor_name_other(g.m, err_set(EPIPE, "a server has gone")), -EPIPE);
	assert_string_equal(err_msg(), "a server has gone");
	machine.hypervisor = HYPERVISOR_QEMU;
	assert_int_equal(monitor_name_other(g.m, err_set(EIO, "on QEMU")), -EIO);
	assert_string_equal(err_msg(), "on QEMU");
	machine.hypervisor = HYPERVISOR_KVM;
	assert_int_equal(say(&g, HELLO), 0);
	assert_int_equal(monitor_name_other(g.m, err_set(EIO, "it runs Linux")), -EIO);
	assert_string_equal(err_msg(), "it runs Linux");
	tear_down(&g);
}

static int lock_again; /* another descriptor of the file that start.lock stands for */
static volatile sig_atomic_t was_locked;

static void on_connection_closed(int sig)
{
	was_locked = flock(lock_again, LOCK_EX | LOCK_NB) < 0;
}

/*
 * When `start` sees the end of its connection, the lock is released, because another `start`, which
 * waits for this one, would otherwise take the container for one that does not run. The kernel
 * sends the signal before the monitor's call of close(2) returns.
 */
static void start_ends_after_the_lock(void **state)
{
	char path[] = "/tmp/start-lock-XXXXXX";
	int starter[2];
	struct rig g;

	set_up(&g);
	g.m->start_lock = mkstemp(path);
	lock_again = open(path, O_RDWR | O_CLOEXEC);
	assert_true(g.m->start_lock >= 0 && lock_again >= 0 && unlink(path) == 0);
	assert_int_equal(flock(g.m->start_lock, LOCK_EX), 0);
	assert_int_equal(flock(lock_again, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, starter), 0);
	g.m->starter = starter[0];
	was_locked = -1;
	signal(SIGIO, on_connection_closed);
	assert_int_equal(fcntl(starter[1], F_SETOWN, getpid()), 0);
	assert_int_equal(fcntl(starter[1], F_SETFL, O_ASYNC), 0);
	assert_int_equal(say(&g, HELLO), 0);
	assert_int_equal(say(&g, CREATED), 0);
	assert_int_equal(say(&g, RUNNING), 0);
	assert_int_equal(was_locked, 0);
	signal(SIGIO, SIG_DFL);
	close(starter[1]);
	fd_close(&lock_again);
	tear_down(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_out_of_turn),
		cmocka_unit_test(malformed),
		cmocka_unit_test(lengths),
		cmocka_unit_test(log_lines),
		cmocka_unit_test(barrier),
		cmocka_unit_test(messages_for_nobody),
		cmocka_unit_test(orders_are_sent_once),
		cmocka_unit_test(the_time_is_told_after_hello),
		cmocka_unit_test(times_of_the_guest),
		cmocka_unit_test(lies_about_steps),
		cmocka_unit_test(last_words),
		cmocka_unit_test(start_ends_after_the_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
