/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare-metal guest that drives every virtio-mmio device of its machine, well and badly: booted by
 * test_vm_drive.c, which is the host's side of it. It polls, and has no interrupts.
 *
 * The command line says what to do (main.c). What it finds goes to the console, as its last act
 * before it powers off: "ok N", N things checked, or what failed. Where it is at the moment stands
 * at PROGRESS_AT for who waits in vain.
 */
#pragma once
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_AT 0x4000 /* where the string is, of up to 127 bytes */
#define RING 16
#define QUEUES 3
#define DEVICES_MAX 16
#define SPARE_AT 0x800000UL /* unused guest memory, for the balloon and for bad rings */

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
	uint16_t seen; /* the used.idx up to which requests were seen */
	unsigned next; /* the next free descriptor */
};

struct device {
	uint64_t base;
	uint32_t id;
	const char *name;
	unsigned queues, main_queue; /* main_queue has requests that the device takes at once */
	uint32_t config_len;
	bool (*use)(struct device *d);
	struct ring ring[QUEUES];
};

struct part {
	const void *at;
	uint32_t len;
	bool write; /* the device writes it */
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

/* main.c. If `ok` is false, reports what failed and switches the machine off. */
void check_at(const struct device *d, bool ok, const char *what, int line);
#define CHECK(d, ok) check_at(d, ok, #ok, __LINE__)
void progress(const struct device *d, const char *what);
uint32_t random32(void);
/* the ends of RAM: end of the low region, start and end of the high one */
extern uint64_t edges[3];

/* driver.c */
#define STATUS_OK 15
#define STATUS_NEEDS_RESET 64
#define EVENT_IDX (1ULL << 29)
/* Resets the device and negotiates all that it offers except EVENT_IDX, up to FEATURES_OK. */
bool negotiate(struct device *d);
void set_queue(struct device *d, unsigned q, uint64_t desc, uint64_t avail, uint64_t used);
/* Brings the device up to DRIVER_OK with empty rings of RING entries. */
bool bring_up(struct device *d);
/* Fills a chain without offering it. Returns its head. */
unsigned put(struct device *d, unsigned q, const struct part *parts, unsigned count);
void offer(struct device *d, unsigned q, unsigned head);
static inline void kick(const struct device *d, unsigned q)
{
	set(d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}
/* Waits without limit for the next used element. False: the device needs a reset instead. */
bool await(struct device *d, unsigned q, struct vring_used_elem *ret);
bool await_broken(struct device *d);
/*
 * Offers one chain and waits for it. Returns the number of bytes that the device has written, or
 * -1.
 */
int64_t request(struct device *d, unsigned q, const struct part *parts, unsigned count);

/* good.c: each uses a device for its purpose, from a reset on */
bool use_console(struct device *d);
bool use_rng(struct device *d);
bool use_blk(struct device *d);
bool use_net(struct device *d);
bool use_vsock(struct device *d);
bool use_balloon(struct device *d);
bool use_fs(struct device *d);
/* Offers requests that keep the device busy, and does not wait. Answers go to work_in. */
void begin_work(struct device *d);
extern uint8_t work_in[4096];
bool console_say(struct device *d, const char *text, size_t len);

/* bad.c */
/* Writes every register in every state, and what must not change after DRIVER_OK. */
void sweep_registers(struct device *d);
void sweep_config(struct device *d);
void bad_rings(struct device *d);
void bad_chains(struct device *d);
/* Offers a bad chain to a device that another process serves, at which that process gives up. */
void break_once(struct device *d);

/* storm.c */
void reset_storm(struct device *d);
/* The same, while another vCPU writes registers and rings. */
void race(struct device *d);
