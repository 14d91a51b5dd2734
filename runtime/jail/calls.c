/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists the system calls that each kind of thread of the monitor may make, and the files that make
 * them. If a thread makes a call that is not listed, the kernel kills the process, and the kernel's
 * log tells which call it was ("audit: type=1326 ... syscall=NUMBER").
 *
 * The filters are compiled while there is only one thread, because the other threads have small
 * stacks and no heap of their own. Those only load the filters.
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

#define FILTER_MAX (64u << 10)

struct call {
	int number;
	unsigned threads; /* which kinds of threads may make the call: bits 1 << enum jail_thread */
};

#define L (1u << JAIL_LOOP)
#define D (1u << JAIL_DEVICES)
#define V (1u << JAIL_VCPU)

static const struct call calls[] = {
	/*
	 * poll(2) is used by the event loop in monitor.c; by agent.c for peers that are slow to
	 * read; by vm/run.c, vhost/back.c and vsock_stream.c; and by vhost/front.c, which waits for
	 * the server's answers in the vCPU that wrote the device's status.
	 */
	{SCMP_SYS(poll), L | D | V},
	{SCMP_SYS(ppoll), L | D | V},
	/*
	 * read(2) is used by monitor.c for signals, the guest's console and the agent's messages;
	 * by guest.c for the compiled system call filter of the container; by device code for kicks
	 * (eventfds); and by virtio_net.c to drop stale frames at a reset.
	 */
	{SCMP_SYS(read), L | D | V},
	/*
	 * write(2) signals eventfds (interrupts, kicks, streams.changed, the machine's end) and
	 * writes the log.
	 */
	{SCMP_SYS(write), L | D | V},
	/* control.c and monitor.c accept connections of `start` and other commands. */
	{SCMP_SYS(accept4), L},
	/*
	 * agent.c and channel.c use these for messages, which carry descriptors if they come from
	 * commands. vhost/front.c and vhost/back_messages.c use them for messages to the file
	 * server or from QEMU. vsock_stream.c uses them for sockets as standard streams, even in
	 * the vCPU that resets the device, because the guest's output is sent before the reset.
	 */
	{SCMP_SYS(recvmsg), L | D | V},
	{SCMP_SYS(sendmsg), L | D | V},
	{SCMP_SYS(recvfrom), D | V},
	{SCMP_SYS(sendto), D | V},
	{SCMP_SYS(shutdown), L | D | V},
	/* streams.c finds out whether an exec's standard output and error are the same file. */
	{SCMP_SYS(kcmp), L},
	/* streams.c makes the agent's stream when the agent has connected. */
	{SCMP_SYS(socketpair), D},
	/*
	 * writev(2) is used by agent.c; by vsock_stream.c for pipes, terminals and files as
	 * standard streams; by virtio_net.c to write one frame with each call; and by console.c.
	 */
	{SCMP_SYS(writev), L | D | V},
	{SCMP_SYS(readv), D},
	{SCMP_SYS(preadv2), D},
	{SCMP_SYS(pwritev2), D | V},
	/* vsock.c, vsock_stream.c and virtio_net.c have event loops of their own. */
	{SCMP_SYS(epoll_wait), D},
	{SCMP_SYS(epoll_pwait), D},
	{SCMP_SYS(epoll_ctl), L | D | V},
	/* vhost/front.c replaces a lost connection by a new one under the same number. */
	{SCMP_SYS(dup3), D},
	/*
	 * vsock_stream.c finds out the kind of a stream's descriptor. vhost/back_requests.c and
	 * memory.c check descriptors that QEMU has sent.
	 */
	{SCMP_SYS(fstat), D},
	{SCMP_SYS(newfstatat), D},
	/* blk_file.c reads, writes, flushes and discards. */
	{SCMP_SYS(pread64), D},
	{SCMP_SYS(pwrite64), D},
	{SCMP_SYS(preadv), D},
	{SCMP_SYS(pwritev), D},
	{SCMP_SYS(fdatasync), D},
	{SCMP_SYS(fallocate), D},
	/* rng.c and the heap of newer C libraries need random numbers. */
	{SCMP_SYS(getrandom), L | D | V},
	/*
	 * Descriptors are closed in many places, for example when a stream ends, a server is lost,
	 * or the machine ends.
	 */
	{SCMP_SYS(close), L | D | V},
	/*
	 * These manage the heap and stacks, map the guest memory that QEMU has made (memory.c), and
	 * free the balloon's pages. mmap(2) and mprotect(2) have a condition and are listed below.
	 */
	{SCMP_SYS(brk), L | D | V},
	{SCMP_SYS(munmap), L | D | V},
	{SCMP_SYS(mremap), L | D | V},
	{SCMP_SYS(madvise), L | D | V},
	/* Locks, pthread_join() and their timeouts use futexes. */
	{SCMP_SYS(futex), L | D | V},
	{SCMP_SYS(clock_gettime), L | D | V},
	{SCMP_SYS(restart_syscall), L | D | V},
	/*
	 * vcpu.c returns from the handler of the kick signal. impersonate.c ends the process by the
	 * signal that ended the program. abort() uses these calls too.
	 */
	{SCMP_SYS(rt_sigreturn), L | D | V},
	{SCMP_SYS(rt_sigprocmask), L | D | V},
	{SCMP_SYS(rt_sigaction), L},
	{SCMP_SYS(getpid), L | D | V},
	{SCMP_SYS(gettid), L | D | V},
	/*
	 * engine/qemu.c and share.c reap child processes. kill(2) has a condition and is listed
	 * below.
	 */
	{SCMP_SYS(wait4), L},
	/* Threads make these calls when they start and end, and the process when it ends. */
	{SCMP_SYS(rseq), D | V},
	{SCMP_SYS(set_robust_list), D | V},
	{SCMP_SYS(exit), L | D | V},
	{SCMP_SYS(exit_group), L | D | V},
};

