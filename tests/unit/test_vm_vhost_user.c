/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the vhost-user front end with back ends that misbehave at each request in each way, or lack
 * what a device needs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "unit/rig/descriptors.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"
#include "vm/machine.h"

#define TIMEOUT_MS 300 /* time that the front end waits for a back end that does not answer */
#define ALL_FEATURES (BACK_V1 | BACK_RINGS | BACK_PROTOCOL_BIT)
#define ALL_PROTOCOL (BACK_MQ | BACK_ACK | BACK_CONFIG)

static int init_within(struct vhost_user *v, const struct vm_memory *m, int sock,
	uint32_t config_len, unsigned timeout_ms)
{
	return vhost_user_init(v, m,
		&(struct vhost_user_options){.sock = sock,
			.peer = "the back end",
			.name = "dev",
			.id = 2,
			.queue_count = 2,
			.features = 0x40,
			.config_len = config_len,
			.timeout_ms = timeout_ms});
}

static int init(struct vhost_user *v, const struct vm_memory *m, int sock, uint32_t config_len)
{
	return init_within(v, m, sock, config_len, PATIENCE_MS);
}

static int64_t ms_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)(now.tv_sec - from->tv_sec) * 1000 +
	       (now.tv_nsec - from->tv_nsec) / 1000000;
}

/*
 * Each row is a request at which the back end misbehaves, and the name of the request that the
 * error must contain.
 */
static const struct {
	uint32_t request;
	enum { AT_INIT, AT_START, AT_STOP } when;
	const char *name;
} places[] = {
	{VHOST_USER_GET_FEATURES, AT_INIT, "GET_FEATURES"},
	{VHOST_USER_GET_PROTOCOL_FEATURES, AT_INIT, "GET_PROTOCOL_FEATURES"},
	{VHOST_USER_GET_QUEUE_NUM, AT_INIT, "GET_QUEUE_NUM"},
	{VHOST_USER_GET_CONFIG, AT_INIT, "GET_CONFIG"},
	{VHOST_USER_SET_FEATURES, AT_START, "SET_FEATURES"},
	{VHOST_USER_SET_MEM_TABLE, AT_START, "SET_MEM_TABLE"},
	{VHOST_USER_SET_VRING_NUM, AT_START, "SET_VRING_NUM"},
	{VHOST_USER_SET_VRING_BASE, AT_START, "SET_VRING_BASE"},
	{VHOST_USER_SET_VRING_ADDR, AT_START, "SET_VRING_ADDR"},
	{VHOST_USER_SET_VRING_CALL, AT_START, "SET_VRING_CALL"},
	{VHOST_USER_SET_VRING_KICK, AT_START, "SET_VRING_KICK"},
	{VHOST_USER_SET_VRING_ENABLE, AT_START, "SET_VRING_ENABLE"},
	{VHOST_USER_GET_VRING_BASE, AT_STOP, "GET_VRING_BASE"},
};

static const struct {
	enum misdeed how;
	const char *text;
} misdeeds[] = {
	{WRONG_REQUEST, "is to request"},
	{WRONG_FLAGS, "with flags 0x1:"},
	{WRONG_VERSION, "with flags 0x6:"},
	{SHORT_PAYLOAD, "bytes: expected"},
	{LARGE_PAYLOAD, "bytes: expected"},
	{HUGE_PAYLOAD, "4294967295 bytes: expected"},
	{SILENT, "no answer to"},
	{HANGS_UP, "hung up"},
	{HALF_AN_ANSWER, "hung up"},
	{WITH_FDS, "descriptors in the answer"},
	{TRICKLES, "no answer to"},
};

static void expect_message(const char *message, const char *text, const char *name)
{
	if (!strstr(message, text) || !strstr(message, name) || !strstr(message, "the back end: "))
		fail_msg("expected '%s' about %s, got: %s", text, name, message);
}

