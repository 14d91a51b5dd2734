/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares a bare-metal guest that drives every virtio-mmio device of its machine, correctly and
 * incorrectly. test_vm_drive.c boots it and is the host's side of the test. The guest polls, and
 * uses no interrupts.
 *
 * The command line says what to do (main.c). Before it powers off, the guest writes its result to
 * the console: "ok N", where N is the number of checks, or what failed. The guest keeps a text at
 * PROGRESS_AT that says what it is doing, so that the host can report it if the guest hangs.
 */
#pragma once
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* guest address of the text that says what the guest is doing, which has up to 127 bytes */
#define PROGRESS_AT 0x4000
#define RING 16
#define QUEUES 3
#define DEVICES_MAX 16
/* guest address of memory that the test program does not use, for the balloon and for bad rings */
#define SPARE_AT 0x800000UL

enum {
	ID_NET = 1,
	ID_BLK = 2,
	ID_CONSOLE = 3,
	ID_RNG = 4,
	ID_BALLOON = 5,
	ID_VSOCK = 19,
	ID_FS = 26,
};

struct ring {
	struct vring_desc desc[RING] __attribute__((aligned(16)));
	struct {
		uint16_t flags, idx, ring[RING], used_event;
	} avail;
	struct {
		uint16_t flags, idx;
		struct vring_used_elem ring[RING];
		uint16_t avail_event;
	} used __attribute__((aligned(4)));
	/* value of the device's used.idx up to which the driver has handled used requests */
	uint16_t seen;
	unsigned next; /* index of the next free descriptor of the queue */
};

struct device {
	uint64_t base;
	uint32_t id;
	const char *name;
	/* number of queues; main_queue is the queue whose requests the device handles at once */
	unsigned queues, main_queue;
	uint32_t config_len;
	bool (*use)(struct device *d);
	struct ring ring[QUEUES];
};

struct part {
	const void *at;
	uint32_t len;
	bool write; /* true: the device writes to the buffer */
};

static inline uint32_t get(const struct device *d, uint32_t offset)
{
	return *(volatile uint32_t *)(d->base + offset);
}

static inline void set(const struct device *d, uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(d->base + offset) = value;
}

static inline void pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* If `ok` is false, writes to the console what failed, and switches the machine off (main.c). */
void check_at(const struct device *d, bool ok, const char *what, int line);
#define CHECK(d, ok) check_at(d, ok, #ok, __LINE__)
void progress(const struct device *d, const char *what);
uint32_t random32(void);
/* the limits of guest RAM: end of the low region, start and end of the high region */
extern uint64_t edges[3];

/* The following declarations belong to driver.c, the virtio-mmio driver. */
#define STATUS_OK 15
#define STATUS_NEEDS_RESET 64
#define EVENT_IDX (1ULL << 29)
/*
 * Resets the device, and negotiates all features that it offers except EVENT_IDX, up to the status
 * FEATURES_OK. Returns false if the device refuses the features.
 */
bool negotiate(struct device *d);
void set_queue(struct device *d, unsigned q, uint64_t desc, uint64_t avail, uint64_t used);
/*
 * Brings the device up to the status DRIVER_OK with empty rings of RING entries. Returns false if
 * the device refuses the driver's features.
 */
bool bring_up(struct device *d);
/* Fills a descriptor chain without offering it to the device. Returns the index of its head. */
unsigned put(struct device *d, unsigned q, const struct part *parts, unsigned count);
void offer(struct device *d, unsigned q, unsigned head);
static inline void kick(const struct device *d, unsigned q)
{
	set(d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}
/*
 * Waits, without a time limit, for the next used element of the queue. Returns false if the device
 * asks for a reset instead.
 */
bool await(struct device *d, unsigned q, struct vring_used_elem *ret);
bool await_broken(struct device *d);
/*
 * Offers one descriptor chain and waits until the device has used it. Returns the number of bytes
 * that the device has written, or -1.
 */
int64_t request(struct device *d, unsigned q, const struct part *parts, unsigned count);

/* good.c: resets a device, brings it up and uses it for its purpose. */
bool use_device(struct device *d);
/*
 * Each of the following functions of good.c uses a device, which bring_up() has brought up, for its
 * purpose.
 */
bool use_console(struct device *d);
bool use_rng(struct device *d);
bool use_blk(struct device *d);
bool use_net(struct device *d);
bool use_vsock(struct device *d);
bool use_balloon(struct device *d);
bool use_fs(struct device *d);
/*
 * Sends a request to the file server behind the device. Returns the error in the answer, which the
 * device writes to work_in.
 */
int32_t fuse(struct device *d, uint32_t opcode, uint64_t node, const void *args, uint32_t len);
/*
 * Offers requests that keep the device busy. The function does not wait for the answers, which the
 * device writes to work_in.
 */
void begin_work(struct device *d);
extern uint8_t work_in[4096];
bool console_say(struct device *d, const char *text, size_t len);

/* The following functions of bad.c misuse a device. */
/*
 * Writes every register in every status, and checks that the values which are fixed after DRIVER_OK
 * do not change.
 */
void sweep_registers(struct device *d);
void sweep_config(struct device *d);
void bad_rings(struct device *d);
void bad_chains(struct device *d);
/*
 * Offers a bad descriptor chain to a device that another process serves. This process must then
 * stop serving the device.
 */
void break_once(struct device *d);

/* The following functions of storm.c reset a device at bad moments. */
void reset_storm(struct device *d);
/* Resets the device while another vCPU writes its registers and rings. */
void race(struct device *d);

/*
 * resume.c: uses all devices, lets the host make a snapshot of the machine, and uses the devices
 * again without a reset in between.
 */
void survive(struct device *devices, unsigned count);
struct device *find_device(struct device *devices, unsigned count, uint32_t id);
/*
 * Offers a buffer for a key to the console, and then asks the host, by the text "#", to do what the
 * test wants. Returns the key that the host presses afterwards.
 */
uint8_t ask_host(struct device *console);

/*
 * hotplug.c: asks the host to attach a device to the first spare slot, and to detach it again,
 * until the host presses "e".
 */
void plug_in(struct device *devices, unsigned count, struct device *spares, unsigned spare_count);
/* main.c: finds out what device is in the slot at d->base. Returns false if none is known. */
bool identify(struct device *d);
