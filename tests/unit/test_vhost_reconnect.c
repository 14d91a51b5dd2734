/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the reconnection to a vhost-user back end: one back end hangs up, and another takes its
 * place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "unit/rig/descriptors.h"
#include "unit/rig/vhost_back.h"
#include "unit/rig/vhost_device.h"

#define FEATURES (BACK_V1 | BACK_RINGS | BACK_PROTOCOL_BIT)
#define PROTOCOL (BACK_MQ | BACK_ACK | BACK_CONFIG | BACK_INFLIGHT)

/*
 * A device with two queues that a vhost-user back end serves. The device asks the test for a new
 * connection over the socket `channel`.
 */
struct device {
	struct wired w;
	struct vhost_user v;
	struct back first;
	int sock, channel, theirs;
	unsigned before;
};

static void start_back(struct back *b, int *sock)
{
	memcpy(b->config, "configuration", 13);
	*sock = back_start(b);
}

static int set_up(struct device *d, struct back first)
{
	int s[2];

	*d = (struct device){.first = first, .before = descriptors_below(1024)};
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
	d->theirs = s[0];
	d->channel = s[1];
	start_back(&d->first, &d->sock);
	rig_memory(&d->w.g);
	int r = vhost_user_init(&d->v, &d->w.g.memory,
		&(struct vhost_user_options){.sock = d->sock,
			.peer = "the back end",
			.name = "dev",
			.id = 2,
			.queue_count = 2,
			.config_len = 16,
			.timeout_ms = PATIENCE_MS,
			.reconnect = d->theirs});
	if (r >= 0)
		wired_attach(&d->w, &d->v);
	return r;
}

static void running(struct device *d)
{
	if (set_up(d, (struct back){.features = FEATURES, .protocol = PROTOCOL, .queues = 2}) < 0)
		fail_msg("%s", err_msg());
	bring_up(&d->w.g, 0);
	assert_false(is_broken(&d->w.g));
}

static bool asked(struct device *d)
{
	char byte;

	return recv(d->channel, &byte, 1, MSG_DONTWAIT) == 1;
}

static void give(struct device *d, int fd)
{
	assert_int_equal(fd_send(d->channel, "", 1, fd), 0);
	fd_close(&fd);
}

/* Makes the back end hang up. The device must then ask for another connection. */
static void hang_up(struct device *d, struct back *b)
{
	shutdown(b->sock, SHUT_RDWR);
	pthread_join(b->thread, NULL);
	assert_true(wired_serve_event(&d->w, PATIENCE_MS));
	assert_true(asked(d));
	assert_false(wired_serve_event(&d->w, 0));
	assert_false(is_broken(&d->w.g));
	assert_int_equal(d->w.lost, 0);
}

static void tear_down(struct device *d, struct back *last)
{
	/*
	 * The device has put the new connection in the place of the old descriptor, so closing this
	 * descriptor ends the thread of the last back end.
	 */
	fd_close(&d->sock);
	if (last)
		pthread_join(last->thread, NULL);
	vhost_user_release(&d->v);
	wired_release(&d->w);
	fd_close(&d->channel);
	fd_close(&d->theirs);
	assert_int_equal(descriptors_below(1024), d->before);
}

