/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that each kind of thread may make, with the code that makes them. The kernel
 * kills the process at a call that is not listed, and its log tells which call it was ("audit:
 * type=1326 ... syscall=NUMBER").
 *
 * The filters are compiled while there is one thread, because the other threads have small stacks
 * and no heap of their own; they only load the filters. A build with sanitizers has no filters,
 * because the calls of the sanitizers' runtimes differ with each compiler.
 */
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "jail/jail.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define FILTER_MAX (64u << 10)

struct call {
	int number;
	unsigned threads; /* bits 1 << enum jail_thread */
};

#define L (1u << JAIL_LOOP)
#define D (1u << JAIL_DEVICES)
#define V (1u << JAIL_VCPU)

static const struct call calls[] = {
	/* monitor.c: the event loop; agent.c: a peer that is slow to read. vm/run.c,
	 * vhost/back.c, vsock_stream.c; vhost/front.c waits for the server's answers, in the vCPU
	 * that wrote the device's status */
	{SCMP_SYS(poll), L | D | V},
	{SCMP_SYS(ppoll), L | D | V},
	/* monitor.c: signals, the guest's console, the agent's messages; guest.c: the container's
	 * compiled filter, for the guest. Kicks (eventfds); virtio_net.c drops stale frames at a
	 * reset */
	{SCMP_SYS(read), L | D | V},
	/* eventfds: interrupts, kicks, streams.changed, the machine's end; the log */
	{SCMP_SYS(write), L | D | V},
	/* control.c, monitor.c: `start` and other commands */
	{SCMP_SYS(accept4), L},
	/* agent.c, channel.c: messages, with descriptors from commands. vhost/front.c and
	 * vhost/back_messages.c: the same to the file server, or from QEMU. vsock_stream.c: sockets
	 * as standard streams, also in the vCPU that resets the device, because what the guest has
	 * written is sent first */
	{SCMP_SYS(recvmsg), L | D | V},
	{SCMP_SYS(sendmsg), L | D | V},
	{SCMP_SYS(recvfrom), D | V},
	{SCMP_SYS(sendto), D | V},
	{SCMP_SYS(shutdown), L | D | V},
	/* streams.c: whether an exec's standard output and error are the same */
	{SCMP_SYS(kcmp), L},
	/* streams.c: the agent has connected */
	{SCMP_SYS(socketpair), D},
	/* agent.c; vsock_stream.c: pipes, terminals, files as standard streams; virtio_net.c: a
	 * frame a call; console.c */
	{SCMP_SYS(writev), L | D | V},
	{SCMP_SYS(readv), D},
	{SCMP_SYS(preadv2), D},
	{SCMP_SYS(pwritev2), D | V},
	/* vsock.c, vsock_stream.c, virtio_net.c */
	{SCMP_SYS(epoll_wait), D},
	{SCMP_SYS(epoll_pwait), D},
	{SCMP_SYS(epoll_ctl), L | D | V},
	/* vhost/front.c: a new connection in the place of the old one */
	{SCMP_SYS(dup3), D},
	/*
	 * vsock_stream.c: the kind of a stream's descriptor. vhost/back_requests.c, memory.c:
	 * QEMU's
	 */
	{SCMP_SYS(fstat), D},
	{SCMP_SYS(newfstatat), D},
	/* blk.c: reads, writes, flushes, discards */
	{SCMP_SYS(pread64), D},
	{SCMP_SYS(pwrite64), D},
	{SCMP_SYS(preadv), D},
	{SCMP_SYS(pwritev), D},
	{SCMP_SYS(fdatasync), D},
	{SCMP_SYS(fallocate), D},
	/* rng.c; the heap of newer C libraries */
	{SCMP_SYS(getrandom), L | D | V},
	/* All code that has descriptors: streams that end, a server that is lost, the end */
	{SCMP_SYS(close), L | D | V},
	/* The heap and stacks, memory.c: QEMU's guest memory, the balloon's pages. mmap(2) and
	 * mprotect(2) are below */
	{SCMP_SYS(brk), L | D | V},
	{SCMP_SYS(munmap), L | D | V},
	{SCMP_SYS(mremap), L | D | V},
	{SCMP_SYS(madvise), L | D | V},
	/* Locks, pthread_join(), and their time-outs */
	{SCMP_SYS(futex), L | D | V},
	{SCMP_SYS(clock_gettime), L | D | V},
	{SCMP_SYS(restart_syscall), L | D | V},
	/*
	 * vcpu.c: the kick's handler; impersonate.c: the signal that the program ended by; abort()
	 */
	{SCMP_SYS(rt_sigreturn), L | D | V},
	{SCMP_SYS(rt_sigprocmask), L | D | V},
	{SCMP_SYS(rt_sigaction), L},
	{SCMP_SYS(getpid), L | D | V},
	{SCMP_SYS(gettid), L | D | V},
	/* engine/qemu.c, share.c: children that have ended; kill(2) is below */
	{SCMP_SYS(wait4), L},
	/* The end, of a thread and of the process */
	{SCMP_SYS(rseq), D | V},
	{SCMP_SYS(set_robust_list), D | V},
	{SCMP_SYS(exit), L | D | V},
	{SCMP_SYS(exit_group), L | D | V},
};

/* A call with a condition on one argument. If a call is listed twice, either condition will do. */
struct narrow_call {
	int number;
	unsigned threads;
	struct scmp_arg_cmp arg;
};

static const struct narrow_call narrow_calls[] = {
	/* Memory is never executable. */
	{SCMP_SYS(mmap), L | D | V, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{SCMP_SYS(mprotect), L | D | V, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	/* vcpu.c; regs.c: the registers of a vCPU that can't go on */
	{SCMP_SYS(ioctl), V, SCMP_A1(SCMP_CMP_EQ, KVM_RUN)},
	{SCMP_SYS(ioctl), V, SCMP_A1(SCMP_CMP_EQ, KVM_GET_REGS)},
	{SCMP_SYS(ioctl), V, SCMP_A1(SCMP_CMP_EQ, KVM_GET_SREGS)},
	{SCMP_SYS(ioctl), V, SCMP_A1(SCMP_CMP_EQ, KVM_TRANSLATE)},
	/* virtio_net.c: the offloads that the driver has accepted, or none after a reset */
	{SCMP_SYS(ioctl), L | D | V, SCMP_A1(SCMP_CMP_EQ, TUNSETOFFLOAD)},
	/* vsock_stream.c: isatty() */
	{SCMP_SYS(ioctl), D, SCMP_A1(SCMP_CMP_EQ, TCGETS)},
	/* monitor.c: the size of our terminal */
	{SCMP_SYS(ioctl), L, SCMP_A1(SCMP_CMP_EQ, TIOCGWINSZ)},
	/* vsock_stream.c: a stream's access mode; vhost/back_requests.c: a kick must not block */
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_GETFL)},
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_SETFL)},
	/* impersonate.c, at the end: no core dump */
	{SCMP_SYS(prctl), L, SCMP_A0(SCMP_CMP_EQ, PR_SET_DUMPABLE)},
};

