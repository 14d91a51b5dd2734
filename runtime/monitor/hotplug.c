/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/hotplug_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/disk_process.h"
#include "monitor/hotplug_servers.h"
#include "monitor/monitor_internal.h"

/* how long, in ms, the agent may take until it uses a device, or until it has released one */
#define HOTPLUG_MS 30000
/* the same for a device that is taken away in any case (--force) */
#define FORCE_MS 5000
/* how long, in ms, the engine may take until a device is in its slot, or is out of it */
#define ENGINE_MS 30000

/* --- the table of the devices that were attached --- */

static struct attached *find_device(struct monitor *m, const char *kind, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++) {
		struct attached *d = &m->hotplug.devices[i];
		if (d->kind && streq(d->kind, kind) && streq(d->name, name))
			return d;
	}
	return NULL;
}

static struct attached *find_free(struct monitor *m)
{
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++)
		if (!m->hotplug.devices[i].kind)
			return &m->hotplug.devices[i];
	return NULL;
}

void hotplug_forget(struct attached *d)
{
	fd_close(&d->fd);
	fd_close(&d->server);
	fd_close(&d->control);
	free(d->name);
	free(d->share);
	*d = (struct attached){.fd = -EBADF, .server = -EBADF, .control = -EBADF};
}

void hotplug_release(struct monitor *m)
{
	hotplug_end_servers(m, DISK_PROCESS_END_MS);
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++)
		if (m->hotplug.devices[i].kind)
			hotplug_forget(&m->hotplug.devices[i]);
	agent_frame_release(&m->hotplug.order);
}

int hotplug_refuse(const struct monitor *m)
{
	if (m->hotplug.step != HOTPLUG_NONE)
		return err_set(EBUSY, "a device is being attached to the microVM or detached from "
				      "it: try again");
	for (size_t i = 0; i < ARRAY_SIZE(m->hotplug.devices); i++) {
		const struct attached *d = &m->hotplug.devices[i];
		if (d->kind)
			return err_set(EBUSY,
				"%s %s was attached while the microVM ran, so a snapshot cannot "
				"have it: detach it first",
				d->kind, d->name);
	}
	return 0;
}

/* --- ends of a request --- */

void hotplug_finish(struct monitor *m, int error, const char *why)
{
	struct hotplug *h = &m->hotplug;
	struct client *c = client_of_change(m, CHANGE_DEVICES);
	/* Only the end of the disk's server was awaited, and may be an error. */
	const bool detached = h->step == HOTPLUG_ENDING;

	h->step = HOTPLUG_NONE;
	h->at = NULL;
	h->deadline = 0;
	h->error = 0;
	h->late = h->force = false;
	agent_frame_release(&h->order);
	h->order = (struct agent_frame){0};
	if (c) {
		c->change = CHANGE_NONE;
		if (detached)
			client_reply_detached(c, error, why);
		else
			client_reply(c, error, why);
	}
}

/* Ends the present change after the error r, with the error message. */
static void fail(struct monitor *m, int r)
{
	hotplug_finish(m, -r, err_msg());
}

/* --- the steps --- */

/* Sends the agent the command's request, with the slot of the device. */
static int order_agent(struct monitor *m, const char *type)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct hotplug *h = &m->hotplug;

	if (m->agent < 0)
		return err_set(ENOTCONN, "the guest's agent is not connected");
	int r = agent_begin(&w, type);
	if (r < 0)
		return r;
	h->request = ++m->next_request;
	h->deadline = clock_ms() + HOTPLUG_MS;
	json_out_u64(&w.json, "id", h->request);
	if (h->at->fd >= 0)
		json_out_u64(&w.json, "slot", h->at->slot);
	if (h->at->share)
		json_out_str(&w.json, "share", h->at->share);
	for (const struct json *j = h->order.json->first; j; j = j->next)
		if (!streq(j->key, "type") && !streq(j->key, "id") && !streq(j->key, "slot") &&
			!streq(j->key, "share") && !streq(j->key, "force"))
			json_out_node(&w.json, j->key, j);
	return agent_send(&w, m->agent, NULL, 0);
}

/* Takes the device out of its slot, once the agent has released the device. */
static int unplug(struct monitor *m)
{
	struct hotplug *h = &m->hotplug;

	if (h->at->fd < 0) {
		hotplug_forget(h->at);
		hotplug_finish(m, h->error, h->why);
		return 0;
	}
	h->step = HOTPLUG_UNPLUGGING;
	h->deadline = clock_ms() + ENGINE_MS;
	h->change = (struct engine_change){.detach = true, .slot = h->at->slot};
	return engine_change(&m->engine, &h->change);
}

