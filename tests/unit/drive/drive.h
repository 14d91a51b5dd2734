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

#define PROGRESS_AT 0x4000 /* a string of up to 127 bytes */
#define RING 16
#define QUEUES 3
#define DEVICES_MAX 16
#define SPARE_AT 0x800000UL /* guest memory that holds nothing: for the balloon, and bad rings */

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
	uint16_t seen; /* of used.idx */
	unsigned next; /* descriptor */
};

struct device {
	uint64_t base;
	uint32_t id;
	const char *name;
	unsigned queues, main_queue; /* main: of requests, which the device takes at once */
	uint32_t config_len;
	bool (*use)(struct device *d);
	struct ring ring[QUEUES];
};

struct part {
	const void *at;
	uint32_t len;
	bool write; /* by the device */
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

/* main.c. Says so and powers off where `ok` is not true. */
void check_at(const struct device *d, bool ok, const char *what, int line);
#define CHECK(d, ok) check_at(d, ok, #ok, __LINE__)
void progress(const struct device *d, const char *what);
uint32_t random32(void);
extern uint64_t edges[3]; /* of RAM: end of the low region, start and end of the high one */

/* driver.c */
#define STATUS_OK 15
#define STATUS_NEEDS_RESET 64
#define EVENT_IDX (1ULL << 29)
/* Reset, then all that the device offers but EVENT_IDX, up to FEATURES_OK. */
bool negotiate(struct device *d);
void set_queue(struct device *d, unsigned q, uint64_t desc, uint64_t avail, uint64_t used);
/* With empty rings of RING entries, up to DRIVER_OK. */
bool bring_up(struct device *d);
/* Fills a chain without offering it; its head. */
unsigned put(struct device *d, unsigned q, const struct part *parts, unsigned count);
void offer(struct device *d, unsigned q, unsigned head);
static inline void kick(const struct device *d, unsigned q)
{
	set(d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}
/* The next used element, for as long as it takes. False: the device needs a reset instead. */
bool await(struct device *d, unsigned q, struct vring_used_elem *ret);
bool await_broken(struct device *d);
/* Offers one chain and waits for it: the bytes written, or -1. */
int64_t request(struct device *d, unsigned q, const struct part *parts, unsigned count);

/* good.c: what it is there for, from a reset on */
bool use_console(struct device *d);
bool use_rng(struct device *d);
bool use_blk(struct device *d);
bool use_net(struct device *d);
bool use_vsock(struct device *d);
bool use_balloon(struct device *d);
bool use_fs(struct device *d);
/* Requests that the device is busy with for a while, not waited for; answers go to work_in. */
void begin_work(struct device *d);
extern uint8_t work_in[4096];
bool console_say(struct device *d, const char *text, size_t len);

/* bad.c */
/* Every register in every state; what is frozen at DRIVER_OK. */
void sweep_registers(struct device *d);
void sweep_config(struct device *d);
void bad_rings(struct device *d);
void bad_chains(struct device *d);
/* A bad chain for a device that another process serves, which gives up on it. */
void break_once(struct device *d);

/* storm.c */
void reset_storm(struct device *d);
/* The same while another vCPU writes registers and rings. */
void race(struct device *d);
