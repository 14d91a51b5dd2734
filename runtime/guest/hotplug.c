/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes devices into use that the monitor has attached to the running machine, and lets go of them.
 *
 * The kernel has looked at each spare slot of the machine when it booted, and found no device
 * there. bind_slot() makes the driver of virtio-mmio look once more, by the driver's file "bind" in
 * sysfs, and unbind_slot() makes it let go. Each request is a job (job.c), because the kernel may
 * wait for the container's processes.
 */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/guest.h"
#include "netsetup/carry/net_config.h"

#define DRIVER "/sys/bus/platform/drivers/virtio-mmio/"
/* how long, in ms, a request may take; the monitor waits longer (monitor/hotplug.c) */
#define HOTPLUG_MS 20000

/*
 * Writes the name that the kernel has given to a slot's platform device into a file of the driver.
 * The name is made of the ACPI id of virtio-mmio devices and the number of the slot, because the
 * ACPI tables list the slots in their order.
 */
static int write_slot(const char *file, uint64_t slot)
{
	char name[32];

	snprintf(name, sizeof(name), "LNRO0005:%02x", (unsigned)slot);
	_cleanup_fd_ int fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys("open %s", file);
	return write(fd, name, strlen(name)) < 0 ? err_sys("write %s to %s", name, file) : 0;
}

static int bind_slot(uint64_t slot)
{
	int r = write_slot(DRIVER "bind", slot);

	return r == -ENODEV ? err_ctx(r, "the guest's kernel found no device in the slot") : r;
}

/* Makes the driver let go of a device. A device that it does not have is no error. */
static int unbind_slot(uint64_t slot)
{
	int r = write_slot(DRIVER "unbind", slot);

	if (r == -ENODEV)
		err_clear();
	return r == -ENODEV ? 0 : r;
}

static int attach_net(struct guest *g, const struct agent_frame *f)
{
	const struct process *container = process_find(g, 0);
	_cleanup_arena_ struct arena a = {0};
	struct net_config net;

	if (!container)
		return err_set(ESRCH, "container not running");
	int r = net_config_parse(&a, json_get(f->json, "net"), &net);
	return r < 0 ? r : network_add(container, &net);
}

static const struct {
	const char *kind;
	/* Takes the device into use once the driver has it. */
	int (*attach)(struct guest *g, const struct agent_frame *f);
	/* Stops using the device, or fails with -EBUSY. NULL: the driver just lets go of it. */
	int (*detach)(struct guest *g, const struct agent_frame *f);
} kinds[] = {
	{"net", attach_net, NULL},
};

static int find_kind(const struct agent_frame *f, uint64_t *ret_slot)
{
	const char *kind = json_get_str(f->json, "kind");

	for (size_t i = 0; kind && i < ARRAY_SIZE(kinds); i++)
		if (streq(kind, kinds[i].kind) && json_get_u64(f->json, "slot", ret_slot) >= 0)
			return (int)i;
	return err_set(EPROTO, "%s: expected a known kind, and a slot", f->type);
}

static int attach(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	char why[ERR_MAX];
	uint64_t slot;

	int k = find_kind(f, &slot);
	int r = k < 0 ? k : bind_slot(slot);
	if (r < 0)
		return r;
	r = kinds[k].attach(g, f);
	if (r >= 0)
		return r;
	snprintf(why, sizeof(why), "%s", err_msg());
	if (unbind_slot(slot) < 0)
		return err_set(-r, "%s; %s", why, err_msg());
	return err_set(-r, "%s", why);
}

static int detach(struct guest *g, const struct agent_frame *f, struct json_out *reply)
{
	uint64_t slot;

	int k = find_kind(f, &slot);
	int r = k >= 0 && kinds[k].detach ? kinds[k].detach(g, f) : k;
	return r < 0 ? r : unbind_slot(slot);
}

void guest_attach(struct guest *g, const struct agent_frame *f)
{
	guest_job(g, f, HOTPLUG_MS, attach);
}

void guest_detach(struct guest *g, const struct agent_frame *f)
{
	guest_job(g, f, HOTPLUG_MS, detach);
}
