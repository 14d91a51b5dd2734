/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

static int send_command(struct engine *e, const char *command)
{
	const struct qemu_commands *q = e->state;

	return qmp_send(&q->qmp, command);
}

int qemu_press_power(struct engine *e)
{
	return send_command(e, "{\"execute\":\"system_powerdown\"}\n");
}

bool qemu_guest_agent_is_open(const struct engine *e)
{
	const struct qemu_commands *q = e->state;

	return q->guest_agent_is_open;
}

int qemu_add_viewer(struct engine *e, int sock)
{
	static const char command[] =
		"{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"viewer\"}}\n"
		"{\"execute\":\"add_client\",\"arguments\":{\"protocol\":\"vnc\","
		"\"fdname\":\"viewer\",\"skipauth\":true}}\n";
	const struct qemu_commands *q = e->state;

	return fd_send(q->qmp.sock, command, strlen(command), sock);
}

int qemu_pause(struct engine *e)
{
	struct qemu_commands *q = e->state;

	atomic_store(&q->paused, true);
	return send_command(e, "{\"execute\":\"stop\"}\n");
}

/* QEMU itself repeats the requests that failed, and so does caisson-disk if it has held some. */
int qemu_retry(struct engine *e)
{
	struct qemu_commands *q = e->state;

	atomic_store(&q->paused, false);
	/* The machine must stand still while it is saved, and goes on afterwards by itself. */
	if (atomic_load(&q->saves))
		return 0;
	return send_command(e, "{\"execute\":\"cont\"}\n");
}

/* The id of the command that resizes the disk, and so of its answer. */
#define RESIZE_ID "resize"

/*
 * If caisson-disk serves the disk, nothing is left to do, because caisson-disk itself tells QEMU
 * that the configuration of the device has changed.
 */
int qemu_resize_disk(struct engine *e, uint64_t size)
{
	struct qemu_commands *q = e->state;
	char command[160];

	if (!q->image_size)
		return 1;
	/* QEMU would make the disk smaller too, and the guest would lose data. */
	if (size < q->image_size)
		return err_set(EINVAL, "disk image: %llu bytes: expected %llu or more",
			(unsigned long long)size, (unsigned long long)q->image_size);
	q->new_image_size = size;
	snprintf(command, sizeof(command),
		"{\"execute\":\"block_resize\",\"arguments\":{\"device\":\"image\","
		"\"size\":%llu},\"id\":\"" RESIZE_ID "\"}\n",
		(unsigned long long)size);
	return send_command(e, command);
}

/* QEMU's command and its event have the memory that is left to the guest. */
int qemu_set_balloon(struct engine *e, uint64_t bytes)
{
	struct qemu_commands *q = e->state;
	char command[96];

	snprintf(command, sizeof(command),
		"{\"execute\":\"balloon\",\"arguments\":{\"value\":%llu}}\n",
		(unsigned long long)(q->memory - bytes));
	q->balloon.wanted = bytes;
	return send_command(e, command);
}

void qemu_get_balloon(struct engine *e, struct engine_balloon *ret)
{
	const struct qemu_commands *q = e->state;

	*ret = q->balloon;
}

/* Notes how large the balloon is, if the message is QEMU's event about the balloon. */
static void note_balloon(struct qemu_commands *q, const struct json *message)
{
	const char *event = json_get_str(message, "event");
	uint64_t left;

	if (event && streq(event, "BALLOON_CHANGE") &&
		json_get_u64(json_get(message, "data"), "actual", &left) >= 0 && left <= q->memory)
		q->balloon.given = q->memory - left;
}

/*
 * Says whether the message is QEMU's event that a program of the guest has opened or closed the
 * port of qemu-guest-agent, and notes which.
 */
static bool is_guest_agent(
	struct qemu_commands *q, const struct json *message, struct engine_event *ret)
{
	const char *event = json_get_str(message, "event");
	const struct json *data = json_get(message, "data");
	const char *id = json_get_str(data, "id");

	if (!event || !streq(event, "VSERPORT_CHANGE") || !id || !streq(id, QEMU_GUEST_AGENT))
		return false;
	q->guest_agent_is_open = json_get_true(data, "open");
	*ret = (struct engine_event){.kind = ENGINE_GUEST_AGENT};
	return true;
}

/* Says whether the message is QEMU's answer to the command that resizes the disk. */
static bool is_resized(const struct json *message, struct engine_event *ret)
{
	const char *id = json_get_str(message, "id");
	const struct json *error = json_get(message, "error");
	const char *why = json_get_str(error, "desc");

	*ret = (struct engine_event){.kind = ENGINE_DISK_RESIZED, .error = error ? EIO : 0};
	if (error)
		snprintf(ret->why, sizeof(ret->why), "QEMU: %s", why ? why : "it failed");
	return id && streq(id, RESIZE_ID);
}

/*
 * Says whether the message is QEMU's event that it has stopped the guest because of an error of the
 * disk. QEMU names a reason only as text, so every error but a lack of space becomes EIO.
 */
static bool is_disk_error(const struct json *message, struct engine_event *ret)
{
	const char *event = json_get_str(message, "event");
	const struct json *data = json_get(message, "data");
	const char *action = json_get_str(data, "action");
	const char *operation = json_get_str(data, "operation");

	*ret = (struct engine_event){.kind = ENGINE_DISK_HELD,
		.error = json_get_true(data, "nospace") ? ENOSPC : EIO,
		.write = operation && streq(operation, "write")};
	return event && streq(event, "BLOCK_IO_ERROR") && action && streq(action, "stop");
}

int qemu_next_event(struct engine *e, struct engine_event *ret)
{
	struct qemu_commands *q = e->state;

	for (;;) {
		_cleanup_arena_ struct arena arena = {0};
		struct json *message;

		int r = qmp_next(&q->qmp, &arena, &message);
		/*
		 * QEMU has closed the socket because QEMU has ended. The monitor's event loop
		 * learns of this end by the descriptor e->ended.
		 */
		if (r < 0)
			e->events = -EBADF;
		if (r <= 0)
			return 0;
		if (is_disk_error(message, ret) || is_guest_agent(q, message, ret))
			return 1;
		if (is_resized(message, ret)) {
			q->image_size = ret->error ? q->image_size : q->new_image_size;
			return 1;
		}
		note_balloon(q, message);
		qemu_hotplug_on_message(e, message);
		qemu_talk_on_message(&q->talk, message);
	}
}
