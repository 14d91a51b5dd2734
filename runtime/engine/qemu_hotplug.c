/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_hotplug.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "engine/qemu_commands.h"

/*
 * ids of the commands of a change, which QEMU's answers have too: of the command that unplugs the
 * device, of the last one of several commands, and of those before it
 */
#define ID_UNPLUG "hotplug-unplug"
#define ID_LAST "hotplug-last"
#define ID "hotplug"
/*
 * what the names begin with that QEMU's objects for a slot get: the device, the node of the disk's
 * image, the interface's tap, and the connection to the disk's server; and the number of the set
 * with the image's descriptor
 */
#define DEVICE "hot"
#define IMAGE "hot-image"
#define TAP "hot-tap"
#define SERVER "hot-server"
#define FDSET(slot) (16 + (slot))

unsigned qemu_count_spares(const struct engine_description *d)
{
	const struct machine_config *c = d->config;
	/* The plugger needs a transport too. */
	size_t used = 1 + MACHINE_DEVICES_OWN + d->nnics + d->nbackends + (d->image >= 0);

	if (c->foreign)
		return 0;
	for (size_t i = 0; i < c->qemu_parameters.n; i++)
		used += str_ends(c->qemu_parameters.v[i], "-device");
	const size_t left = used < QEMU_TRANSPORTS ? QEMU_TRANSPORTS - used : 0;
	return left < MACHINE_SPARES_MAX ? (unsigned)left : MACHINE_SPARES_MAX;
}

static int set_handler(struct strbuf *commands, unsigned transport, const char *bus)
{
	return strbuf_addf(commands,
		"{\"execute\":\"qom-set\",\"arguments\":" QEMU_HANDLER_ARGUMENTS "}\n", transport,
		bus);
}

int qemu_empty_spares(struct strbuf *commands, unsigned spares)
{
	if (!spares)
		return 0;
	/* The first placeholder's bus is the handler until there is the plugger's bus. */
	int r = set_handler(commands, 0, QEMU_SPARE "0.0");
	if (r >= 0)
		r = strbuf_addf(commands,
			"{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"" QEMU_PLACEHOLDER
			"\",\"id\":\"" QEMU_PLUGGER "\",\"bus\":\"virtio-mmio-bus.0\"}}\n");
	if (r >= 0)
		r = set_handler(commands, 0, QEMU_PLUGGER_BUS);
	for (unsigned i = 0; r >= 0 && i < spares; i++) {
		r = set_handler(commands, QEMU_SPARE_TRANSPORT(i), QEMU_PLUGGER_BUS);
		if (r >= 0)
			r = strbuf_addf(commands,
				"{\"execute\":\"device_del\",\"arguments\":{\"id\":\"" QEMU_SPARE
				"%u\"}}\n",
				i);
	}
	return r;
}

/* --- commands about one slot, which are sent at once --- */

struct batch {
	unsigned slot;
	struct json_out command; /* the command that is being written */
	struct strbuf text;      /* the commands before it */
	int failed;
};

static void begin(struct batch *b, const char *name)
{
	if (json_out_init(&b->command, false) < 0)
		b->failed = -ENOMEM;
	json_out_object(&b->command, NULL);
	json_out_str(&b->command, "execute", name);
	json_out_object(&b->command, "arguments");
}

static void end(struct batch *b, const char *id)
{
	const char *text;
	size_t len;

	json_out_end_object(&b->command);
	json_out_str(&b->command, "id", id);
	json_out_end_object(&b->command);
	int r = json_out_text(&b->command, &text, &len);
	if (r >= 0)
		r = strbuf_addf(&b->text, "%.*s\n", (int)len, text);
	json_out_release(&b->command);
	if (r < 0)
		b->failed = r;
}

/* Adds a member whose value is the name of one of the slot's objects. */
static void add_name(struct batch *b, const char *key, const char *prefix)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%u", prefix, b->slot);
	json_out_str(&b->command, key, name);
}

static int send_batch(const struct engine *e, struct batch *b, int fd)
{
	const struct qemu_commands *q = e->state;

	int r = b->failed;
	if (r >= 0)
		r = fd_send(q->qmp.sock, b->text.s, b->text.len, fd);
	strbuf_release(&b->text);
	return r;
}

static void begin_device(struct batch *b, const char *driver)
{
	char bus[32];

	begin(b, "device_add");
	json_out_str(&b->command, "driver", driver);
	add_name(b, "id", DEVICE);
	snprintf(bus, sizeof(bus), "virtio-mmio-bus.%u", QEMU_SPARE_TRANSPORT(b->slot));
	json_out_str(&b->command, "bus", bus);
}

/*
 * Describes the image. A file is cut to whole sectors, as on the built-in machine, because QEMU by
 * itself would add the missing bytes to the last sector.
 */
