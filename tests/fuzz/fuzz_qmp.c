/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of QEMU's messages. It must take any bytes, return no more messages than there
 * are lines, and read to the end. A device is being attached or detached meanwhile, and the
 * messages may end that once.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/qemu_commands.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The steps of a change in their order: none of them is done again. */
static int place(const struct qemu_hotplug *h)
{
	return h->step == QEMU_IDLE ? QEMU_RELEASING + 1 : (int)h->step;
}

/* Takes the answer of a command that was asked for. It comes once. */
static void take(void *ctx, const struct json *answer)
{
	unsigned *taken = ctx;

	if ((*taken)++)
		abort();
}

static void go_on(struct engine *e, const struct qemu_hotplug *h, const struct json *message)
{
	struct qemu_commands *commands = e->state;
	const int before = place(h);

	qemu_hotplug_on_message(e, message);
	qemu_talk_on_message(&commands->talk, message);
	if (place(h) < before || (before != QEMU_UNPLUGGING && place(h) == QEMU_UNPLUGGING))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct qemu_commands commands;
	struct engine_change change = {0};
	struct engine e = ENGINE_INIT;
	struct qmp *q = &commands.qmp;
	_cleanup_fd_ int fd = memfd_create("messages", MFD_CLOEXEC);
	size_t lines = 0, messages = 0;
	int r = 1;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) < 0)
		return 0;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	*q = (struct qmp){.sock = fd};
	/*
	 * The descriptor is no socket, so QEMU gets no command, as if QEMU had ended.
	 */
	commands.hotplug = (struct qemu_hotplug){.spares = 1,
		.change = &change,
		.step = size ? (enum qemu_hotplug_step)(data[0] % (QEMU_RELEASING + 1)) : QEMU_IDLE,
		.kinds = {size % 2 ? MACHINE_DISK : MACHINE_NIC}};
	unsigned taken = 0;
	commands.talk = (struct qemu_talk){
		.number = 1, .take = take, .ctx = &taken, .deletes = "share", .reads = true};
	e.state = &commands;
	while (r >= 0) {
		_cleanup_arena_ struct arena a = {0};
		struct json *message = NULL;

		r = qmp_next(q, &a, &message);
		if (r > 0 && (!message || ++messages > lines))
			abort();
		if (r > 0)
			go_on(&e, &commands.hotplug, message);
	}
	if (r != -EPIPE)
		abort();
	return 0;
}