static int add_calls(scmp_filter_ctx ctx, enum jail_thread kind)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(calls); i++)
		if (calls[i].threads & 1u << kind)
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].number, 0);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(narrow_calls); i++)
		if (narrow_calls[i].threads & 1u << kind)
			r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, narrow_calls[i].number, 1,
				&narrow_calls[i].arg);
	return r;
}

/* Calls whose arguments are known only at run time, or that fail instead of killing the process. */
static int add_own_calls(
	scmp_filter_ctx ctx, enum jail_thread kind, const pid_t *killable, size_t n)
{
	/* pthread_kill(): vcpu.c's kick. abort(). */
	int r = seccomp_rule_add(
		ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));

	/* vsock_stream.c tries to open a stream once more for itself, and can do without. */
	if (r == 0 && kind == JAIL_DEVICES)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), 0);
	if (kind != JAIL_LOOP)
		return r;
	/* impersonate.c: this process itself. engine/qemu.c, share.c: its children. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
			SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (killable[i] > 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
				SCMP_A0(SCMP_CMP_EQ, (uint64_t)killable[i]));
	/* impersonate.c: no core dump; for this process only. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
			SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_CORE));
	return r;
}

/* The filter goes through a file, because libseccomp before 2.6 has no other way. */
static int export_filter(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
	_cleanup_fd_ int fd = memfd_create("filter", MFD_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	int r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || st.st_size > FILTER_MAX ||
		st.st_size % (off_t)sizeof(struct sock_filter))
		return -EINVAL;
	ret->filter = malloc((size_t)st.st_size);
	if (!ret->filter)
		return -ENOMEM;
	ret->len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
	return pread(fd, ret->filter, (size_t)st.st_size, 0) == st.st_size ? 0 : -EIO;
}

static int compile_filter(struct jail *j, enum jail_thread kind, const pid_t *killable, size_t n)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	if (r == 0)
		r = add_calls(ctx, kind);
	if (r == 0)
		r = add_own_calls(ctx, kind, killable, n);
	if (r == 0)
		r = export_filter(ctx, &j->filters[kind]);
	seccomp_release(ctx);
	return r;
}

int jail_compile(struct jail *j, const pid_t *killable, size_t n)
{
	*j = (struct jail){0};
	for (int kind = 0; !SANITIZED && kind < JAIL_THREADS; kind++) {
		int r = compile_filter(j, (enum jail_thread)kind, killable, n);
		if (r < 0) {
			jail_release(j);
			return err_set(-r, "compile a system call filter: %s", strerror(-r));
		}
	}
	return 0;
}

int jail_enter_thread(const struct jail *j, enum jail_thread kind)
{
	const struct sock_fprog *p = &j->filters[kind];

	if (!p->filter)
		return 0;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, p) < 0
		       ? err_sys("load the system call filter")
		       : 0;
}
