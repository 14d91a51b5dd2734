/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves the device's own state to the front end, which puts it into a snapshot, or from there. The
 * state is a file in the format of snapshots (vm/snapshot/format.h) with one section.
 */
#include <inttypes.h>
#include <sys/stat.h>

#include "vm/vhost/back_requests.h"

int vhost_state_begin(struct vhost_backend *b, struct vhost_message *m)
{
	const struct vhost_user_transfer t = m->p.transfer;
	struct stat st;

	if (t.direction > VHOST_USER_LOAD || t.phase != 0 || m->fd_count != 1)
		return err_set(EPROTO,
			"vhost-user: SET_DEVICE_STATE_FD with direction %" PRIu32 ", phase %" PRIu32
			" and %u descriptors: expected 0 or 1, 0, and one",
			t.direction, t.phase, m->fd_count);
	for (unsigned i = 0; i < b->device->queue_count; i++)
		if (b->queues[i].started)
			return err_set(EPROTO,
				"vhost-user: SET_DEVICE_STATE_FD while queue %u runs: expected "
				"stopped queues",
				i);
	if (fstat(m->fds[0], &st) < 0 || !S_ISFIFO(st.st_mode))
		return err_set(EPROTO, "vhost-user: the descriptor for the device's state: "
				       "expected a pipe");
	b->state_fd = take_fd(&m->fds[0]);
	b->state_loads = t.direction == VHOST_USER_LOAD;
	b->state_failed = false;
	m->p.u64 = VHOST_USER_STATE_NO_FD;
	return 0;
}

static int save_state(struct virtio_device *d, int fd)
{
	struct snapshot_writer w;

	int r = snapshot_begin(&w);
	if (r >= 0)
		r = snapshot_section(&w, SNAPSHOT_DEVICE, 0);
	if (r >= 0)
		r = d->ops->save(d, &w);
	if (r >= 0)
		r = snapshot_finish(&w);
	if (r >= 0)
		r = fd_write_all(fd, w.bytes.s, w.bytes.len);
	snapshot_release(&w);
	return r;
}

static int load_state(struct virtio_device *d, int fd)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct snapshot_part p;
	struct snapshot s;

	int r = fd_read_all(fd, &bytes, SNAPSHOT_MAX, "the device's state");
	if (r >= 0)
		r = snapshot_open(&s, bytes.s, bytes.len);
	if (r >= 0)
		r = snapshot_find(&s, SNAPSHOT_DEVICE, 0, &p);
	if (r >= 0)
		r = d->ops->load(d, &p);
	return r < 0 ? r : snapshot_end(&p);
}

void vhost_state_move(struct vhost_backend *b)
{
	struct virtio_device *d = b->device;

	if (b->state_fd < 0)
		return;
	pthread_mutex_lock(&d->lock);
	int r = b->state_loads ? load_state(d, b->state_fd) : save_state(d, b->state_fd);
	pthread_mutex_unlock(&d->lock);
	b->state_failed = r < 0;
	/*
	 * Prints the reason of the failure, because CHECK_DEVICE_STATE tells the front end only
	 * that the transfer of the state has failed.
	 */
	if (r < 0)
		fd_say(STDERR_FILENO, "vhost-user", err_msg());
	fd_close(&b->state_fd);
}
