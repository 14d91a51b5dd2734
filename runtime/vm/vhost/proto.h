/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines the messages of vhost-user (QEMU, docs/interop/vhost-user.rst): requests, feature bits
 * and payloads, for the front end (front.c) and the back end (back.c). Numbers are in native byte
 * order, because both ends run on this host.
 */
#pragma once
#include <stdint.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_SET_DEVICE_STATE_FD = 42,
	VHOST_USER_CHECK_DEVICE_STATE = 43,
	/*
	 * Requests that only caisson has, for a machine whose front end, QEMU, can neither save nor
	 * load this device, so that the monitor does both (engine/qemu_carry.h).
	 * GET_DRIVER_FEATURES: the answer is a u64 with the virtio features that the driver has
	 * accepted. KEEP_VRING_BASE: the queue begins at this index when it starts next. Until then
	 * the back end ignores SET_VRING_BASE, because QEMU does not know the index, and
	 * RESET_DEVICE.
	 */
	VHOST_USER_GET_DRIVER_FEATURES = 128,
	VHOST_USER_KEEP_VRING_BASE = 129,
};

/*
 * A request of the back end to the front end, over the socket of SET_BACKEND_REQ_FD: the
 * configuration has changed.
 */
#define VHOST_USER_BACKEND_CONFIG_CHANGE_MSG 2

/*
 * The virtio feature bit with which a back end says that it has protocol features. If the front end
 * accepts this feature, rings start disabled.
 */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

/* Bits of the protocol features, which GET_PROTOCOL_FEATURES returns. */
#define VHOST_USER_PROTOCOL_F_MQ 0
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ 5
#define VHOST_USER_PROTOCOL_F_CONFIG 9
#define VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD 12
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE 13
#define VHOST_USER_PROTOCOL_F_DEVICE_STATE 19

/* Values of the member `flags` in a message's header. */
#define VHOST_USER_VERSION 1U
#define VHOST_USER_VERSION_MASK 3U
#define VHOST_USER_REPLY 4U
#define VHOST_USER_NEED_REPLY 8U

/*
 * SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR carry a u64. Its low byte is the queue's index,
 * and the bit VHOST_USER_VRING_NO_FD says that no descriptor comes with the message.
 */
#define VHOST_USER_VRING_INDEX_MASK 0xffU
#define VHOST_USER_VRING_NO_FD 0x100U

/* most memory regions in a message; more would need CONFIGURE_MEM_SLOTS */
#define VHOST_USER_REGIONS_MAX 8
#define VHOST_USER_CONFIG_MAX 256

struct vhost_user_header {
	uint32_t request, flags, size; /* request: VHOST_USER_ number; size: bytes of the payload */
};

struct vhost_user_region {
	uint64_t guest, size, user, offset;
};

struct vhost_user_memory {
	uint32_t count, padding;
	struct vhost_user_region regions[VHOST_USER_REGIONS_MAX];
};

struct vhost_user_vring_state {
	uint32_t index, num;
};

struct vhost_user_vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

#define VHOST_USER_CONFIG_HEAD 12 /* bytes of this structure before `data` */

struct vhost_user_config {
	uint32_t offset, size, flags;
	uint8_t data[VHOST_USER_CONFIG_MAX];
};

/*
 * Describes the memory in which the back end records the requests that are under way. The structure
 * takes 24 bytes in a message, including the padding.
 */
struct vhost_user_inflight {
	uint64_t size, offset;
	uint16_t queues, queue_size;
	uint32_t padding;
};

/*
 * The direction of a state's transfer: with SAVE the back end writes its state to the descriptor of
 * SET_DEVICE_STATE_FD, with LOAD it reads its state from there.
 */
enum { VHOST_USER_SAVE, VHOST_USER_LOAD };
/*
 * Bits of the answer to SET_DEVICE_STATE_FD. NO_FD: the back end uses the descriptor that came with
 * the request, and sends none with the answer. ERROR: not 0 if the back end refuses.
 */
#define VHOST_USER_STATE_NO_FD 0x100U
#define VHOST_USER_STATE_ERROR 0xffU

struct vhost_user_transfer {
	uint32_t direction;
	uint32_t phase; /* 0: all queues are stopped */
};

union vhost_user_payload {
	uint64_t u64;
	struct vhost_user_memory memory;
	struct vhost_user_vring_state state;
	struct vhost_user_vring_addr addr;
	struct vhost_user_config config;
	struct vhost_user_inflight inflight;
	struct vhost_user_transfer transfer;
};
