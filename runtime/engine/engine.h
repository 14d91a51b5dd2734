/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine runs the machine: either the built-in machine on KVM (kvm.c) or QEMU (qemu.c; the
 * arguments of QEMU are in qemu_args.c). The guest gets the same kernel, initramfs and devices from
 * both engines.
 *
 * 	engine_start(&e, &description)  builds the machine; starts QEMU's process, but no thread
 * 	engine_run(&e, &jail)           starts threads, each in the jail; the guest runs; a foreign
 * 	                                guest in QEMU has waited for this call
 * 	poll(e.ended)                   readable once the machine has ended
 * 	engine_result(&e)               tells how the machine ended
 * 	engine_stop(&e)                 ends the machine if it still runs, and releases everything
 *
 * The caller of engine_start() keeps and closes the descriptors in the description. The descriptors
 * of the taps, the share, its carrier and the vhost-user servers must stay open until
 * engine_stop().
 */
#pragma once
#include <pthread.h>
#include <sys/types.h>

#include "jail/jail.h"
#include "machine/machine_config.h"
#include "plan/plan.h"
#include "vm/hotplug.h"
#include "vm/prefetch.h"
#include "vm/virtio/virtio_net.h"
#include "vm/virtio/vsock.h"

#define ENGINE_NICS_MAX MACHINE_INTERFACES_MAX
#define GUEST_CID 3
/*
 * serial number of the second disk of a foreign guest, from which cloud-init reads its
 * configuration
 */
#define ENGINE_SEED_SERIAL "caisson-seed"
/* the name by which qemu-guest-agent finds its virtio-serial port */
#define ENGINE_GUEST_AGENT_PORT "org.qemu.guest_agent.0"

struct engine_nic {
	/* field in config.json that names the vhost-user server; NULL: the interface has a tap */
	const char *backend;
	int fd; /* descriptor of the connection to the vhost-user server */
	/* descriptors of the tap's queues, which the caller keeps open until engine_stop() */
	const int *taps;
	unsigned queues; /* number of the tap's queues, VIRTIO_NET_PAIRS_MAX at most */
	/*
	 * descriptors of /dev/vhost-net, one for each queue; NULL: the hypervisor moves the frames
	 * itself
	 */
	const int *vhost;
	uint8_t mac[6];
	/*
	 * MTU of the interface in bytes; 0: the guest chooses the MTU, which only a vhost-user
	 * server allows
	 */
	uint32_t mtu;
	unsigned offloads; /* offloads that the tap may use: TUN_F_* flags; 0: no offloads */
};

/*
 * how many vhost-user servers one machine has at most: caisson-disk for vm.image, and the servers
 * that the plan names
 */
#define ENGINE_BACKENDS_MAX (1 + PLAN_BACKENDS_MAX)

/*
 * A vhost-user server that serves a virtio-fs share or a disk: either a server outside of caisson,
 * or the server of vm.image (disk_server.h).
 */
struct engine_backend {
	const char *field; /* property of config.json that names the vhost-user server */
	/*
	 * virtio-fs tag of the share; NULL: a disk. The guest sees a raw vm.image as its first
	 * disk, and then the disks in the order of the array of struct engine_backend.
	 */
	const char *tag;
	int sock;
	/*
	 * socket of the process that connects to the server again (connector.h); 0: there is no
	 * such process
	 */
	int reconnect;
	unsigned queues; /* number of queues of a disk; 0: one queue */
};

struct engine_description {
	const struct machine_config *config;
	/*
	 * descriptors of the files of the kernel and the initramfs; initramfs -EBADF: there is no
	 * initramfs, which only a foreign guest allows; both -EBADF: the firmware boots
	 */
	int kernel, initramfs;
	/*
	 * descriptors of the EFI firmware and, for writing, of its variables, which only QEMU uses;
	 * -EBADF: the machine has no firmware
	 */
	int firmware, firmware_vars;
	const char *cmdline;
	int share; /* vhost-user socket of the file server; -EBADF: there is no share */
	/* socket by which the file server's state is carried, which only QEMU's machine needs */
	int share_carrier;
	int image; /* descriptor of vm.image if the hypervisor reads the image itself, or -EBADF */
	int seed;  /* read-only descriptor of a foreign guest's second disk, or -EBADF */
	/*
	 * socket for the output of the guest's console; a foreign guest also gets its console's
	 * input from it
	 */
	int log;
	/*
	 * socket to the port of qemu-guest-agent in a foreign guest, which does not block; -EBADF:
	 * the machine has no such port
	 */
	int guest_agent;
	/*
	 * the snapshot from which the machine starts, and its file of guest memory; NULL: the
	 * machine boots the kernel
	 */
	const struct snapshot *snapshot;
	int snapshot_memory;
	bool snapshot_trusted; /* the same as in struct machine_options */
	/* the same as in struct machine_options */
	const struct vm_page_run *prefetch;
	size_t prefetch_count;
	/*
	 * the machine starts without its late devices (machine_options.late): one that starts from
	 * a snapshot gets them before it runs, and another one by engine_place_late()
	 */
	bool late;
	/*
	 * an earlier machine had the connections to vhost-user servers (vhost_user_options.owned)
	 */
	bool owned;
	struct engine_nic nics[ENGINE_NICS_MAX];
	size_t nnics;
	struct engine_backend backends[ENGINE_BACKENDS_MAX];
	size_t nbackends;
	/*
	 * The table of the guest's vsock connections: the engine relays a guest's connection to a
	 * port to the descriptor that this table has for the port (streams.h).
	 */
	struct streams *streams;
};

