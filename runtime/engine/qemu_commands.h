/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of the engine that are commands to QEMU, and QEMU's events. Their descriptions are
 * in engine.h.
 */
#pragma once
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/qemu_hotplug.h"
#include "engine/qemu_talk.h"
#include "engine/qmp.h"

/* The id of the port of qemu-guest-agent on QEMU's command line, and in QEMU's events. */
#define QEMU_GUEST_AGENT "agent"

/* This is the first member of what e->state points to. */
struct qemu_commands {
	struct qmp qmp; /* connection for commands to QEMU and for its events */
	/*
	 * image_size: size in bytes of vm.image if QEMU itself reads it, else 0; new_image_size:
	 * size in bytes that QEMU was asked to give it
	 */
	uint64_t image_size, new_image_size;
	uint64_t memory; /* memory of the guest, in bytes */
	struct engine_balloon balloon;
	bool guest_agent_is_open; /* a program of the guest has opened the port QEMU_GUEST_AGENT */
	struct qemu_hotplug hotplug;
	struct qemu_talk talk;
	atomic_bool saves; /* the machine is being saved, or stands still after that */
	/* the monitor has paused the machine after an error of its disk */
	atomic_bool paused;
};

int qemu_press_power(struct engine *e) must_check;
bool qemu_guest_agent_is_open(const struct engine *e);
int qemu_add_viewer(struct engine *e, int sock) must_check;
int qemu_pause(struct engine *e) must_check;
int qemu_retry(struct engine *e) must_check;
int qemu_resize_disk(struct engine *e, uint64_t size) must_check;
int qemu_set_balloon(struct engine *e, uint64_t bytes) must_check;
void qemu_get_balloon(struct engine *e, struct engine_balloon *ret);
int qemu_next_event(struct engine *e, struct engine_event *ret) must_check;
