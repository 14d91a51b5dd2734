/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/hotplug_request.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "monitor/monitor_internal.h"

/* Checks that the descriptor is a tap as net_tap_open() makes it. */
static int check_tap(int fd)
{
	struct ifreq tap;
	int size = 0, flags = fcntl(fd, F_GETFL);

	if (flags < 0 || !(flags & O_NONBLOCK))
		return err_set(EPROTO, "attach: expected a tap that does not block");
	if (ioctl(fd, TUNGETIFF, &tap) < 0 || ioctl(fd, TUNGETVNETHDRSZ, &size) < 0)
		return err_set(EPROTO, "attach: expected the descriptor of a tap");
	if (!(tap.ifr_flags & IFF_TAP) || !(tap.ifr_flags & IFF_VNET_HDR) || size != NET_TAP_HEADER)
		return err_set(EPROTO, "attach: expected a tap with frame headers of %d bytes",
			NET_TAP_HEADER);
	return 0;
}

/* Refuses an interface whose name or MAC address another interface of the guest has. */
static int check_interface(struct monitor *m, const struct net_interface *new)
{
	const char *twin = NULL;

	for (size_t i = 0; i < m->boot.net.interface_count; i++) {
		const struct net_interface *n = &m->boot.net.interfaces[i];
		if (streq(n->name, new->name))
			return err_set(
				EEXIST, "the microVM has the interface %s already", new->name);
		if (memcmp(n->mac, new->mac, sizeof(n->mac)) == 0)
			twin = n->name;
	}
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++) {
		const struct attached *d = &m->hotplug.devices[i];
		if (d->kind && streq(d->kind, "net") &&
			memcmp(d->mac, new->mac, sizeof(d->mac)) == 0)
			twin = d->name;
	}
	return twin ? err_set(EEXIST, "interface %s has the MAC address of %s", new->name, twin)
		    : 0;
}

static int read_net(struct monitor *m, struct agent_frame *f, struct attached *ret,
	struct machine_device *device)
{
	struct net_config net;
	uint64_t offloads;

	int r = net_config_parse(&f->arena, json_get(f->json, "net"), &net);
	if (r < 0)
		return r;
	if (net.interface_count != 1 || !streq(net.interfaces[0].name, ret->name) ||
		json_get_u64(f->json, "offloads", &offloads) < 0 || offloads > UINT32_MAX)
		return err_set(EPROTO, "attach: expected the interface \"name\", and its offloads");
	const struct net_interface *n = &net.interfaces[0];
	r = check_interface(m, n);
	if (r >= 0)
		r = check_tap(f->fds[0]);
	if (r < 0)
		return r;
	*device = (struct machine_device){.kind = MACHINE_NIC,
		.nic = {.taps = {f->fds[0]},
			.mtu = (uint16_t)n->mtu,
			.offloads = (unsigned)offloads}};
	memcpy(device->nic.mac, n->mac, sizeof(n->mac));
	memcpy(ret->mac, n->mac, sizeof(n->mac));
	return 0;
}

/* Checks that the descriptors are the socket, the pidfd and the control of a disk's server. */
static int check_server(const struct agent_frame *f)
{
	struct stat st, control;

	if (f->nfds != 3 || fstat(f->fds[0], &st) < 0 || !S_ISSOCK(st.st_mode) ||
		fstat(f->fds[2], &control) < 0 || !S_ISSOCK(control.st_mode))
		return err_set(EPROTO,
			"attach: expected the socket, the pidfd and the control of the disk's "
			"server");
	struct pollfd p = {.fd = f->fds[1], .events = POLLIN};
	if (poll(&p, 1, 0) != 0)
		return err_set(EPIPE, "the process that serves the disk (caisson-disk) has ended");
	return 0;
}

static int read_served_disk(
	struct agent_frame *f, struct attached *ret, struct machine_device *device)
{
	int r = check_server(f);

	if (r < 0)
		return r;
	ret->server = take_fd(&f->fds[1]);
	ret->control = take_fd(&f->fds[2]);
	*device = (struct machine_device){.kind = MACHINE_DISK,
		.disk = {.fd = f->fds[0], .remote = true, .peer = "the server of the disk"}};
	return 0;
}

/*
 * The device checks what kind of file it is. The lock on the file, which the command has taken,
 * lasts as long as this descriptor.
 */
static int read_disk(struct monitor *m, struct agent_frame *f, struct attached *ret,
	struct machine_device *device)
{
	const char *serial = json_get_str(f->json, "serial");
	const bool read_only = json_get_true(f->json, "readOnly");
	const int flags = fcntl(f->fds[0], F_GETFL);

	if (f->nfds > 1)
		return read_served_disk(f, ret, device);
	if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) != (read_only ? O_RDONLY : O_RDWR))
		return err_set(EPROTO, "attach: expected a disk that is open for %s",
			read_only ? "reading" : "reading and writing");
	if (!serial || strlen(serial) > VIRTIO_BLK_ID_BYTES)
		return err_set(EPROTO, "attach: expected a serial number of up to %d bytes",
			VIRTIO_BLK_ID_BYTES);
	*device = (struct machine_device){.kind = MACHINE_DISK,
		.disk = {.fd = f->fds[0], .read_only = read_only, .serial = serial}};
	return 0;
}

static int read_mount(struct monitor *m, struct agent_frame *f, struct attached *ret,
	struct machine_device *device)
{
	const char *share = json_get_str(f->json, "share");

	if (!share)
		return err_set(EPROTO, "attach: expected the name of a mount in the share");
	ret->share = strdup(share);
	return ret->share ? 0 : -ENOMEM;
}

static const struct hotplug_kind kinds[] = {
	{"net", 1, 1, read_net},
	{"disk", 1, 3, read_disk},
	{"volume", 1, 3, read_disk},
	{"mount", 0, 0, read_mount},
};

const struct hotplug_kind *hotplug_find_kind(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(kinds); i++)
		if (streq(name, kinds[i].name))
			return &kinds[i];
	return NULL;
}