struct engine;

/* What the engine tells its caller besides the machine's end. */
enum engine_event_kind {
	/* the disk of vm.image holds requests after an error, so the machine has to pause */
	ENGINE_DISK_HELD,
	ENGINE_DISK_RESIZED, /* engine_resize_disk() has ended its work */
	/* a program of the guest has opened or closed the port of qemu-guest-agent */
	ENGINE_GUEST_AGENT,
};

struct engine_event {
	enum engine_event_kind kind;
	int error;  /* a positive errno; of ENGINE_DISK_RESIZED: 0 if the disk was resized */
	bool write; /* of ENGINE_DISK_HELD: a write has failed, else a read */
	char why[BLK_WHY_MAX]; /* of ENGINE_DISK_RESIZED: the error message */
};

/* what engine_save() writes, and into which files */
struct engine_save {
	/* descriptors of empty files, which the caller keeps open until engine_saved() */
	int state, memory;
	/*
	 * bytes of the caller, stored as the snapshot's section SNAPSHOT_OWNER, from which a later
	 * monitor reads them
	 */
	const void *owner;
	size_t owner_len;
};

/* Memory of the guest that the balloon gives to the host, in bytes. */
struct engine_balloon {
	uint64_t wanted; /* how much engine_set_balloon() has asked for */
	uint64_t given;  /* how much the guest says that it has given */
};

/* Memory of the guest beyond what it has started with, in bytes. */
struct engine_hot_memory {
	uint64_t requested; /* how much engine_request_memory() has asked for */
	uint64_t plugged;   /* how much the guest has taken */
};

/* What engine_change() changes in a machine that runs. */
struct engine_change {
	bool detach; /* the device in `slot` is detached; otherwise `device` is attached */
	struct machine_device device;
	unsigned slot; /* if a device is attached, engine_changed() sets this */
};

struct engine_ops {
	int (*start)(struct engine *e, const struct engine_description *d);
	int (*run)(struct engine *e);
	void (*stop)(struct engine *e);
	/*
	 * Says how the machine ended. The caller calls it once the descriptor `ended` is readable.
	 * Returns 0 if the guest switched itself off, -EPIPE with a message if a vhost-user server
	 * that serves one of the machine's devices has ended, and -errno with a message if the
	 * machine failed in another way.
	 */
	int (*result)(struct engine *e);
	/* Presses the power button, which only a machine with a foreign guest has. */
	int (*press_power)(struct engine *e);
	/* see engine_guest_agent_is_open(); NULL: the engine's machines have no such port */
	bool (*guest_agent_is_open)(const struct engine *e);
	/* see engine_add_viewer(); NULL: the engine's machines have no screen */
	int (*add_viewer)(struct engine *e, int sock);
	/* The functions that save the machine in a snapshot. */
	/* see engine_can_save(); NULL: each machine can be saved */
	int (*can_save)(const struct engine *e);
	int (*save)(struct engine *e, const struct engine_save *s);
	int (*saved)(struct engine *e);
	void (*go_on)(struct engine *e);
	/* see engine_record_pages(); NULL: the engine cannot start machines from a snapshot */
	int (*record_pages)(struct engine *e, int pagemap, struct vm_page_run *runs, size_t max);
	/*
	 * The functions that attach devices to the running machine, and detach them. QEMU has no
	 * place_late(), because its machines have no late devices.
	 */
	int (*change)(struct engine *e, struct engine_change *c);
	int (*changed)(struct engine *e);
	int (*place_late)(struct engine *e);
	/* see engine_next_event(), engine_pause() and engine_retry() */
	int (*next_event)(struct engine *e, struct engine_event *ret);
	int (*pause)(struct engine *e);
	int (*retry)(struct engine *e);
	int (*resize_disk)(struct engine *e, uint64_t size);
	/* see engine_set_balloon() and engine_get_balloon() */
	int (*set_balloon)(struct engine *e, uint64_t bytes);
	void (*get_balloon)(struct engine *e, struct engine_balloon *ret);
	/*
	 * see engine_request_memory() and engine_get_memory(); NULL: the engine's machines keep
	 * their size
	 */
	void (*request_memory)(struct engine *e, uint64_t bytes);
	void (*get_memory)(struct engine *e, struct engine_hot_memory *ret);
};

extern const struct engine_ops engine_kvm, engine_qemu;

