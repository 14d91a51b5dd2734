/* SPDX-License-Identifier: Apache-2.0 */
/* Starts machines from templates, and makes templates: see template.c. */
#pragma once
#include "agent/agent.h"
#include "engine/engine.h"
#include "images/guest/guest_kernel.h"
#include "monitor/template_pages.h"

struct monitor;

enum template_step {
	TEMPLATE_UNUSED,     /* the machine has booted, and no template is made of it */
	TEMPLATE_USED,       /* the machine starts from a template */
	TEMPLATE_WANTED,     /* a template will be made once the agent has sent "hello" */
	TEMPLATE_SUSPENDING, /* the agent has been asked to suspend, and has not answered yet */
	TEMPLATE_SAVING,     /* the engine saves the machine */
	TEMPLATE_PLACING,    /* the machine has been saved, and the engine gives it its disks */
};

/* the template from which the machine starts, or that is being made of it */
struct template
{
	enum template_step step;
	bool failed; /* the machine could not be built from the template that was found */
	struct template_found found;
	struct template_new new;
	uint32_t agent_port; /* vsock port at which a machine of the new template connects */
	uint64_t request;    /* id of the message "suspend" */
	struct engine_save save;
	struct template_pages pages; /* the pages that are prefetched */
	/*
	 * the file into which the machine's pages are recorded, and this process's pagemap;
	 * -EBADF: nothing is recorded
	 */
	struct template_new record;
	int pagemap;
};

/*
 * template_choose() sets the machine's snapshot if there is a template, or begins to make one. It
 * changes nothing if the machine can have none.
 * template_on_hello() returns 1 if the agent is not ready for "create" yet; template.c then calls
 * monitor_send_create() later. template_on_reply() returns 1 if the reply was to "suspend", else 0.
 */
int template_choose(struct monitor *m, struct engine_description *d,
	const struct guest_kernel *kernel) must_check;
int template_on_hello(struct monitor *m, bool suspended) must_check;
int template_on_reply(struct monitor *m, uint64_t id, const struct agent_frame *f) must_check;
int template_on_saved(struct monitor *m) must_check;
/*
 * Handles the end of a change of the machine. Returns 1 if it was the machine's disks that were
 * placed, 0 if it was another change, or -errno.
 */
int template_on_changed(struct monitor *m) must_check;
/*
 * Builds the machine. If it cannot be built from its template, builds a machine that boots. If that
 * can be built, the template is at fault, and is removed.
 */
int template_start(struct monitor *m, struct engine_description *d,
	const struct guest_kernel *kernel) must_check;
/* Says whether the agent waits for a template to be made, and so has no container yet. */
bool template_under_way(const struct monitor *m);
void template_reap(struct monitor *m); /* Reaps the keepers that have ended. */
/* Records the pages that the machine has touched, unless they are known already. */
void template_on_created(struct monitor *m);
/* Gives up the files that are being made. */
void template_end(struct monitor *m);
