/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the commands by which QEMU attaches and detaches devices, with a QEMU that answers well,
 * with errors, in another order, and without being asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/qemu_commands.h"

#define DONE "{\"return\":{},\"id\":\"hotplug-last\"}"
#define DELETED(device) "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"" device "\"}}"

static struct qemu_commands q;
static struct engine e;
static int qemu; /* the end of the socket that stands for QEMU's */
static int image;
static char got[4096]; /* the commands that QEMU got last */

static int open_all(void **state)
{
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return -1;
	q = (struct qemu_commands){.qmp = {.sock = socks[0]}, .hotplug = {.spares = 2}};
	qemu = socks[1];
	image = memfd_create("image", MFD_CLOEXEC);
	e = (struct engine)ENGINE_INIT;
	e.state = &q;
	e.change_done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return image < 0 || ftruncate(image, (1 << 20) + 5) < 0 || e.change_done < 0 ? -1 : 0;
}

static int close_all(void **state)
{
	fd_close(&q.qmp.sock);
	fd_close(&qemu);
	fd_close(&image);
	fd_close(&e.change_done);
	err_clear();
	return 0;
}

/* Receives commands into `got`. Returns whether a descriptor has come with them. */
static bool receive(void)
{
	_cleanup_fd_ int fd = -EBADF;
	ssize_t n = fd_recv(qemu, got, sizeof(got) - 1, &fd);

	assert_true(n > 0);
	got[n] = '\0';
	return fd >= 0;
}

static void assert_sent(const char *text)
{
	if (!strstr(got, text))
		fail_msg("%s is not in %s", text, got);
}

static void assert_silent(void)
{
	struct pollfd p = {.fd = qemu, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 0), 0);
}

static void answer(const char *text)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *message;

	assert_int_equal(json_parse(&a, text, strlen(text), "QEMU's message", &message), 0);
	qemu_hotplug_on_message(&e, message);
}

