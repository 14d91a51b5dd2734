/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the disk of vm.image larger while the machine runs, for the request "grow".
 *
 * The process that serves the disk makes the image larger: the engine, or caisson-disk. If it was
 * caisson-disk, the engine then tells the guest. The command gets its reply when the guest has been
 * told. If the command has ended by then, the disk is larger all the same. One disk is resized at a
 * time.
 *
 * If the process is not done within RESIZE_MS, the command fails. The change goes on without the
 * command, and until it is done the disk is not resized again, and the machine is neither saved nor
 * changed.
 */
#include "base/clock.h"
#include "monitor/monitor_internal.h"

#define RESIZE_MS 30000 /* how long the disk may take to become larger, in ms */

static void finish(struct monitor *m, int error, const char *why)
{
	struct client *c = client_of_change(m, CHANGE_DISK_SIZE);

	m->resizes_disk = false;
	m->resize_deadline = 0;
	if (!c)
		return;
	c->change = CHANGE_NONE;
	client_reply(c, error, why);
}

int disk_size_begin(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	uint64_t size;

	if (json_get_u64(f->json, "size", &size) < 0)
		return err_set(EPROTO, "grow: expected a size");
	if (!m->a->machine->image)
		return err_set(EINVAL, "the machine has no disk: vm.image is not set");
	int r = monitor_check_running(m, false);
	if (r < 0)
		return r;
	if (m->resizes_disk || m->checkpoint.step != CHECKPOINT_NONE ||
		m->hotplug.step != HOTPLUG_NONE)
		return err_set(EBUSY, "the machine is being saved or changed: try again");
	if (m->a->machine->image_read_only)
		return err_set(EROFS, "vm.image: the machine only reads it");
	r = m->disk.control >= 0 ? disk_server_resize(&m->disk, size)
				 : engine_resize_disk(&m->engine, size);
	if (r < 0)
		return r;
	c->change = CHANGE_DISK_SIZE;
	m->resizes_disk = true;
	m->resize_deadline = clock_ms() + RESIZE_MS;
	return 0;
}

void disk_size_check_deadline(struct monitor *m, int64_t now)
{
	struct client *c = client_of_change(m, CHANGE_DISK_SIZE);

	if (!m->resize_deadline || now < m->resize_deadline)
		return;
	m->resize_deadline = 0;
	if (!c)
		return;
	c->change = CHANGE_NONE;
	err_set(ETIMEDOUT,
		"what serves the disk did not answer in %d seconds: the disk may still become "
		"larger, and until then the microVM cannot be saved or changed",
		RESIZE_MS / 1000);
	client_reply(c, ETIMEDOUT, err_msg());
}

void disk_size_on_engine(struct monitor *m, const struct engine_event *event)
{
	finish(m, event->error, event->why);
}

void disk_size_on_server(struct monitor *m, const struct blk_message *message)
{
	int r = message->error ? 1 : engine_resize_disk(&m->engine, 0);

	if (r < 0)
		finish(m, -r, err_msg());
	else if (r > 0)
		finish(m, message->error, message->why);
}
