/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor (rig/monitor.h) whose engine is the test, for tests of attaching and detaching. A test
 * includes this file once, after cmocka.h.
 */
#pragma once
#include <sys/mman.h>

#include "unit/rig/monitor.h"

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

static inline void set_up(void)
{
	static const struct machine_config machine = {.image = "/disk.raw"};

	rig_monitor(&ops, &machine);
	memset(&fake, 0, sizeof(fake));
}

static inline void tear_down(void)
{
	rig_monitor_end();
}

static inline int open_disk(void)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static inline void attach(void)
{
	int fd = open_disk();

	ask(DISK, fd);
	close(fd);
	assert_non_null(fake.pending);
	hotplug_on_changed(&m);
}
