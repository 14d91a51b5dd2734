/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes the frames of the agent protocol (agent/protocol.h). */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

#include "agent/protocol.h"
#include "base/json.h"

/* A frame of the agent protocol that was received. */
struct agent_frame {
	struct arena arena;
	struct json *json;
	const char *type;
	const uint8_t *blob;
	size_t blob_len;
	/* descriptors that came with the frame; the frame owns them until take_fd() takes them */
	int fds[AGENT_FDS_MAX];
	unsigned nfds;
};

/*
 * The bytes that were read from a stream so far and not yet taken as frames. A zeroed struct has
 * read nothing. agent_reader_receive() reads the bytes that a socket has; if the socket is blocking
 * and has no bytes, the function waits. agent_reader_next() takes whole frames out of the bytes.
 */
struct agent_reader {
	uint8_t *bytes;
	size_t len, size;
	int fds[AGENT_FDS_MAX]; /* received descriptors, which belong to the next frame */
	unsigned nfds;
};

/*
 * Reads bytes from the socket, and the descriptors that come with them. Returns 1 if it has read
 * some bytes, 0 at the end of the stream, -EAGAIN if a non-blocking socket has no bytes at the
 * moment, else -errno with a message.
 */
int agent_reader_receive(struct agent_reader *r, int sock) must_check;
/*
 * Takes the next frame out of the bytes that were read. Returns 1 if *ret is a frame, which the
 * caller releases, and 0 if the next frame is not complete yet. Returns -EPROTO if the lengths in
 * the header exceed the limits, or if the frame is not JSON or has no "type" of small letters.
 */
int agent_reader_next(struct agent_reader *r, struct agent_frame *ret) must_check;
void agent_reader_release(struct agent_reader *r);
void agent_frame_release(struct agent_frame *f);
#define _cleanup_agent_frame_ __attribute__((cleanup(agent_frame_release), unused))

/*
 * A frame that the caller writes. agent_begin() opens the JSON object and writes the member "type".
 * The caller adds members to w->json. agent_send() closes the object, sends the frame, and waits
 * until all of it is sent. In every case the caller calls agent_release() at the end.
 */
struct agent_writer {
	struct json_out json;
};

int agent_begin(struct agent_writer *w, const char *type) must_check;
int agent_send(struct agent_writer *w, int fd, const void *blob, size_t blob_len) must_check;
/*
 * Does what agent_send() does, with a blob of two parts, and also sends n descriptors over a Unix
 * socket. The caller keeps its own descriptors open.
 */
int agent_send_fds(struct agent_writer *w, int sock, const struct iovec *blob, const int *fds,
	unsigned n) must_check;
void agent_release(struct agent_writer *w);
#define _cleanup_agent_writer_ __attribute__((cleanup(agent_release), unused))

/*
 * Turns a received frame "failed" or "reply" into an error of this process: returns -errno, and
 * sets the frame's message as the error message, as one line of printable text. Returns 0 if the
 * frame's errno is 0, and -EPROTO with a message if the frame is malformed.
 */
int agent_failure(const struct agent_frame *f) must_check;

/*
 * Reads the frame's member "process", the number of a process from 0 to 2^28. Returns -EPROTO with
 * a message if the member is missing or out of range.
 */
int agent_process(const struct agent_frame *f, uint32_t *ret) must_check;
