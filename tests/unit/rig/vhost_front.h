/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fake vhost-user front end, which plays the monitor and the guest's driver. The guest's memory
 * is a memfd of 4 MiB at guest address GUEST. The rings of queue 1 are at the start of that memory;
 * the requests are at DATA_IN, and the server writes answers to DATA_OUT.
 */
#pragma once
#include <linux/virtio_ring.h>
#include <stdint.h>
#include <sys/types.h>

#define GUEST UINT64_C(0x40000000)
#define USER UINT64_C(0x7f0000000000)
#define MEMORY (4U << 20)
#define QUEUE 8U
#define AVAIL 0x1000
#define USED 0x2000
#define TABLE 0x3000 /* offset of the tests' tables of indirect descriptors in the guest's memory */
#define DATA_IN 0x100000
#define DATA_OUT 0x300000

struct front {
	int sock, kick, call, memory;
	pid_t server;
	uint8_t *ram;
	uint16_t avail; /* number of requests that the driver has made available so far */
	uint64_t unique;
	uint32_t uid, gid; /* uid and gid in the headers of FUSE requests */
	char dir[64];
};

/* a vhost-user message, in the format that it has on the socket */
struct __attribute__((packed)) front_message {
	uint32_t request, flags, size;
	union {
		uint64_t u64[34];
		uint32_t u32[68];
	} p;
};

void front_send_raw(struct front *f, const void *data, size_t len, const int *fds, size_t n);
void front_send(struct front *f, struct front_message *m, const int *fds, size_t n);
/*
 * Sends a vhost-user request and waits for its answer. Returns the value in the answer, or
 * UINT64_MAX if the answer is wrong or missing.
 */
uint64_t front_ask(struct front *f, uint32_t request, uint32_t index);
void front_set(struct front *f, uint32_t request, uint64_t value);

/* Sends one of the messages SET_VRING_NUM, SET_VRING_BASE and SET_VRING_ENABLE for a queue. */
void front_set_vring(struct front *f, uint32_t request, uint32_t index, uint32_t num);
void front_set_fd(struct front *f, uint32_t request, uint64_t value, int fd);
void front_set_memory(
	struct front *f, uint64_t guest, uint64_t size, uint64_t user, uint64_t offset);
void front_set_addr(struct front *f, uint32_t index, uint64_t desc, uint64_t avail, uint64_t used);

/*
 * Creates the front end's descriptors and the guest's memory. Returns the server's end of the
 * socket.
 */
int front_open(struct front *f);
void front_close(struct front *f);
void front_start_queue(struct front *f);
void front_desc(struct front *f, unsigned int i, uint64_t addr, uint32_t len, uint16_t flags,
	uint16_t next);

/* Makes the chain that begins at descriptor `head` available to the device, without a kick. */
void front_put(struct front *f, uint16_t head);
/* Makes the chain that begins at descriptor `head` available to the device, and kicks it. */
void front_kick(struct front *f, uint16_t head);

/*
 * Waits until the server has answered all requests. Returns the length of the last answer, or -1 if
 * the server has hung up.
 */
int front_wait(struct front *f);