static void add_image(struct batch *b, const struct machine_disk *d, const struct stat *st)
{
	char set[32];

	begin(b, "blockdev-add");
	json_out_str(&b->command, "driver", "raw");
	add_name(b, "node-name", IMAGE);
	json_out_bool(&b->command, "read-only", d->read_only);
	if (S_ISREG(st->st_mode))
		json_out_u64(&b->command, "size",
			(uint64_t)st->st_size / VIRTIO_BLK_SECTOR * VIRTIO_BLK_SECTOR);
	json_out_str(&b->command, "discard", "unmap");
	json_out_object(&b->command, "file");
	json_out_str(&b->command, "driver", S_ISBLK(st->st_mode) ? "host_device" : "file");
	snprintf(set, sizeof(set), "/dev/fdset/%u", FDSET(b->slot));
	json_out_str(&b->command, "filename", set);
	json_out_str(&b->command, "locking", "off");
	json_out_end_object(&b->command);
	end(b, ID);
}

static int plug_disk(const struct engine *e, unsigned slot, const struct machine_disk *d)
{
	struct batch b = {.slot = slot};
	struct stat st;

	if (fstat(d->fd, &st) < 0)
		return err_sys("disk image: read its size");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(EINVAL, "disk image: expected a regular file or a block device");
	if (S_ISREG(st.st_mode) && st.st_size < VIRTIO_BLK_SECTOR)
		return err_set(EINVAL, "disk image: %llu bytes, expected at least one sector of %d",
			(unsigned long long)st.st_size, VIRTIO_BLK_SECTOR);
	begin(&b, "add-fd");
	json_out_u64(&b.command, "fdset-id", FDSET(slot));
	end(&b, ID);
	add_image(&b, d, &st);
	begin_device(&b, "virtio-blk-device");
	add_name(&b, "drive", IMAGE);
	json_out_str(&b.command, "serial", d->serial);
	/*
	 * The guest sees each error, as on the built-in machine. By itself QEMU would stop the
	 * machine if the host had no space left for the disk.
	 */
	json_out_str(&b.command, "werror", "report");
	json_out_str(&b.command, "rerror", "report");
	end(&b, ID_LAST);
	return send_batch(e, &b, d->fd);
}

/* Plugs a disk that a vhost-user server has. */
static int plug_remote_disk(const struct engine *e, unsigned slot, const struct machine_disk *d)
{
	struct batch b = {.slot = slot};

	begin(&b, "getfd");
	add_name(&b, "fdname", SERVER);
	end(&b, ID);
	begin(&b, "chardev-add");
	add_name(&b, "id", SERVER);
	json_out_object(&b.command, "backend");
	json_out_str(&b.command, "type", "socket");
	json_out_object(&b.command, "data");
	json_out_object(&b.command, "addr");
	json_out_str(&b.command, "type", "fd");
	json_out_object(&b.command, "data");
	add_name(&b, "str", SERVER);
	json_out_end_object(&b.command);
	json_out_end_object(&b.command);
	json_out_bool(&b.command, "server", false);
	json_out_end_object(&b.command);
	json_out_end_object(&b.command);
	end(&b, ID);
	begin_device(&b, "vhost-user-blk");
	add_name(&b, "chardev", SERVER);
	end(&b, ID_LAST);
	return send_batch(e, &b, d->fd);
}

static int plug_nic(const struct engine *e, unsigned slot, const struct virtio_net_options *n)
{
	struct batch b = {.slot = slot};
	char mac[18];

	begin(&b, "getfd");
	add_name(&b, "fdname", TAP);
	end(&b, ID);
	begin(&b, "netdev_add");
	json_out_str(&b.command, "type", "tap");
	add_name(&b, "id", TAP);
	add_name(&b, "fd", TAP);
	json_out_bool(&b.command, "vhost", false);
	end(&b, ID);
	begin_device(&b, "virtio-net-device");
	add_name(&b, "netdev", TAP);
	snprintf(mac, sizeof(mac), STR_MAC_FORMAT, STR_MAC_ARGS(n->mac));
	json_out_str(&b.command, "mac", mac);
	end(&b, ID_LAST);
	return send_batch(e, &b, n->taps[0]);
}

static int unplug(const struct engine *e, unsigned slot)
{
	struct batch b = {.slot = slot};

	begin(&b, "device_del");
	add_name(&b, "id", DEVICE);
	end(&b, ID_UNPLUG);
	return send_batch(e, &b, -EBADF);
}

/* Makes QEMU close the descriptor of a device that is not plugged, or was not plugged wholly. */
static int release(const struct engine *e, const struct qemu_hotplug *h, unsigned slot)
{
	static const struct {
		const char *remove, *key, *name;
	} commands[] = {{"netdev_del", "id", TAP}, {"blockdev-del", "node-name", IMAGE},
		{"chardev-remove", "id", SERVER}};
	const int i = h->kinds[slot] == MACHINE_NIC ? 0 : 1 + h->remote[slot];
	struct batch b = {.slot = slot};

	begin(&b, commands[i].remove);
	add_name(&b, commands[i].key, commands[i].name);
	end(&b, ID);
	begin(&b, i == 1 ? "remove-fd" : "closefd");
	if (i == 1)
		json_out_u64(&b.command, "fdset-id", FDSET(slot));
	else
		add_name(&b, "fdname", commands[i].name);
	end(&b, ID_LAST);
	return send_batch(e, &b, -EBADF);
}

