/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/mem.h"

#include <endian.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* bytes of an answer: type, padding, and the state of blocks */
#define ANSWER_LEN (offsetof(struct virtio_mem_resp, u) + sizeof(struct virtio_mem_resp_state))

/* A range of blocks: their numbers in the device's range. */
struct blocks {
	uint64_t first, end;
};

static bool is_plugged(const uint8_t *plugged, uint64_t block)
{
	return plugged[block / 8] >> (block % 8) & 1;
}

static size_t bytes_of_blocks(const struct virtio_mem *v)
{
	return v->blocks / 8 + 1;
}

static uint64_t count_plugged(const uint8_t *plugged, const struct blocks *b)
{
	uint64_t n = 0;

	for (uint64_t i = b->first; i < b->end; i++)
		n += is_plugged(plugged, i);
	return n;
}

static void set_plugged(struct virtio_mem *v, const struct blocks *b, bool plugged)
{
	const uint64_t before = count_plugged(v->plugged, b),
		       after = plugged ? b->end - b->first : 0;
	const uint64_t size = le64toh(v->config.plugged_size);

	for (uint64_t i = b->first; i < b->end; i++) {
		const uint8_t bit = (uint8_t)(1U << (i % 8));

		if (plugged)
			v->plugged[i / 8] |= bit;
		else
			v->plugged[i / 8] &= (uint8_t)~bit;
	}
	v->config.plugged_size = htole64(size + (after - before) * VIRTIO_MEM_BLOCK);
}

static void unplug(struct virtio_mem *v, const struct blocks *b)
{
	if (b->end > b->first)
		vm_memory_discard(v->dev.memory, v->host + b->first * VIRTIO_MEM_BLOCK,
			(b->end - b->first) * VIRTIO_MEM_BLOCK);
	set_plugged(v, b, false);
}

/* Checks the address and the number of blocks that the guest has sent. */
static bool find_blocks(
	const struct virtio_mem *v, __virtio64 addr, __virtio16 number, struct blocks *ret)
{
	const uint64_t at = le64toh(addr) - le64toh(v->config.addr), count = le16toh(number);

	/* An address before the range wraps around, and then is beyond the range's end. */
	*ret = (struct blocks){at / VIRTIO_MEM_BLOCK, at / VIRTIO_MEM_BLOCK + count};
	return at % VIRTIO_MEM_BLOCK == 0 && count > 0 && ret->first < v->blocks &&
	       count <= v->blocks - ret->first;
}

static uint16_t plug_blocks(struct virtio_mem *v, const struct blocks *b)
{
	const uint64_t has = le64toh(v->config.plugged_size);

	if (count_plugged(v->plugged, b) > 0)
		return VIRTIO_MEM_RESP_ERROR;
	if (has + (b->end - b->first) * VIRTIO_MEM_BLOCK > le64toh(v->config.requested_size))
		return VIRTIO_MEM_RESP_NACK;
	set_plugged(v, b, true);
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t unplug_blocks(struct virtio_mem *v, const struct blocks *b)
{
	if (count_plugged(v->plugged, b) < b->end - b->first)
		return VIRTIO_MEM_RESP_ERROR;
	unplug(v, b);
	return VIRTIO_MEM_RESP_ACK;
}

static uint16_t state_of(const struct virtio_mem *v, const struct blocks *b)
{
	const uint64_t n = count_plugged(v->plugged, b);

	return n == 0                   ? VIRTIO_MEM_STATE_UNPLUGGED
	       : n == b->end - b->first ? VIRTIO_MEM_STATE_PLUGGED
					: VIRTIO_MEM_STATE_MIXED;
}

static void answer(struct virtio_mem *v, const struct virtio_mem_req *q, struct virtio_mem_resp *a)
{
	uint16_t type = VIRTIO_MEM_RESP_ERROR;
	struct blocks b;

	/* All requests but UNPLUG_ALL have the same members at the same place. */
	const bool found = find_blocks(v, q->u.plug.addr, q->u.plug.nb_blocks, &b);
	switch (le16toh(q->type)) {
	case VIRTIO_MEM_REQ_PLUG:
		type = found ? plug_blocks(v, &b) : type;
		break;
	case VIRTIO_MEM_REQ_UNPLUG:
		type = found ? unplug_blocks(v, &b) : type;
		break;
	case VIRTIO_MEM_REQ_UNPLUG_ALL:
		unplug(v, &(struct blocks){0, v->blocks});
		type = VIRTIO_MEM_RESP_ACK;
		break;
	case VIRTIO_MEM_REQ_STATE:
		type = found ? VIRTIO_MEM_RESP_ACK : type;
		a->u.state.state = htole16(found ? state_of(v, &b) : 0);
		break;
	}
	a->type = htole16(type);
}

static int mem_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_mem *v = (struct virtio_mem *)d;
	struct virtq *q = &d->queues[index];

	for (; budget > 0; budget--) {
		struct virtio_mem_req request;
		struct virtio_mem_resp reply = {0};

		int r = virtq_next(q, &v->chain);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (v->chain.read_len < sizeof(request) || v->chain.write_len < ANSWER_LEN)
			return err_set(EPROTO,
				"a request with %llu bytes and room for %llu: expected %zu and "
				"%zu",
				(unsigned long long)v->chain.read_len,
				(unsigned long long)v->chain.write_len, sizeof(request),
				ANSWER_LEN);
		/* The request is copied, so that the guest cannot change it once it is checked. */
		(void)virtq_read(&v->chain, 0, &request, sizeof(request));
		answer(v, &request, &reply);
		size_t done = virtq_write(&v->chain, 0, &reply, ANSWER_LEN);
		virtq_push(q, v->chain.head, (uint32_t)done);
	}
	virtio_signal_queue(d, index);
	return budget == 0;
}

