/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pauses the machine when the disk of vm.image holds requests after an error of the host, and lets
 * it go on.
 *
 * Theory of operation. The server of the disk (the engine or caisson-disk) holds the request that
 * has failed, and tells the monitor. The monitor stops the guest's CPUs, because the guest would
 * take a disk that does not answer for a broken one, and writes the reason into the file disk-error
 * of the state directory. While this file is not empty, commands report the container as "paused".
 * `caisson resume` sends "continue": the file is emptied, the held requests are served again, and
 * the CPUs run. If the error is still there, all of this repeats.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "monitor/monitor_internal.h"

static void note(struct monitor *m, const char *text)
{
	/*
	 * The file is open for appending, so what is written to the emptied file is its whole
	 * content. An error is only logged, because the machine pauses all the same.
	 */
	if (m->a->disk_error >= 0 &&
		(ftruncate(m->a->disk_error, 0) < 0 ||
			(*text && write(m->a->disk_error, text, strlen(text)) < 0)))
		log_warn("write disk-error in the state directory: %s", strerror(errno));
}

static int hold(struct monitor *m, int error, bool write)
{
	char text[256];

	snprintf(text, sizeof(text), "vm.image: %s failed on the host: %s",
		write ? "a write" : "a read", strerror(error));
	if (m->phase < PHASE_CREATED)
		return err_set(error, "%s", text);
	if (m->phase >= PHASE_EXITED)
		return 0;
	if (!m->disk_error)
		log_warn("%s: the machine is paused until `caisson resume %s`", text, m->a->id);
	m->disk_error = error;
	int r = engine_pause(&m->engine);
	note(m, text);
	return r;
}

int disk_error_on_engine(struct monitor *m)
{
	struct engine_event event;
	int r = 0;

	while (r >= 0 && engine_next_event(&m->engine, &event) > 0)
		if (event.kind == ENGINE_DISK_HELD)
			r = hold(m, event.error, event.write);
		else if (event.kind == ENGINE_GUEST_AGENT)
			foreign_qga_on_port(m);
		else
			disk_size_on_engine(m, &event);
	return r;
}

int disk_error_on_server(struct monitor *m)
{
	struct blk_message message;

	if (disk_server_next(&m->disk, &message) <= 0)
		return 0;
	if (message.type == BLK_HELD)
		return hold(m, message.error, message.write);
	if (message.type == BLK_RESIZED && m->resizes_disk)
		disk_size_on_server(m, &message);
	return 0;
}

int disk_error_refuse(const struct monitor *m, const char *request)
{
	return err_set(EBUSY,
		"%s: the machine is paused after an error of vm.image on the host (%s): mend that, "
		"then `caisson resume`",
		request, strerror(m->disk_error));
}

int disk_error_continue(struct monitor *m)
{
	if (!m->disk_error)
		return err_set(EINVAL, "the machine is not paused after an error of its disk");
	m->disk_error = 0;
	note(m, "");
	int r = disk_server_retry(&m->disk);
	return r < 0 ? r : engine_retry(&m->engine);
}

void disk_error_pause_again(struct monitor *m)
{
	if (m->disk_error && engine_pause(&m->engine) < 0)
		log_warn("%s", err_msg());
}
