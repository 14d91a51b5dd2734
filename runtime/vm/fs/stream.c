/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves FUSE requests that come over a stream, in place of a virtio device: the bytes are those
 * that the kernel reads from and writes to /dev/fuse. Each request and each reply begins with its
 * length, so the stream needs no frames of its own. One thread serves one request after the other.
 */
#include <stdlib.h>

#include "vm/fs/fs.h"

/* bytes of the longest request or reply: the data of a WRITE or READ, and what is before it */
#define MESSAGE_MAX (FS_MAX_WRITE + 4096U)

/* Reads `len` bytes. Returns 1, or 0 if the stream has ended before the first byte. */
static int read_whole(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)buf + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("FUSE: read a request");
		if (n == 0)
			return done == 0 ? 0 : err_set(EPROTO, "FUSE: a request ends early");
		done += (size_t)n;
	}
	return 1;
}

static int read_request(int in, void *buf, size_t *ret_len)
{
	struct fuse_in_header head;
	int r = read_whole(in, &head, sizeof(head));

	if (r <= 0)
		return r;
	if (head.len < sizeof(head) || head.len > MESSAGE_MAX)
		return err_set(EPROTO, "FUSE: a request of %u bytes", head.len);
	memcpy(buf, &head, sizeof(head));
	*ret_len = head.len;
	size_t rest = head.len - sizeof(head);
	r = rest ? read_whole(in, (char *)buf + sizeof(head), rest) : 1;
	return r == 0 ? err_set(EPROTO, "FUSE: a request ends early") : r;
}

static int serve_requests(struct fs_session *s, int in, int out, void *buffers)
{
	struct iovec request = {.iov_base = buffers};
	struct iovec reply = {(char *)buffers + MESSAGE_MAX, MESSAGE_MAX};
	int r;

	while ((r = read_request(in, request.iov_base, &request.iov_len)) > 0) {
		struct fs_request q = {
			.in = &request, .nin = 1, .out = &reply, .nout = 1, .give_up = true};
		int n = fs_handle(s, &q);
		r = n > 0 ? fd_write_all(out, reply.iov_base, (size_t)n) : 0;
		if (r < 0)
			return err_set(-r, "FUSE: write a reply: %s", err_text(-r));
	}
	return r;
}

int vmfs_serve_stream(struct vmfs_config *c, int in, int out)
{
	struct fs_session s = {0};
	void *buffers = malloc(2 * (size_t)MESSAGE_MAX);
	int r = buffers ? vmfs_raise_limits(c) : err_set(ENOMEM, "FUSE: out of memory");

	if (r == 0)
		r = fs_session_init(&s, c);
	if (r == 0)
		r = serve_requests(&s, in, out, buffers);
	fs_session_release(&s);
	free(buffers);
	return r;
}
