/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that commands attach to the running machine, and detach from it.
 *
 * Theory of operation. A command sends "attach" with the descriptor of the device, or "detach".
 * These steps follow. Each begins when the step before it is done, and one device is changed at a
 * time:
 *
 * 	attach	the engine puts the device into a spare slot of the machine (vm/hotplug.h); the
 * 		agent makes the guest's kernel look at the slot, and takes the device into use
 * 	detach	the agent releases the device, or reports that it is busy; the engine takes the
 * 		device out of its slot
 *
 * A volume is a disk whose file system the agent mounts, where a disk is a node in the container.
 * caisson-disk serves a disk that is no raw image. The command starts it, and sends its vhost-user
 * socket, a pidfd and its socket for control. caisson-disk ends once the device is out of its slot
 * and the socket is closed, and only then is the detach done, so that the image is whole. If
 * caisson-disk cannot write all to the image, it says so, and the detach fails although the device
 * is gone.
 *
 * A mount needs no device: the command has put it into the share that the file server serves
 * (launch/hotplug.h), so only the agent's part is done.
 *
 * If the agent cannot take the device into use, or if the command is killed before it has its
 * reply, the device is detached again. So a command that is killed at any time leaves nothing. If
 * the agent does not reply within HOTPLUG_MS, the command fails, the device stays in its slot, and
 * a later "detach" may remove it.
 *
 * The engine can hang too, if it is QEMU, which the guest may have taken over. If it is not done
 * within ENGINE_MS, the command fails, and the change goes on without the command. Its slot stays
 * in use, and other changes fail at once with EBUSY, because the engine makes one change at a time.
 * When the engine is done, the slot becomes free: the monitor takes a device out again whose
 * command has failed, and the guest is not told of the device.
 */
#pragma once
#include <poll.h>

#include "agent/agent.h"
#include "engine/engine.h"

/* how many devices and mounts can be attached at a time */
#define HOTPLUG_MAX 32

struct client;
struct monitor;

enum hotplug_step {
	HOTPLUG_NONE,
	HOTPLUG_PLUGGING,   /* the engine puts the device into a slot of the machine */
	HOTPLUG_BINDING,    /* the agent takes the device into use */
	HOTPLUG_UNBINDING,  /* the agent releases the device */
	HOTPLUG_UNPLUGGING, /* the engine takes the device out of its slot */
	HOTPLUG_ENDING,     /* caisson-disk writes what it holds in memory, and ends */
};

/* A device that a command has attached. */
struct attached {
	/* "net", "disk", "volume" or "mount"; NULL: this entry of the table is free */
	const char *kind;
	/*
	 * what commands call the device: an interface's name, or the path of a disk or a mount in
	 * the container
	 */
	char *name;
	char *share;    /* name of a mount in the share; NULL: it is no mount */
	uint8_t mac[6]; /* MAC address of an interface */
	unsigned slot;  /* the device's slot in the machine */
	/*
	 * the device's descriptor, which the command has sent; -EBADF: it is a mount in the share,
	 * and no device of the machine
	 */
	int fd;
	/*
	 * pidfd of caisson-disk, which the command has started and which serves the disk; -EBADF:
	 * no process serves it
	 */
	int server;
	/* its socket for the messages of vm/virtio/blk_control.h, or -EBADF */
	int control;
};

struct hotplug {
	enum hotplug_step step;
	struct engine_change change;
	struct attached *at; /* the entry of the device that is being attached or detached */
	/* the command's request, whose members the agent gets too */
	struct agent_frame order;
	uint64_t request; /* id of the message that waits for the agent's reply */
	/* until when the agent or the engine has to be done (CLOCK_MONOTONIC, ms); 0: none */
	int64_t deadline;
	bool late;  /* the engine was not done in time, and the command has failed */
	bool force; /* the device is detached even if the agent refuses or does not reply */
	int error;  /* error of an attempt to attach that is being undone, or 0 */
	char why[ERR_MAX];
	struct attached devices[HOTPLUG_MAX];
};

/*
 * hotplug_begin() handles the requests "attach" and "detach", and hotplug_share() the request
 * "share". hotplug_on_changed() handles the end of the engine's work, and hotplug_on_reply() the
 * agent's reply (it returns whether the reply was to a message of hotplug.c).
 */
int hotplug_begin(struct monitor *m, struct client *c, struct agent_frame *f) must_check;
int hotplug_share(struct monitor *m, struct client *c) must_check;
void hotplug_on_changed(struct monitor *m);
bool hotplug_on_reply(struct monitor *m, uint64_t id, const struct agent_frame *f);
/*
 * hotplug_poll_servers() asks for the ends of the processes that serve disks, and
 * hotplug_serve_servers() handles them. Such an end is expected if a detach waits for it. Otherwise
 * it is an error that ends the machine, because programs in the guest that use the disk would hang
 * forever.
 */
void hotplug_poll_servers(const struct monitor *m, struct pollfd p[static HOTPLUG_MAX]);
int hotplug_serve_servers(struct monitor *m, const struct pollfd p[static HOTPLUG_MAX]) must_check;
/* Gives up an agent or an engine that is not done until now, in ms of CLOCK_MONOTONIC. */
void hotplug_check_deadline(struct monitor *m, int64_t now);
/* Fails with -EBUSY and a message if a device is attached, or is being attached or detached. */
int hotplug_refuse(const struct monitor *m) must_check;
void hotplug_release(struct monitor *m);