/* --- the steps of a change --- */

static int begin_plug(struct engine *e, struct qemu_hotplug *h, const struct machine_device *d)
{
	for (h->slot = 0; h->slot < h->spares && h->used[h->slot];)
		h->slot++;
	if (!h->spares)
		return err_set(ENOSPC, "QEMU's machine was made without room for further devices");
	if (h->slot == h->spares)
		return err_set(ENOSPC,
			"%u devices were attached to the microVM, expected no more on QEMU",
			h->spares);
	h->kinds[h->slot] = d->kind;
	h->remote[h->slot] = d->kind == MACHINE_DISK && d->disk.remote;
	h->why[0] = '\0';
	h->step = QEMU_PLUGGING;
	if (d->kind == MACHINE_SHARE)
		return err_set(ENOTSUP, "a share cannot be attached to a machine of QEMU");
	if (d->kind == MACHINE_NIC)
		return plug_nic(e, h->slot, &d->nic);
	return d->disk.remote ? plug_remote_disk(e, h->slot, &d->disk)
			      : plug_disk(e, h->slot, &d->disk);
}

int qemu_change(struct engine *e, struct engine_change *c)
{
	struct qemu_hotplug *h = &((struct qemu_commands *)e->state)->hotplug;
	int r;

	if (h->step != QEMU_IDLE)
		return err_set(EBUSY, "QEMU has not answered about another device yet");
	if (c->detach) {
		h->slot = c->slot;
		h->why[0] = '\0';
		h->step = QEMU_UNPLUGGING;
		r = unplug(e, h->slot);
	} else {
		r = begin_plug(e, h, &c->device);
	}
	h->change = c;
	if (r < 0)
		h->step = QEMU_IDLE;
	return r;
}

int qemu_changed(struct engine *e)
{
	struct qemu_hotplug *h = &((struct qemu_commands *)e->state)->hotplug;
	eventfd_t n;

	(void)eventfd_read(e->change_done, &n);
	return h->why[0] ? err_set(EIO, "QEMU: %s", h->why) : 0;
}

/* Ends the present change. The slot has a device afterwards if `used`. */
static void finish(struct engine *e, struct qemu_hotplug *h, bool used)
{
	h->used[h->slot] = used;
	h->change->slot = h->slot;
	h->step = QEMU_IDLE;
	eventfd_write(e->change_done, 1);
}

static void begin_release(struct engine *e, struct qemu_hotplug *h)
{
	h->step = QEMU_RELEASING;
	/* A command cannot be sent once QEMU has ended, and then the machine ends too. */
	if (release(e, h, h->slot) < 0) {
		err_clear();
		finish(e, h, false);
	}
}

static bool is_deleted(const struct qemu_hotplug *h, const struct json *message)
{
	const char *event = json_get_str(message, "event");
	const char *device = json_get_str(json_get(message, "data"), "device");
	char name[32];

	snprintf(name, sizeof(name), DEVICE "%u", h->slot);
	return event && streq(event, "DEVICE_DELETED") && device && streq(device, name);
}

/* Keeps QEMU's first error message, which tells why the later commands fail too. */
static void note_error(struct qemu_hotplug *h, const struct json *error)
{
	const char *why = json_get_str(error, "desc");

	if (!h->why[0])
		snprintf(h->why, sizeof(h->why), "%s", why && *why ? why : "it failed");
}

static bool has_id(const struct json *message, const char *id)
{
	const char *is = json_get_str(message, "id");

	return is && streq(is, id);
}

void qemu_hotplug_on_message(struct engine *e, const struct json *message)
{
	struct qemu_hotplug *h = &((struct qemu_commands *)e->state)->hotplug;
	const struct json *error = json_get(message, "error");
	const bool last = has_id(message, ID_LAST);

	switch (h->step) {
	case QEMU_IDLE:
		break;
	case QEMU_PLUGGING:
		if (error && (last || has_id(message, ID)))
			note_error(h, error);
		if (last && h->why[0])
			begin_release(e, h);
		else if (last)
			finish(e, h, true);
		break;
	case QEMU_UNPLUGGING:
		/*
		 * The event, and not the answer to the command, says that QEMU has unplugged the
		 * device. After an error QEMU has no such device.
		 */
		if (is_deleted(h, message) || (error && has_id(message, ID_UNPLUG)))
			begin_release(e, h);
		break;
	case QEMU_RELEASING:
		if (last)
			finish(e, h, false);
		break;
	}
}