/*
 * Takes a device out of its slot that the agent does not use. r is the result that the command
 * gets: 0, or the error because of which the device was not attached, with its error message.
 */
static void unplug_with(struct monitor *m, int r)
{
	struct hotplug *h = &m->hotplug;

	h->error = r < 0 ? -r : 0;
	snprintf(h->why, sizeof(h->why), "%s", r < 0 ? err_msg() : "");
	r = unplug(m);
	if (r < 0)
		fail(m, r);
}

static int let_go(struct monitor *m)
{
	struct hotplug *h = &m->hotplug;

	h->step = HOTPLUG_UNBINDING;
	int r = order_agent(m, "detach");
	if (!h->force)
		return r;
	h->deadline = clock_ms() + FORCE_MS;
	if (r < 0)
		unplug_with(m, 0);
	return 0;
}

/* Asks the agent to take the device into use. If that cannot be asked, undoes what was done. */
static void take_into_use(struct monitor *m)
{
	m->hotplug.step = HOTPLUG_BINDING;
	int r = order_agent(m, "attach");
	if (r < 0)
		unplug_with(m, r);
}

void hotplug_on_changed(struct monitor *m)
{
	struct hotplug *h = &m->hotplug;
	int r = engine_changed(&m->engine);

	if (h->step == HOTPLUG_UNPLUGGING && h->at->server >= 0) {
		h->step = HOTPLUG_ENDING;
		h->deadline = clock_ms() + DISK_PROCESS_END_MS;
		fd_close(&h->at->fd);
		return;
	}
	if (h->step == HOTPLUG_UNPLUGGING) {
		hotplug_forget(h->at);
		hotplug_finish(m, h->error, h->why);
		return;
	}
	if (r < 0) {
		hotplug_forget(h->at);
		fail(m, r);
		return;
	}
	h->at->slot = h->change.slot;
	if (h->late)
		unplug_with(m, 0);
	else
		take_into_use(m);
}

/*
 * Returns the error of the agent's reply, or 0. The commands do more for three errors than to print
 * them: ENOENT means that the monitor knows no such device, ETIMEDOUT and EINTR that nobody knows
 * whether the change was made. The guest cannot say so in place of the monitor, so these errors of
 * the guest become EIO.
 */
static int read_reply(const struct agent_frame *f)
{
	int r = agent_failure(f);

	return r == -ENOENT || r == -ETIMEDOUT || r == -EINTR ? -EIO : r;
}

bool hotplug_on_reply(struct monitor *m, uint64_t id, const struct agent_frame *f)
{
	struct hotplug *h = &m->hotplug;

	if ((h->step != HOTPLUG_BINDING && h->step != HOTPLUG_UNBINDING) || id != h->request)
		return false;
	int r = read_reply(f);
	if (h->step == HOTPLUG_BINDING && r >= 0) {
		if (client_of_change(m, CHANGE_DEVICES))
			hotplug_finish(m, 0, "");
		else if (let_go(m) < 0)
			fail(m, -ENOTCONN);
		return true;
	}
	if (h->step == HOTPLUG_UNBINDING && r < 0 && !h->force) {
		fail(m, r);
		return true;
	}
	/* The agent has released the device or should have, or could not take it into use. */
	unplug_with(m, h->step == HOTPLUG_UNBINDING ? 0 : r);
	return true;
}

/*
 * Lets the command fail whose change the engine does not end. The change itself goes on. The error
 * is not ETIMEDOUT if a device was to be attached, because it certainly will not be.
 */
static void give_up_engine(struct monitor *m)
{
	struct hotplug *h = &m->hotplug;
	struct client *c = client_of_change(m, CHANGE_DEVICES);
	const bool attach = h->step == HOTPLUG_PLUGGING || h->error;

	h->late = true;
	h->deadline = 0;
	if (!c)
		return;
	err_set(attach ? EIO : ETIMEDOUT,
		"the hypervisor did not answer in %d seconds: %s %s is %s as soon as it does; "
		"until "
		"then no device can be attached or detached",
		ENGINE_MS / 1000, h->at->kind, h->at->name,
		attach ? "not attached, and is taken out again" : "detached");
	c->change = CHANGE_NONE;
	client_reply(c, attach ? EIO : ETIMEDOUT, err_msg());
}

