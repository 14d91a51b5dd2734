/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves a back end's state through a pipe, as vhost-user defines it: SET_DEVICE_STATE_FD gives the
 * back end one end of the pipe. The state ends where the pipe ends. CHECK_DEVICE_STATE then says
 * whether all went well.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>

#include "base/clock.h"
#include "base/fd.h"
#include "vm/vhost/front_messages.h"

#define READ_SIZE 65536
#define BIT(n) (UINT64_C(1) << (n))

/*
 * Sends the back end SET_DEVICE_STATE_FD with the descriptor `theirs`. Sets *ret_fd to a descriptor
 * that the back end sends because it wants to use that one instead, or to -EBADF.
 */
static int set_state_fd(const struct vhost_user *v, uint32_t direction, int theirs, int *ret_fd)
{
	struct vhost_front_message m = {
		.h = {VHOST_USER_SET_DEVICE_STATE_FD, VHOST_USER_VERSION, sizeof(m.p.transfer)},
		.p.transfer = {.direction = direction}};

	*ret_fd = -EBADF;
	int r = vhost_front_send(v, &m, &theirs, 1);
	if (r >= 0)
		r = vhost_front_receive(v, &m, sizeof(m.p.u64), ret_fd);
	if (r < 0)
		return r;
	if (m.p.u64 & VHOST_USER_STATE_ERROR)
		return err_set(EPROTO, "it refuses SET_DEVICE_STATE_FD");
	if (!(m.p.u64 & VHOST_USER_STATE_NO_FD) != (*ret_fd >= 0))
		return err_set(EPROTO,
			"the answer to SET_DEVICE_STATE_FD, 0x%" PRIx64
			", does not fit its descriptor",
			m.p.u64);
	return 0;
}

static int check_state(const struct vhost_user *v)
{
	uint64_t failed = 0;
	int r = vhost_front_ask_u64(v, VHOST_USER_CHECK_DEVICE_STATE, &failed);

	if (r >= 0 && failed)
		r = err_set(EIO, "it could not save or load its state (its log says why)");
	return r;
}

static int wait_for_pipe(const struct vhost_user *v, int fd, short events)
{
	struct pollfd p = {fd, events, 0};
	int64_t left = v->deadline - clock_ms();
	int n = left > 0 ? poll(&p, 1, (int)left) : 0;

	if (n > 0 || (n < 0 && errno == EINTR))
		return 0;
	return n < 0 ? err_sys("wait for the back end's state")
		     : err_set(ETIMEDOUT, "it did not move its state within %u ms", v->timeout_ms);
}

static int read_state(const struct vhost_user *v, int fd, struct strbuf *ret)
{
	for (;;) {
		int r = wait_for_pipe(v, fd, POLLIN);

		if (r >= 0)
			r = strbuf_reserve(ret, READ_SIZE);
		if (r < 0)
			return r;
		ssize_t n = read(fd, ret->s + ret->len, READ_SIZE);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_sys("read the back end's state");
		ret->len += n > 0 ? (size_t)n : 0;
		if (ret->len > SNAPSHOT_MAX)
			return err_set(EFBIG, "its state has more than %u bytes", SNAPSHOT_MAX);
	}
}

static int write_state(const struct vhost_user *v, int fd, const uint8_t *state, size_t len)
{
	while (len > 0) {
		int r = wait_for_pipe(v, fd, POLLOUT);

		if (r < 0)
			return r;
		ssize_t n = write(fd, state, len);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_sys("write the back end's state");
		state += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int vhost_front_read_state(const struct vhost_user *v, struct strbuf *ret)
{
	int ends[2], other;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe for the back end's state");
	_cleanup_fd_ int ours = ends[0], theirs = ends[1];
	int r = set_state_fd(v, VHOST_USER_SAVE, theirs, &other);
	_cleanup_fd_ int given = other;
	/*
	 * Closes this process's writing end, because read_state() finds the end of the state only
	 * when no process has the writing end open.
	 */
	fd_close(&theirs);
	if (r >= 0)
		r = read_state(v, given >= 0 ? given : ours, ret);
	return r < 0 ? r : check_state(v);
}

int vhost_front_write_state(const struct vhost_user *v, const void *state, size_t len)
{
	int ends[2], other;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe for the back end's state");
	_cleanup_fd_ int theirs = ends[0], ours = ends[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return err_sys("make a pipe for the back end's state");
	int r = set_state_fd(v, VHOST_USER_LOAD, theirs, &other);
	_cleanup_fd_ int given = other;
	fd_close(&theirs);
	if (r >= 0)
		r = write_state(v, given >= 0 ? given : ours, state, len);
	fd_close(&ours);
	fd_close(&given);
	return r < 0 ? r : check_state(v);
}

static int check_state_support(const struct vhost_user *v)
{
	if (v->failed || v->gone)
		return err_set(EPIPE, "%s: %s", v->peer, v->failed ? v->why : "it has hung up");
	if (!(v->protocol & BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE)))
		return err_set(ENOTSUP,
			"%s cannot save its state: it does not offer the vhost-user protocol "
			"feature DEVICE_STATE (bit %d)",
			v->peer, VHOST_USER_PROTOCOL_F_DEVICE_STATE);
	return 0;
}

int vhost_front_save(struct virtio_device *d, struct snapshot_writer *w)
{
	struct vhost_user *v = (struct vhost_user *)d;
	_cleanup_strbuf_ struct strbuf state = {0};

	int r = check_state_support(v);
	if (r < 0)
		return r;
	vhost_front_begin(v);
	r = vhost_front_read_state(v, &state);
	if (r < 0)
		return err_ctx(r, "%s", v->peer);
	r = snapshot_put(w, v->config, sizeof(v->config));
	return r < 0 ? r : snapshot_put(w, state.s, state.len);
}

int vhost_front_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct vhost_user *v = (struct vhost_user *)d;
	uint8_t config[sizeof(v->config)];

	int r = check_state_support(v);
	if (r >= 0)
		r = snapshot_get(p, config, sizeof(config));
	if (r < 0)
		return r;
	if (memcmp(config, v->config, sizeof(config)) != 0)
		return err_set(ENOTSUP,
			"%s has another configuration than when the snapshot was made, so it may "
			"have another disk",
			v->peer);
	vhost_front_begin(v);
	r = vhost_front_write_state(v, p->at, p->left);
	if (r < 0)
		return err_ctx(r, "%s", v->peer);
	*p = (struct snapshot_part){.at = p->at + p->left, .name = p->name};
	v->loaded = true;
	return 0;
}
