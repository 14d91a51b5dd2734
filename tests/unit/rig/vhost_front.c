/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vhost_front.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "unit/rig/child.h"

void front_send_raw(struct front *f, const void *data, size_t len, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(16 * sizeof(int))];
	} control = {0};
	struct iovec v = {(void *)data, len};
	struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};

	if (n) {
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	/*
	 * The function ignores an error of sendmsg(), because the server may have ended the
	 * connection already. The tests check the server's exit code instead.
	 */
	(void)!sendmsg(f->sock, &h, MSG_NOSIGNAL);
}

void front_send(struct front *f, struct front_message *m, const int *fds, size_t n)
{
	m->flags |= 1;
	front_send_raw(f, m, 12 + m->size, fds, n);
}

uint64_t front_ask(struct front *f, uint32_t request, uint32_t index)
{
	struct front_message m = {
		.request = request, .size = request == 11 ? 8 : 0, .p.u32 = {index}};

	front_send(f, &m, NULL, 0);
	if (recv(f->sock, &m, sizeof(m), 0) < 20 || m.request != request || m.flags != 5)
		return UINT64_MAX;
	return m.p.u64[0];
}

void front_set(struct front *f, uint32_t request, uint64_t value)
{
	struct front_message m = {.request = request, .size = 8, .p.u64 = {value}};

	front_send(f, &m, NULL, 0);
}

void front_set_vring(struct front *f, uint32_t request, uint32_t index, uint32_t num)
{
	front_set(f, request, (uint64_t)num << 32 | index);
}

void front_set_fd(struct front *f, uint32_t request, uint64_t value, int fd)
{
	struct front_message m = {.request = request, .size = 8, .p.u64 = {value}};

	front_send(f, &m, &fd, fd >= 0);
}

void front_set_memory(
	struct front *f, uint64_t guest, uint64_t size, uint64_t user, uint64_t offset)
{
	struct front_message m = {
		.request = 5, .size = 40, .p.u64 = {1, guest, size, user, offset}};

	front_send(f, &m, &f->memory, 1);
}

void front_set_addr(struct front *f, uint32_t index, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct front_message m = {.request = 9, .size = 40, .p.u64 = {index, desc, used, avail, 0}};

	front_send(f, &m, NULL, 0);
}

int front_open(struct front *f)
{
	int s[2];

	*f = (struct front){.kick = eventfd(0, EFD_CLOEXEC), .call = eventfd(0, EFD_CLOEXEC)};
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0);
	f->memory = memfd_create("guest", MFD_CLOEXEC);
	CHECK(f->memory >= 0 && ftruncate(f->memory, MEMORY) == 0);
	f->ram = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory, 0);
	CHECK(f->ram != MAP_FAILED);
	f->sock = s[0];
	return s[1];
}

void front_close(struct front *f)
{
	close(f->sock);
	close(f->kick);
	close(f->call);
	close(f->memory);
	munmap(f->ram, MEMORY);
}

void front_start_queue(struct front *f)
{
	front_set(f, 2, UINT64_C(1) << 32 | 1U << 30 | 1U << 28);
	front_set_memory(f, GUEST, MEMORY, USER, 0);
	front_set_vring(f, 8, 1, QUEUE);
	front_set_vring(f, 10, 1, 0);
	front_set_addr(f, 1, USER, USER + AVAIL, USER + USED);
	front_set_fd(f, 13, 1, f->call);
	front_set_fd(f, 12, 1, f->kick);
	front_set_vring(f, 18, 1, 1);
}

void front_desc(
	struct front *f, unsigned int i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	((struct vring_desc *)f->ram)[i] = (struct vring_desc){addr, len, flags, next};
}

void front_put(struct front *f, uint16_t head)
{
	struct vring_avail *a = (void *)(f->ram + AVAIL);

	a->ring[f->avail % QUEUE] = head;
	/* with EVENT_IDX: asks for an interrupt for the next answer */
	__atomic_store_n(&a->ring[QUEUE], f->avail, __ATOMIC_SEQ_CST);
	f->avail++;
	__atomic_store_n(&a->idx, f->avail, __ATOMIC_SEQ_CST);
}

void front_kick(struct front *f, uint16_t head)
{
	uint64_t one = 1;

	front_put(f, head);
	CHECK(write(f->kick, &one, 8) == 8);
}

int front_wait(struct front *f)
{
	struct vring_used *u = (void *)(f->ram + USED);
	struct pollfd p[2] = {{.fd = f->call, .events = POLLIN}, {.fd = f->sock, .events = POLLIN}};
	uint64_t n;

	while (__atomic_load_n(&u->idx, __ATOMIC_SEQ_CST) != f->avail) {
		CHECK(poll(p, 2, 20000) > 0);
		if (p[1].revents)
			return -1;
		CHECK(read(f->call, &n, 8) == 8);
	}
	return (int)u->ring[(uint16_t)(f->avail - 1) % QUEUE].len;
}
