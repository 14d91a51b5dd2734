/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/hotplug_servers.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/fd.h"
#include "engine/disk_process.h"
#include "monitor/monitor_internal.h"

/*
 * Fails if the server of the disk, which has ended, has not written to the image all that the guest
 * wrote.
 */
static int check_result(const struct attached *d)
{
	char what[ERR_MAX / 2];

	snprintf(what, sizeof(what), "%s %s", d->kind, d->name);
	return disk_process_result(d->control, what);
}

void hotplug_end_servers(struct monitor *m, int timeout_ms)
{
	const int64_t end = clock_ms() + timeout_ms;

	/* The sockets are closed first, so that all servers end at the same time. */
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++)
		if (m->hotplug.devices[i].kind && m->hotplug.devices[i].server >= 0)
			fd_close(&m->hotplug.devices[i].fd);
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++) {
		const struct attached *d = &m->hotplug.devices[i];
		struct pollfd p = {.fd = d->server, .events = POLLIN};
		const int64_t left = end - clock_ms();

		if (!d->kind || d->server < 0)
			continue;
		/*
		 * Messages of a server that has not ended are not read, because a guest that has
		 * taken it over could send them without end.
		 */
		int r = poll(&p, 1, left > 0 ? (int)left : 0) > 0
				? check_result(d)
				: err_set(EIO,
					  "%s %s: the process that serves it (caisson-disk) did "
					  "not end in time: what the guest wrote may not be in the "
					  "image yet",
					  d->kind, d->name);
		if (r < 0)
			monitor_tell_failure(m, err_msg());
	}
}

/* While the engine changes the device, the end of its server makes the engine's work fail. */
static bool is_watched(const struct monitor *m, const struct attached *d)
{
	const struct hotplug *h = &m->hotplug;

	if (!d->kind || d->server < 0)
		return false;
	if (h->at == d && h->step == HOTPLUG_ENDING)
		return true;
	return m->phase < PHASE_EXITED &&
	       (h->at != d || (h->step != HOTPLUG_PLUGGING && h->step != HOTPLUG_UNPLUGGING));
}

void hotplug_poll_servers(const struct monitor *m, struct pollfd p[static HOTPLUG_MAX])
{
	for (size_t i = 0; i < HOTPLUG_MAX; i++) {
		const struct attached *d = &m->hotplug.devices[i];
		p[i] = (struct pollfd){
			.fd = is_watched(m, d) ? d->server : -EBADF, .events = POLLIN};
	}
}

int hotplug_serve_servers(struct monitor *m, const struct pollfd p[static HOTPLUG_MAX])
{
	struct hotplug *h = &m->hotplug;

	for (size_t i = 0; i < HOTPLUG_MAX; i++) {
		struct attached *d = &h->devices[i];
		if (!p[i].revents || !is_watched(m, d) || d->server != p[i].fd)
			continue;
		if (h->at != d || h->step != HOTPLUG_ENDING)
			return monitor_last_words(
				m, err_set(EIO,
					   "%s %s: the process that serves it (caisson-disk) has "
					   "ended",
					   d->kind, d->name));
		const int r = check_result(d);
		hotplug_forget(d);
		/* An attach that has failed has its own error, which the command gets. */
		hotplug_finish(m, h->error ? h->error : -r, h->error ? h->why : err_msg());
	}
	return 0;
}