static void comes_back(void **state)
{
	struct device d;
	struct back next[3];
	struct back *at = &d.first;
	eventfd_t interrupts;
	int sock;

	running(&d);
	assert_int_equal(at->seen[VHOST_USER_GET_INFLIGHT_FD], 1);
	assert_int_equal(at->fds[VHOST_USER_SET_INFLIGHT_FD], 1);
	for (unsigned i = 0; i < 3; i++) {
		used(&d.w.g, 0)->idx = (uint16_t)(5 + i);
		hang_up(&d, at);
		at = &next[i];
		*at = (struct back){.features = FEATURES, .protocol = PROTOCOL, .queues = 2};
		start_back(at, &sock);
		give(&d, sock);
		assert_true(wired_serve_event(&d.w, PATIENCE_MS));
		assert_int_equal(d.w.lost, 0);
		assert_false(asked(&d));
		/*
		 * Checks that the device sets up the queues as at the beginning, except that it
		 * continues after the requests that the first back end has completed, and repeats
		 * the requests that were under way.
		 */
		assert_int_equal(at->set_features, d.first.set_features);
		assert_int_equal(at->fds[VHOST_USER_SET_MEM_TABLE], 1);
		assert_int_equal(at->seen[VHOST_USER_GET_INFLIGHT_FD], 0);
		assert_int_equal(at->fds[VHOST_USER_SET_INFLIGHT_FD], 1);
		assert_int_equal(at->base[0], 5 + i);
		assert_int_equal(at->base[1], 0);
		assert_int_equal(at->fds[VHOST_USER_SET_VRING_KICK], 2);
		assert_int_equal(at->fds[VHOST_USER_SET_VRING_CALL], 2);
		assert_int_equal(at->seen[VHOST_USER_SET_VRING_ENABLE], 2);
		/*
		 * The device must raise an interrupt, because the back end may have been killed
		 * before it told the driver of its last completion.
		 */
		assert_int_equal(eventfd_read(d.w.call, &interrupts), 0);
	}
	set(&d.w.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(at->seen[VHOST_USER_GET_VRING_BASE], 2);
	bring_up(&d.w.g, 0);
	assert_int_equal(at->base[0], 0);
	assert_int_equal(at->seen[VHOST_USER_GET_INFLIGHT_FD], 1);
	tear_down(&d, at);
}

/*
 * Checks that the driver can reset the device and start it again while the device has no back end.
 */
static void started_anew_meanwhile(void **state)
{
	struct back next = {.features = FEATURES, .protocol = PROTOCOL, .queues = 2};
	struct device d;
	int sock;

	running(&d);
	used(&d.w.g, 0)->idx = 7;
	hang_up(&d, &d.first);
	set(&d.w.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(&d.w.g, VIRTIO_MMIO_STATUS), 0);
	bring_up(&d.w.g, 0);
	assert_int_equal(get(&d.w.g, VIRTIO_MMIO_STATUS), 15);
	start_back(&next, &sock);
	give(&d, sock);
	assert_true(wired_serve_event(&d.w, PATIENCE_MS));
	assert_int_equal(next.base[0], 0);
	assert_int_equal(next.seen[VHOST_USER_GET_INFLIGHT_FD], 1);
	assert_int_equal(next.seen[VHOST_USER_SET_VRING_KICK], 2);
	/*
	 * Checks that a device that was reset while it had no back end stays reset when the new
	 * connection comes.
	 */
	hang_up(&d, &next);
	set(&d.w.g, VIRTIO_MMIO_STATUS, 0);
	next = (struct back){.features = FEATURES, .protocol = PROTOCOL, .queues = 2};
	start_back(&next, &sock);
	give(&d, sock);
	assert_true(wired_serve_event(&d.w, PATIENCE_MS));
	assert_int_equal(next.seen[VHOST_USER_SET_VRING_KICK], 0);
	tear_down(&d, &next);
}

/*
 * Checks a back end that hangs up while the device is being started, by the driver or, with a new
 * connection, once more.
 */
static void in_the_middle(void **state)
{
	struct back next = {.features = FEATURES,
		.protocol = PROTOCOL,
		.queues = 2,
		.at = VHOST_USER_SET_MEM_TABLE,
		.how = HANGS_UP};
	struct device d;
	int sock;

	assert_int_equal(set_up(&d, next), 0);
	bring_up(&d.w.g, 0);
	assert_false(is_broken(&d.w.g));
	hang_up(&d, &d.first);
	start_back(&next, &sock);
	give(&d, sock);
	hang_up(&d, &next);
	next = (struct back){.features = FEATURES, .protocol = PROTOCOL, .queues = 2};
	start_back(&next, &sock);
	give(&d, sock);
	assert_true(wired_serve_event(&d.w, PATIENCE_MS));
	assert_int_equal(next.seen[VHOST_USER_SET_VRING_KICK], 2);
	tear_down(&d, &next);
}

static void is_lost(struct device *d, const char *text)
{
	assert_true(wired_serve_event(&d->w, PATIENCE_MS));
	assert_int_equal(d->w.lost, 1);
	assert_true(is_broken(&d->w.g));
	if (!strstr(d->w.why, text))
		fail_msg("expected '%s', got: %s", text, d->w.why);
	assert_false(asked(d));
	assert_false(wired_serve_event(&d->w, 0));
}

static void stays_away(void **state)
{
	struct device d;

	running(&d);
	hang_up(&d, &d.first);
	give(&d, -1);
	is_lost(&d, "the back end: it has hung up, and did not come back in time");
	tear_down(&d, NULL);
	/*
	 * The back end has hung up, and the test closes the socket over which the device asks for a
	 * new connection. No connection can come any more, so the device must count as lost at
	 * once.
	 */
	running(&d);
	hang_up(&d, &d.first);
	fd_close(&d.channel);
	assert_true(wired_serve_event(&d.w, PATIENCE_MS));
	assert_int_equal(d.w.lost, 1);
	tear_down(&d, NULL);
}

static void comes_back_as(struct back next, const char *config, const char *text)
{
	struct device d;

	running(&d);
	hang_up(&d, &d.first);
	memcpy(next.config, config, strlen(config));
	int sock = back_start(&next);
	give(&d, sock);
	is_lost(&d, text);
	tear_down(&d, &next);
}

static void comes_back_as_another(void **state)
{
	const struct back good = {.features = FEATURES, .protocol = PROTOCOL, .queues = 2};
	struct back b = good;

	comes_back_as(good, "Configuration", "another configuration");
	b.features &= ~BACK_V1;
	comes_back_as(b, "configuration", "VIRTIO_F_VERSION_1");
	b = good;
	b.protocol &= ~BACK_INFLIGHT;
	comes_back_as(b, "configuration", "INFLIGHT_SHMFD");
	b = good;
	b.queues = 1;
	comes_back_as(b, "configuration", "it has 1 queues");
	b = good;
	b.at = VHOST_USER_GET_FEATURES;
	b.how = WRONG_REQUEST;
	comes_back_as(b, "configuration", "is to request");
}

/*
 * Checks that a failure of the back end other than a hang-up is final: the device does not ask for
 * a new connection.
 */
static void speaks_unasked(void **state)
{
	struct device d;

	running(&d);
	assert_int_equal(write(d.first.sock, "x", 1), 1);
	is_lost(&d, "it has sent a message that was not requested");
	pthread_join(d.first.thread, NULL);
	tear_down(&d, NULL);
}

static void without_inflight(void **state)
{
	struct device d;

	assert_true(set_up(&d, (struct back){.features = FEATURES,
				       .protocol = PROTOCOL & ~BACK_INFLIGHT,
				       .queues = 2}) < 0);
	assert_non_null(strstr(err_msg(), "INFLIGHT_SHMFD (bit 12)"));
	vm_memory_release(&d.w.g.memory);
	back_end(&d.first, &d.sock);
	fd_close(&d.channel);
	fd_close(&d.theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back),
		cmocka_unit_test(started_anew_meanwhile),
		cmocka_unit_test(in_the_middle),
		cmocka_unit_test(stays_away),
		cmocka_unit_test(comes_back_as_another),
		cmocka_unit_test(speaks_unasked),
		cmocka_unit_test(without_inflight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