void hotplug_check_deadline(struct monitor *m, int64_t now)
{
	struct hotplug *h = &m->hotplug;

	if (!h->deadline || now < h->deadline)
		return;
	if (h->step == HOTPLUG_ENDING) {
		int r = err_set(EIO,
			"the process that serves the disk (caisson-disk) did not end in %d "
			"seconds: "
			"what the guest wrote may not be in the image yet",
			DISK_PROCESS_END_MS / 1000);
		hotplug_forget(h->at);
		/* The command asked for more than the end of a server, if the attach has failed. */
		hotplug_finish(m, h->error ? h->error : -r, h->error ? h->why : err_msg());
		return;
	}
	if (h->step == HOTPLUG_PLUGGING || h->step == HOTPLUG_UNPLUGGING) {
		give_up_engine(m);
		return;
	}
	log_debug("microvm: the agent does not answer about %s %s", h->at->kind, h->at->name);
	if (h->force) {
		unplug_with(m, 0);
		return;
	}
	fail(m, err_set(ETIMEDOUT,
			"the guest did not answer in %d seconds: %s %s stays attached until "
			"it is detached",
			HOTPLUG_MS / 1000, h->at->kind, h->at->name));
}

/* --- requests --- */

static int begin_attach(struct monitor *m, const struct hotplug_kind *k, struct agent_frame *f)
{
	struct hotplug *h = &m->hotplug;
	struct attached *at = find_free(m);
	struct attached new = {.kind = k->name, .fd = -EBADF, .server = -EBADF, .control = -EBADF};
	const char *name = json_get_str(f->json, "name");

	if (find_device(m, k->name, name))
		return err_set(EEXIST, "%s %s is attached already", k->name, name);
	if (!at)
		return err_set(ENOSPC, "%d devices and mounts are attached, expected no more",
			HOTPLUG_MAX);
	if (f->nfds < k->device || f->nfds > k->descriptors)
		return err_set(EPROTO, "attach: %u descriptors came: expected %u to %u", f->nfds,
			k->device, k->descriptors);
	new.name = strdup(name);
	if (!new.name)
		return -ENOMEM;
	h->change = (struct engine_change){0};
	int r = k->read(m, f, &new, &h->change.device);
	if (r >= 0 && k->device)
		r = engine_change(&m->engine, &h->change);
	if (r < 0) {
		hotplug_forget(&new);
		return r;
	}
	if (k->device)
		new.fd = take_fd(&f->fds[0]);
	*at = new;
	h->at = at;
	h->step = HOTPLUG_PLUGGING;
	h->deadline = clock_ms() + ENGINE_MS;
	return 0;
}

static int begin_detach(
	struct monitor *m, const struct hotplug_kind *k, const struct agent_frame *f)
{
	const char *name = json_get_str(f->json, "name");
	struct attached *d = find_device(m, k->name, name);

	if (!d)
		return err_set(
			ENOENT, "%s %s was not attached while the microVM ran", k->name, name);
	m->hotplug.at = d;
	return 0;
}

int hotplug_begin(struct monitor *m, struct client *c, struct agent_frame *f)
{
	const char *kind = json_get_str(f->json, "kind");
	struct hotplug *h = &m->hotplug;
	const struct hotplug_kind *k = hotplug_find_kind(kind);

	if (h->late)
		return err_set(EBUSY,
			"the hypervisor has not answered about %s %s yet: try again, or end the "
			"microVM",
			h->at->kind, h->at->name);
	if (h->step != HOTPLUG_NONE)
		return err_set(EBUSY, "another device is being attached to the microVM or detached "
				      "from it: try again");
	int r = monitor_check_running(m, true);
	if (r < 0)
		return r;
	if (!k || !json_get_str(f->json, "name"))
		return err_set(EPROTO, "%s: expected a kind and a name", f->type);
	const bool detach = streq(f->type, "detach");
	r = detach ? begin_detach(m, k, f) : begin_attach(m, k, f);
	if (r < 0)
		return r;
	h->order = *f;
	*f = (struct agent_frame){0};
	h->force = detach && k->device && json_get_true(h->order.json, "force");
	c->change = CHANGE_DEVICES;
	r = detach ? let_go(m) : 0;
	if (r < 0)
		fail(m, r);
	else if (!detach && !k->device)
		take_into_use(m);
	return 0;
}

int hotplug_share(struct monitor *m, struct client *c)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (m->share.pid <= 0)
		return err_set(EOPNOTSUPP,
			"the microVM has no file server, because its root and its "
			"mounts are disk images");
	int r = agent_begin(&w, "reply");
	if (r < 0)
		return r;
	json_out_i64(&w.json, "errno", 0);
	json_out_str(&w.json, "message", "");
	json_out_i64(&w.json, "pid", m->share.pid);
	return agent_send(&w, c->sock, NULL, 0);
}
