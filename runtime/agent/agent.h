/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the agent protocol (agent/protocol.h): reading them, writing them. */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

#include "agent/protocol.h"
#include "base/json.h"

/* A frame as received. */
struct agent_frame {
	struct arena arena;
	struct json *json;
	const char *type;
	const uint8_t *blob;
	size_t blob_len;
	int fds[AGENT_FDS_MAX]; /* owned by the frame, unless taken with take_fd() */
	unsigned nfds;
};

/*
 * The bytes of a stream that were read so far. Zeroed is empty. agent_reader_receive() reads what
 * is there (and waits only if the socket blocks), agent_reader_next() takes whole frames out.
 */
struct agent_reader {
	uint8_t *bytes;
	size_t len, size;
	int fds[AGENT_FDS_MAX]; /* descriptors that have come, for the next frame */
	unsigned nfds;
};

/*
 * Reads bytes, and the descriptors that come with them. Returns 1 if something came, 0 at the end,
 * -EAGAIN if there is nothing now, else -errno with a message.
 */
int agent_reader_receive(struct agent_reader *r, int sock) must_check;
/*
 * Returns 1 if *ret is a frame, which the caller releases; 0 if the next frame is not complete yet;
 * -EPROTO if the lengths exceed the limits, or the frame is not JSON or has no "type" of small
 * letters.
 */
int agent_reader_next(struct agent_reader *r, struct agent_frame *ret) must_check;
void agent_reader_release(struct agent_reader *r);
void agent_frame_release(struct agent_frame *f);
#define _cleanup_agent_frame_ __attribute__((cleanup(agent_frame_release), unused))

/*
 * A frame that is being written. agent_begin() opens the object and writes "type"; the caller adds
 * members to w->json; agent_send() closes the object and sends the frame, and waits until all of it
 * is sent. The caller always calls agent_release().
 */
struct agent_writer {
	struct json_out json;
};

int agent_begin(struct agent_writer *w, const char *type) must_check;
int agent_send(struct agent_writer *w, int fd, const void *blob, size_t blob_len) must_check;
/*
 * The same with a blob of two parts and n descriptors over a Unix socket; they stay the caller's.
 */
int agent_send_fds(struct agent_writer *w, int sock, const struct iovec *blob, const int *fds,
	unsigned n) must_check;
void agent_release(struct agent_writer *w);
#define _cleanup_agent_writer_ __attribute__((cleanup(agent_release), unused))

/*
 * Turns a "failed" or a "reply" into an error of ours: -errno with its message, which is made one
 * line of printable text. Returns 0 if its errno is 0, -EPROTO with a message if it is malformed.
 */
int agent_failure(const struct agent_frame *f) must_check;

/* Reads the member "process", 0 to 2^28. Returns -EPROTO with a message if it is not. */
int agent_process(const struct agent_frame *f, uint32_t *ret) must_check;