static void misbehave(size_t place, enum misdeed how, const char *text)
{
	struct back b = {.features = ALL_FEATURES,
		.protocol = ALL_PROTOCOL,
		.queues = 2,
		.at = places[place].request,
		.how = how};
	struct timespec began;
	struct wired w = {.lost = 0};
	struct vhost_user v;
	int sock = back_start(&b);

	clock_gettime(CLOCK_MONOTONIC, &began);
	rig_memory(&w.g);
	int r = init_within(&v, &w.g.memory, sock, 8,
		how == SILENT || how == TRICKLES ? TIMEOUT_MS : PATIENCE_MS);
	if (places[place].when == AT_INIT) {
		assert_true(r < 0);
		expect_message(err_msg(), text, places[place].name);
		vm_memory_release(&w.g.memory);
	} else {
		if (r < 0)
			fail_msg("%s", err_msg());
		wired_attach(&w, &v);
		bring_up(&w.g, 0);
		if (places[place].when == AT_START) {
			assert_true(is_broken(&w.g));
		} else {
			assert_false(is_broken(&w.g));
			/* the device's reset must end, whatever the back end does */
			set(&w.g, VIRTIO_MMIO_STATUS, 0);
			assert_int_equal(get(&w.g, VIRTIO_MMIO_STATUS), 0);
		}
		assert_int_equal(w.lost, 0);
		assert_true(wired_serve_event(&w, PATIENCE_MS));
		assert_int_equal(w.lost, 1);
		assert_true(is_broken(&w.g));
		expect_message(w.why, text, places[place].name);
		expect_message(v.dev.broken, text, places[place].name);
		wired_release(&w);
	}
	assert_in_range(ms_since(&began), 0, PATIENCE_MS / 2);
	back_end(&b, &sock);
}

static void misbehaving_back_ends(void **state)
{
	for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
		unsigned before = descriptors_below(1024);

		for (size_t i = 0; i < ARRAY_SIZE(misdeeds); i++)
			misbehave(p, misdeeds[i].how, misdeeds[i].text);
		if (places[p].when == AT_START)
			misbehave(p, REFUSES, "refuses");
		assert_int_equal(descriptors_below(1024), before);
	}
	/*
	 * The front end must refuse an answer that is for another queue than its request, or for
	 * another part of the configuration.
	 */
	misbehave(12, WRONG_CONTENT, "answers for queue 1");
	misbehave(3, WRONG_CONTENT, "8 bytes at 1: expected 8 at 0");
}

/*
 * Checks an answer for which there was no request: the front end must notice it at once, or at the
 * next exchange of messages.
 */
static void answer_that_nobody_asked_for(void **state)
{
	struct back b = {.features = ALL_FEATURES,
		.protocol = ALL_PROTOCOL,
		.queues = 2,
		.at = VHOST_USER_GET_VRING_BASE,
		.how = TALKS_ON};
	struct wired w = {.lost = 0};
	struct vhost_user v;
	int sock = back_start(&b);

	rig_memory(&w.g);
	assert_int_equal(init(&v, &w.g.memory, sock, 0), 0);
	wired_attach(&w, &v);
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	assert_true(negotiate(&w.g, V1));
	set_queue(&w.g, 0, DESC(0), AVAIL(0), USED(0)); /* the driver makes only one queue ready */
	set(&w.g, VIRTIO_MMIO_STATUS, 15);
	assert_int_equal(b.seen[VHOST_USER_SET_VRING_KICK], 1);
	set(&w.g, VIRTIO_MMIO_STATUS, 0);
	assert_true(wired_serve_event(&w, PATIENCE_MS));
	assert_string_equal(w.why, "the back end: it has sent a message that was not requested");
	wired_release(&w);
	back_end(&b, &sock);
}

struct attempt {
	struct back b;
	struct wired w;
	struct vhost_user v;
	int sock, result;
};

static void attempt(struct attempt *a, uint64_t features, uint64_t protocol, uint64_t queues)
{
	*a = (struct attempt){.b = {.features = features, .protocol = protocol, .queues = queues}};
	memcpy(a->b.config, "configuration", 13);
	a->sock = back_start(&a->b);
	rig_memory(&a->w.g);
	a->result = init(&a->v, &a->w.g.memory, a->sock, protocol & BACK_CONFIG ? 16 : 0);
	if (a->result < 0)
		return;
	wired_attach(&a->w, &a->v);
	bring_up(&a->w.g, 0);
	assert_int_equal(get(&a->w.g, VIRTIO_MMIO_STATUS), 15);
}

static void attempt_over(struct attempt *a)
{
	if (a->result < 0)
		vm_memory_release(&a->w.g.memory);
	else
		wired_release(&a->w);
	back_end(&a->b, &a->sock);
}