/* The state is the configuration, and which blocks are plugged if any is or has been asked for. */
static int mem_save(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct virtio_mem *v = (const struct virtio_mem *)d;

	int r = snapshot_put(w, &v->config, sizeof(v->config));
	if (r < 0 || (!v->config.plugged_size && !v->config.requested_size))
		return r;
	w->format = SNAPSHOT_FORMAT_ADDED;
	return snapshot_put(w, v->plugged, bytes_of_blocks(v));
}

/* Checks the sizes and the blocks, which have been loaded and may be hostile. */
static int check_blocks(
	const struct virtio_mem *v, const struct virtio_mem_config *saved, const uint8_t *plugged)
{
	const uint64_t requested = le64toh(saved->requested_size);
	const uint8_t rest = (uint8_t)(0xff << v->blocks % 8);
	const uint64_t n = count_plugged(plugged, &(struct blocks){0, v->blocks});

	if (requested % VIRTIO_MEM_BLOCK || requested > le64toh(v->config.region_size))
		return err_set(EBADMSG,
			"%llu bytes of memory were requested: expected a multiple of 2 MiB, up to "
			"%llu",
			(unsigned long long)requested,
			(unsigned long long)le64toh(v->config.region_size));
	if (plugged[v->blocks / 8] & rest || n * VIRTIO_MEM_BLOCK != le64toh(saved->plugged_size))
		return err_set(EBADMSG,
			"the guest has %llu blocks of memory, and %llu bytes: expected blocks of "
			"2 MiB, of which there are %llu",
			(unsigned long long)n, (unsigned long long)le64toh(saved->plugged_size),
			(unsigned long long)v->blocks);
	return 0;
}

static int load_blocks(
	struct virtio_mem *v, const struct virtio_mem_config *saved, struct snapshot_part *p)
{
	_cleanup_free_ uint8_t *plugged = malloc(bytes_of_blocks(v));

	if (!plugged)
		return err_set(ENOMEM, "out of memory for the blocks of memory");
	int r = snapshot_get(p, plugged, bytes_of_blocks(v));
	if (r >= 0)
		r = check_blocks(v, saved, plugged);
	if (r < 0)
		return r;
	memcpy(v->plugged, plugged, bytes_of_blocks(v));
	v->config.requested_size = saved->requested_size;
	v->config.plugged_size = saved->plugged_size;
	return 0;
}

static int mem_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct virtio_mem *v = (struct virtio_mem *)d;
	struct virtio_mem_config saved, same;

	int r = snapshot_get(p, &saved, sizeof(saved));
	if (r < 0)
		return r;
	same = saved;
	same.requested_size = v->config.requested_size;
	same.plugged_size = v->config.plugged_size;
	if (memcmp(&same, &v->config, sizeof(same)) != 0)
		return err_set(ENOTSUP,
			"the snapshot is of a machine with room for %llu MiB more memory: this one "
			"has room for %llu",
			(unsigned long long)le64toh(saved.region_size) >> 20,
			(unsigned long long)le64toh(v->config.region_size) >> 20);
	return saved.requested_size || saved.plugged_size ? load_blocks(v, &saved, p) : 0;
}

uint64_t virtio_mem_end(const struct virtio_mem *v)
{
	for (uint64_t i = v->blocks; i > 0; i--)
		if (is_plugged(v->plugged, i - 1))
			return i * VIRTIO_MEM_BLOCK;
	return 0;
}

static const struct virtio_ops ops = {.serve = mem_serve, .save = mem_save, .load = mem_load};

int virtio_mem_init(struct virtio_mem *v, const struct vm_memory *m)
{
	const struct vm_memory_region *g = vm_memory_hot(m);
	const uint64_t size = g ? g->size : 0;

	*v = (struct virtio_mem){.dev = {.ops = &ops,
					 .name = "mem",
					 .id = VIRTIO_ID_MEM,
					 .config = &v->config,
					 .config_len = sizeof(v->config),
					 .changes_config = true,
					 .queue_count = 1},
		.config = {.block_size = htole64(VIRTIO_MEM_BLOCK),
			.addr = htole64(g ? g->guest : 0),
			.region_size = htole64(size),
			.usable_region_size = htole64(size)},
		.host = g ? g->host : NULL,
		.blocks = size / VIRTIO_MEM_BLOCK};
	v->plugged = calloc(bytes_of_blocks(v), 1);
	if (!v->plugged)
		return err_set(ENOMEM, "out of memory for %llu blocks of memory",
			(unsigned long long)v->blocks);
	virtio_init(&v->dev, m);
	return 0;
}

void virtio_mem_release(struct virtio_mem *v)
{
	free(v->plugged);
	v->plugged = NULL;
}

void virtio_mem_request(struct virtio_mem *v, uint64_t bytes)
{
	pthread_mutex_lock(&v->dev.lock);
	const bool new = v->config.requested_size != htole64(bytes);
	v->config.requested_size = htole64(bytes);
	/* A driver that has not plugged all blocks yet has to learn too that it need not go on. */
	if (new || v->config.plugged_size != v->config.requested_size)
		virtio_config_changed(&v->dev);
	pthread_mutex_unlock(&v->dev.lock);
}

void virtio_mem_read(struct virtio_mem *v, uint64_t *ret_requested, uint64_t *ret_plugged)
{
	pthread_mutex_lock(&v->dev.lock);
	*ret_requested = le64toh(v->config.requested_size);
	*ret_plugged = le64toh(v->config.plugged_size);
	pthread_mutex_unlock(&v->dev.lock);
}