/*
 * A call that is allowed if a condition on one argument is true. If a call is listed several times,
 * one true condition is enough.
 */
struct narrow_call {
	int number;
	unsigned threads;
	struct scmp_arg_cmp arg;
};

/*
 * Compares the low 32 bits of the argument, because the kernel takes an ioctl's number from them.
 * musl fills the upper bits with the sign, which is set in a number such as KVM_GET_REGS.
 */
#define IOCTL(number) SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, number)

static const struct narrow_call narrow_calls[] = {
	/*
	 * mmap(2) and mprotect(2) are allowed only without PROT_EXEC, so that no memory becomes
	 * executable.
	 */
	{SCMP_SYS(mmap), L | D | V, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{SCMP_SYS(mprotect), L | D | V, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	/* vcpu.c runs a vCPU, and regs.c reads the registers of a vCPU that cannot go on. */
	{SCMP_SYS(ioctl), V, IOCTL(KVM_RUN)},
	{SCMP_SYS(ioctl), V, IOCTL(KVM_GET_REGS)},
	{SCMP_SYS(ioctl), V, IOCTL(KVM_GET_SREGS)},
	{SCMP_SYS(ioctl), V, IOCTL(KVM_TRANSLATE)},
	/* virtio_net.c sets the offloads that the driver has accepted, or none after a reset. */
	{SCMP_SYS(ioctl), L | D | V, IOCTL(TUNSETOFFLOAD)},
	/* isatty() of glibc and of musl, which vsock_stream.c calls, makes these ioctls. */
	{SCMP_SYS(ioctl), D, IOCTL(TCGETS)},
	{SCMP_SYS(ioctl), D, IOCTL(TIOCGWINSZ)},
	/* monitor.c reads the size of the monitor's terminal. */
	{SCMP_SYS(ioctl), L, IOCTL(TIOCGWINSZ)},
	/*
	 * vsock_stream.c reads a stream's access mode, and vhost/back_requests.c makes kicks
	 * non-blocking.
	 */
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_GETFL)},
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_SETFL)},
	/* impersonate.c forbids a core dump before the process ends. */
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

/*
 * Adds calls whose arguments are known only at run time, and calls that fail instead of killing the
 * process.
 */
static int add_own_calls(
	scmp_filter_ctx ctx, enum jail_thread kind, const pid_t *killable, size_t n)
{
	/* tgkill(2) is for vcpu.c, which kicks a vCPU by it, and for glibc's abort(). */
	int r = seccomp_rule_add(
		ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));

	/*
	 * openat(2) and open(2) fail instead of killing the process, because vsock_stream.c tries
	 * to open a stream a second time for itself, and goes on if that fails.
	 */
	if (r == 0 && kind == JAIL_DEVICES)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), 0);
	if (r == 0 && kind == JAIL_DEVICES)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(open), 0);
	if (kind != JAIL_LOOP)
		return r;
	/*
	 * kill(2) is allowed for this process itself, which may end by a signal (impersonate.c),
	 * and for its children (engine/qemu.c, share.c).
	 */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
			SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (killable[i] > 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
				SCMP_A0(SCMP_CMP_EQ, (uint64_t)killable[i]));
	/* prlimit(2) is for impersonate.c, which forbids a core dump of this process. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
			SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_CORE));
	return r;
}

/* Exports the filter through a file, because libseccomp before 2.6 has no other way. */
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
	for (int kind = 0; JAIL_HAS_FILTERS && kind < JAIL_THREADS; kind++) {
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