static void attempt_fails(uint64_t features, uint64_t protocol, uint64_t queues, const char *text)
{
	struct attempt a;

	attempt(&a, features, protocol, queues);
	assert_true(a.result < 0);
	if (!strstr(err_msg(), text) || !str_starts(err_msg(), "dev: the back end: "))
		fail_msg("expected '%s', got: %s", text, err_msg());
	attempt_over(&a);
}

static void missing_features(void **state)
{
	struct attempt a;
	struct vhost_user v;
	struct vm_memory private;

	attempt_fails(BACK_RINGS | BACK_PROTOCOL_BIT, ALL_PROTOCOL, 2, "VIRTIO_F_VERSION_1");
	attempt_fails(ALL_FEATURES, ALL_PROTOCOL, 1, "it has 1 queues: the device needs 2");
	/*
	 * The device must also work with a back end that has neither protocol features nor
	 * acknowledgements.
	 */
	attempt(&a, BACK_V1, 0, 2);
	assert_int_equal(a.result, 0);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	/*
	 * The device must offer the driver no feature but VIRTIO_F_VERSION_1, which is bit 0 of
	 * this word.
	 */
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 1);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	assert_false(
		/*
		 * The front end waits for the answer to a reset, so the back end has received every
		 * message that was sent before the reset.
		 */
		negotiate(&a.w.g, V1 | EVENT));
	assert_int_equal(a.b.seen[VHOST_USER_GET_VRING_BASE], 2);
	assert_int_equal(a.b.seen[VHOST_USER_SET_VRING_ENABLE], 0);
	assert_int_equal(a.b.set_features, BACK_V1);
	attempt_over(&a);
	/*
	 * The device must offer the driver those features that both the back end and the device
	 * know.
	 */
	attempt(&a, ~UINT64_C(0), ALL_PROTOCOL, 99);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 0x30000040);
	set(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(&a.w.g, VIRTIO_MMIO_DEVICE_FEATURES), 1);
	assert_int_equal(a.b.set_features, BACK_V1 | BACK_PROTOCOL_BIT);
	assert_int_equal(a.b.fds[VHOST_USER_SET_MEM_TABLE], 1);
	assert_int_equal(a.b.fds[VHOST_USER_SET_VRING_KICK], 2);
	assert_int_equal(a.b.fds[VHOST_USER_SET_VRING_CALL], 2);
	attempt_over(&a);
	/*
	 * This memory is private, so it has no descriptor that the front end could send to the back
	 * end.
	 */
	assert_int_equal(vm_memory_init(&private,
				 &(struct vm_memory_options){.size = RIG_RAM, .mergeable = true}),
		0);
	assert_int_equal(init(&v, &private, -1, 0), -EINVAL);
	assert_non_null(strstr(err_msg(), "can't be shared with the back end"));
	vm_memory_release(&private);
}

static void configuration(void **state)
{
	struct attempt a;
	uint8_t four[4];

	attempt(&a, ALL_FEATURES, ALL_PROTOCOL, 2);
	vm_bus_read(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 4, four, 4);
	assert_memory_equal(four, "igur", 4);
	vm_bus_write(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 14, "xy", 2);
	assert_memory_equal(a.b.config, "configuration\0xy", 16);
	vm_bus_read(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 12, four, 4);
	assert_memory_equal(four, "n\0xy", 4);
	/*
	 * A write past the end of the device's configuration must send no message to the back end.
	 */
	vm_bus_write(&a.w.g.bus, VIRTIO_MMIO_CONFIG + 14, "1234", 4);
	assert_int_equal(a.b.seen[VHOST_USER_SET_CONFIG], 1);
	attempt_over(&a);
}

static void bad_tags(void **state)
{
	struct virtio_fs fs;
	struct vm_memory m = {.fd = 0};

	assert_int_equal(virtio_fs_init(&fs, &m, "", -1, false), -EINVAL);
	assert_int_equal(
		virtio_fs_init(&fs, &m, "0123456789012345678901234567890123456", -1, false),
		-EINVAL);
	assert_non_null(strstr(err_msg(), "37 bytes, expected 1 to 36"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(misbehaving_back_ends),
		cmocka_unit_test(answer_that_nobody_asked_for),
		cmocka_unit_test(missing_features),
		cmocka_unit_test(configuration),
		cmocka_unit_test(bad_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