struct engine {
	const struct engine_ops *ops;
	int ended; /* descriptor that is readable once the machine has ended */
	/* descriptor that is readable when engine_next_event() has to be called; -EBADF: none */
	int events;
	/*
	 * eventfd, readable once engine_save() has ended its work; -EBADF: the engine cannot make
	 * snapshots
	 */
	int save_done;
	/*
	 * eventfd, readable once engine_change() has ended its work
	 */
	int change_done;
	/* the slots of the late devices, once the machine has them; late_count is 0 without any */
	unsigned late_slots[MACHINE_SPARES_MAX];
	size_t late_count;
	bool maps_snapshot; /* guest memory is a private mapping of the snapshot's file */
	pid_t pid; /* pid of QEMU's process, a child of the monitor; 0: there is no such process */
	/* the jail (jail/jail.h) that the engine's threads enter before the guest runs */
	const struct jail *jail;
	void *state; /* private data of kvm.c or qemu.c */
};

#define ENGINE_INIT \
	{ \
		.ended = -EBADF, .events = -EBADF, .save_done = -EBADF, .change_done = -EBADF \
	}

int engine_start(struct engine *ret, const struct engine_description *d) must_check;
/*
 * Starts the guest. The engine's threads enter the jail `jail`, which belongs to the caller and
 * must exist until engine_stop().
 */
int engine_run(struct engine *e, const struct jail *jail) must_check;
int engine_result(struct engine *e) must_check;
/* Presses the machine's power button, so that a foreign guest ends by itself. */
int engine_press_power(struct engine *e) must_check;
/* Says whether a program of the guest has opened the port of qemu-guest-agent. */
bool engine_guest_agent_is_open(const struct engine *e);
/*
 * Gives the engine a copy of the socket `sock`, whose other end is a VNC viewer. The caller has
 * checked that the machine has a screen.
 */
int engine_add_viewer(struct engine *e, int sock) must_check;
void engine_stop(struct engine *e);

/*
 * Takes the next event of the engine. Returns 1 with the event in *ret, or 0 if there is none. The
 * caller calls this until it returns 0.
 */
int engine_next_event(struct engine *e, struct engine_event *ret) must_check;
/*
 * engine_pause() stops the guest's CPUs. engine_retry() makes the disk serve again the requests
 * that it holds after an error, and lets the CPUs run.
 */
int engine_pause(struct engine *e) must_check;
int engine_retry(struct engine *e) must_check;

/*
 * Begins to make the disk of vm.image `size` bytes large, if the engine itself reads the image;
 * otherwise caisson-disk has already made the image larger, and the engine tells the guest. Returns
 * 1 if nothing is left to do, or 0 if the event ENGINE_DISK_RESIZED follows. One disk is resized at
 * a time, and not while engine_save() or engine_change() works.
 */
int engine_resize_disk(struct engine *e, uint64_t size) must_check;

/*
 * Asks the guest to give the host `bytes` bytes of its memory in total, and to take the rest back.
 * The guest does so when it can, and engine_get_balloon() tells how far it is.
 */
int engine_set_balloon(struct engine *e, uint64_t bytes) must_check;
void engine_get_balloon(struct engine *e, struct engine_balloon *ret);

/*
 * Asks the guest to have `bytes` bytes more than it has started with, up to hot_memory of struct
 * machine_config. The guest takes or gives them when it can, and engine_get_memory() tells how far
 * it is.
 */
void engine_request_memory(struct engine *e, uint64_t bytes);
void engine_get_memory(struct engine *e, struct engine_hot_memory *ret);

/*
 * Begins to pause the machine and to save it. Once e->save_done is readable, engine_saved() returns
 * the result. The machine stays paused until engine_go_on() or engine_stop(). *s must exist until
 * engine_saved().
 */
int engine_save(struct engine *e, const struct engine_save *s) must_check;
/*
 * Says, before anything is done, whether the machine can be saved as far as the engine knows.
 * Returns -ENOTSUP with the reason if it cannot.
 */
int engine_can_save(const struct engine *e) must_check;
int engine_saved(struct engine *e) must_check;
void engine_go_on(struct engine *e);

/*
 * Begins to attach a device, or to detach it. Once e->change_done is readable, engine_changed()
 * returns the result. *c, and the descriptors of a device that was attached, must exist until
 * engine_changed(), and the descriptors until the device is detached or engine_stop(). Detaching
 * does not fail. One change is made at a time.
 */
int engine_change(struct engine *e, struct engine_change *c) must_check;
int engine_changed(struct engine *e) must_check;

/*
 * Finds the pages that a machine which started from a snapshot has touched, as vm_pages_record()
 * does (vm/prefetch.h).
 */
int engine_record_pages(struct engine *e, int pagemap, struct vm_page_run *runs, size_t max)
	must_check;

/*
 * Begins to give the machine its late devices. Once e->change_done is readable, engine_changed()
 * returns the result. No other change of the machine is under way at the same time.
 */
int engine_place_late(struct engine *e) must_check;