static bool is_done(void)
{
	struct pollfd p = {.fd = e.change_done, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static struct engine_change disk(const char *serial)
{
	return (struct engine_change){
		.device = {.kind = MACHINE_DISK, .disk = {.fd = image, .serial = serial}}};
}

static struct engine_change nic(void)
{
	return (struct engine_change){
		.device = {
			.kind = MACHINE_NIC, .nic = {.taps = {image}, .mac = {2, 0, 0, 0, 0, 10}}}};
}

/* Plugs a device, without errors. Returns its slot. */
static unsigned plug(struct engine_change c)
{
	assert_int_equal(qemu_change(&e, &c), 0);
	assert_true(receive());
	answer(DONE);
	assert_true(is_done());
	assert_int_equal(qemu_changed(&e), 0);
	return c.slot;
}

static void test_spares(void **state)
{
	struct machine_config c = {.hypervisor = HYPERVISOR_QEMU};
	struct engine_description d = {.config = &c, .image = -EBADF};
	static const char *const parameters[] = {
		"-device", "virtio-keyboard-device", "--device", "x", "-global", "y"};

	assert_int_equal(qemu_count_spares(&d), MACHINE_SPARES_MAX);
	d.nnics = 8;
	d.nbackends = 2;
	assert_int_equal(qemu_count_spares(&d), 8);
	d.image = 3;
	assert_int_equal(qemu_count_spares(&d), 7);
	c.qemu_parameters.v = parameters;
	c.qemu_parameters.n = ARRAY_SIZE(parameters);
	assert_int_equal(qemu_count_spares(&d), 5);
	d.nbackends = 20;
	assert_int_equal(qemu_count_spares(&d), 0);
	c.foreign = true;
	d.nbackends = 0;
	assert_int_equal(qemu_count_spares(&d), 0);
}

static void test_disk(void **state)
{
	struct engine_change c = disk("a\"b"), gone = {.detach = true};

	assert_int_equal(qemu_change(&e, &c), 0);
	assert_true(receive());
	assert_sent("\"add-fd\"");
	assert_sent("\"size\":1048576");
	assert_sent("\"serial\":\"a\\\"b\"");
	assert_sent("\"bus\":\"virtio-mmio-bus.23\"");
	/* An error of this disk does not stop the machine. */
	assert_sent("\"werror\":\"report\",\"rerror\":\"report\"");
	answer("{\"return\":{},\"id\":\"hotplug\"}");
	answer(DELETED("spare0"));
	answer(DELETED("hot0"));
	assert_false(is_done());
	assert_int_equal(qemu_change(&e, &gone), -EBUSY);
	answer(DONE);
	assert_true(is_done());
	assert_int_equal(qemu_changed(&e), 0);
	assert_int_equal(c.slot, 0);

	gone.slot = c.slot;
	assert_int_equal(qemu_change(&e, &gone), 0);
	assert_false(receive());
	assert_sent("\"device_del\"");
	answer("{\"return\":{},\"id\":\"hotplug-unplug\"}");
	answer(DELETED("hot1"));
	answer(DONE);
	assert_silent();
	answer(DELETED("hot0"));
	assert_false(receive());
	assert_sent("\"blockdev-del\"");
	assert_sent("\"remove-fd\"");
	answer("{\"return\":{},\"id\":\"hotplug-unplug\"}");
	answer("{\"error\":{},\"id\":\"hotplug\"}");
	assert_false(is_done());
	answer(DONE);
	assert_true(is_done());
	assert_int_equal(qemu_changed(&e), 0);
}

static void test_interface(void **state)
{
	struct engine_change gone = {.detach = true};

	gone.slot = plug(nic());
	assert_sent("\"getfd\"");
	assert_sent("\"netdev_add\"");
	assert_sent("\"mac\":\"02:00:00:00:00:0a\"");
	assert_int_equal(qemu_change(&e, &gone), 0);
	assert_false(receive());
	/* QEMU does not know the device, so no event comes. */
	answer("{\"error\":{\"desc\":\"not found\"},\"id\":\"hotplug-unplug\"}");
	assert_false(receive());
	assert_sent("\"netdev_del\"");
	assert_sent("\"closefd\"");
	answer(DONE);
	assert_int_equal(qemu_changed(&e), 0);
}

static void test_errors(void **state)
{
	struct engine_change c = disk("");

	assert_int_equal(qemu_change(&e, &c), 0);
	assert_true(receive());
	answer("{\"error\":{\"desc\":\"first\"},\"id\":\"hotplug\"}");
	answer("{\"error\":{\"desc\":\"foreign\"},\"id\":\"resize\"}");
	answer("{\"error\":{\"desc\":\"second\"},\"id\":\"hotplug-last\"}");
	assert_false(is_done());
	assert_false(receive());
	assert_sent("\"blockdev-del\"");
	answer("{\"error\":{},\"id\":\"hotplug-last\"}");
	assert_true(is_done());
	assert_int_equal(qemu_changed(&e), -EIO);
	assert_string_equal(err_msg(), "QEMU: first");
	/* The slot is free again, and an error without a text is one too. */
	assert_int_equal(qemu_change(&e, &c), 0);
	assert_true(receive());
	assert_sent("virtio-mmio-bus.23");
	answer("{\"error\":{},\"id\":\"hotplug-last\"}");
	assert_false(receive());
	answer(DONE);
	assert_int_equal(qemu_changed(&e), -EIO);
}

static void test_full(void **state)
{
	struct engine_change c = disk("");

	assert_int_equal(plug(disk("")), 0);
	assert_int_equal(plug(nic()), 1);
	assert_int_equal(qemu_change(&e, &c), -ENOSPC);
	assert_int_equal(qemu_change(&e, &(struct engine_change){.detach = true}), 0);
	assert_false(receive());
	answer(DELETED("hot0"));
	assert_false(receive());
	answer(DONE);
	assert_int_equal(qemu_changed(&e), 0);
	assert_int_equal(plug(disk("")), 0);
}

static void test_refused(void **state)
{
	struct engine_change c = disk("");
	int ends[2];

	assert_int_equal(ftruncate(image, 511), 0);
	assert_int_equal(qemu_change(&e, &c), -EINVAL);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	c.device.disk.fd = ends[0];
	assert_int_equal(qemu_change(&e, &c), -EINVAL);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	q.hotplug.spares = 0;
	assert_int_equal(qemu_change(&e, &c), -ENOSPC);
	assert_silent();
}

/* Messages that belong to no change do nothing. */
static void test_unasked(void **state)
{
	answer(DONE);
	answer(DELETED("hot0"));
	answer("{\"error\":{\"desc\":\"x\"},\"id\":\"hotplug-unplug\"}");
	answer("[]");
	assert_false(is_done());
	assert_silent();
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_spares),
		TEST(test_disk),
		TEST(test_interface),
		TEST(test_errors),
		TEST(test_full),
		TEST(test_refused),
		TEST(test_unasked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
