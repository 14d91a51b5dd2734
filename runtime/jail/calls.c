/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists the system calls that each kind of thread of the monitor may make, and the files that make
 * them. If a thread makes a call that is not listed, the kernel kills the process, and the kernel's
 * log tells which call it was ("audit: type=1326 ... syscall=NUMBER").
 *
 * The first thread compiles the filters while it is the only one, because the other threads have
 * small stacks and no heap of their own. The other threads only load the filters.
 */
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
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
	 * write(2) is used to signal eventfds (interrupts, kicks, streams.changed, the machine's
	 * end) and to write the log.
	 */
	{SCMP_SYS(write), L | D | V},
	/*
	 * accept4(2) is used by control.c and monitor.c for connections of `start` and other
	 * commands.
	 */
	{SCMP_SYS(accept4), L},
	/*
	 * recvmsg(2) and sendmsg(2) are used by agent.c and channel.c for messages, which carry
	 * descriptors if they come from commands, and by vhost/front.c and vhost/back_messages.c
	 * for messages to the file server or from QEMU. vsock_stream.c uses the socket calls for
	 * sockets as standard streams, even in the vCPU that resets the device, because the guest's
	 * output is sent before the reset.
	 */
	{SCMP_SYS(recvmsg), L | D | V},
	{SCMP_SYS(sendmsg), L | D | V},
	{SCMP_SYS(recvfrom), D | V},
	{SCMP_SYS(sendto), D | V},
	{SCMP_SYS(shutdown), L | D | V},
	/*
	 * kcmp(2) is used by streams.c to find out whether an exec's standard output and standard
	 * error are the same file.
	 */
	{SCMP_SYS(kcmp), L},
	/*
	 * socketpair(2) is used by streams.c to make the agent's stream when the agent has
	 * connected.
	 */
	{SCMP_SYS(socketpair), D},
	/*
	 * writev(2) is used by agent.c; by vsock_stream.c for pipes, terminals and files as
	 * standard streams; by virtio_net.c to write one frame with each call; and by console.c.
	 */
	{SCMP_SYS(writev), L | D | V},
	{SCMP_SYS(readv), D},
	{SCMP_SYS(preadv2), D},
	{SCMP_SYS(pwritev2), D | V},
	/*
	 * The epoll calls are used by vsock.c, vsock_stream.c and virtio_net.c, which have event
	 * loops of their own.
	 */
	{SCMP_SYS(epoll_wait), D},
	{SCMP_SYS(epoll_pwait), D},
	{SCMP_SYS(epoll_ctl), L | D | V},
	/*
	 * dup3(2) is used by vhost/front.c to replace a lost connection by a new one with the same
	 * descriptor number.
	 */
	{SCMP_SYS(dup3), D},
	/*
	 * fstat(2) is used by vsock_stream.c to find out what kind of file a stream's descriptor
	 * is, by vhost/back_requests.c and memory.c to check descriptors that QEMU has sent, and by
	 * qemu_hotplug.c for the size of a disk that QEMU gets.
	 */
	{SCMP_SYS(fstat), L | D},
	{SCMP_SYS(newfstatat), L | D},
	/*
	 * blk_file.c uses these calls to read, write, flush and discard blocks of a disk image.
	 * vm/prefetch.c uses pread64(2) to read the monitor's own pagemap.
	 */
	{SCMP_SYS(pread64), L | D},
	{SCMP_SYS(pwrite64), D},
	{SCMP_SYS(preadv), D},
	{SCMP_SYS(pwritev), D},
	{SCMP_SYS(fdatasync), D},
	{SCMP_SYS(fallocate), D},
	/*
	 * snapshot/memory.c uses these calls to find the parts of the guest's memory that hold
	 * data, and to set the length of the file into which it writes them. disk_error.c empties
	 * the file disk-error.
	 */
	{SCMP_SYS(lseek), D},
	{SCMP_SYS(ftruncate), L | D},
	/*
	 * pipe2(2) is used by vhost/front_state.c to get the state of a vhost-user server through a
	 * pipe, for a snapshot.
	 */
	{SCMP_SYS(pipe2), D},
	/*
	 * vm/hotplug.c and virtio_net.c use eventfd2(2) and epoll_create1(2) to make the
	 * descriptors of a device that is attached to the running machine.
	 */
	{SCMP_SYS(eventfd2), D},
	{SCMP_SYS(epoll_create1), D},
	/*
	 * memory.c uses memfd_create(2), ftruncate(2) and a seal for the shadow (vhost/shadow.c) of
	 * a disk that is attached to a running machine from a template.
	 */
	{SCMP_SYS(memfd_create), D},
	/* getrandom(2) is used by rng.c and by the heap of newer C libraries. */
	{SCMP_SYS(getrandom), L | D | V},
	/*
	 * close(2) is used in many places, for example when a stream ends, when the connection to a
	 * server is lost, or when the machine ends.
	 */
	{SCMP_SYS(close), L | D | V},
	/*
	 * brk(2), munmap(2), mremap(2) and madvise(2) manage the heap and stacks, map the guest
	 * memory that QEMU has made (memory.c), and free the balloon's pages. mmap(2) and
	 * mprotect(2) have a condition and are listed below.
	 */
	{SCMP_SYS(brk), L | D | V},
	{SCMP_SYS(munmap), L | D | V},
	{SCMP_SYS(mremap), L | D | V},
	{SCMP_SYS(madvise), L | D | V},
	/* futex(2) is used by locks, by pthread_join() and by their timeouts. */
	{SCMP_SYS(futex), L | D | V},
	{SCMP_SYS(clock_gettime), L | D | V},
	{SCMP_SYS(restart_syscall), L | D | V},
	/*
	 * The signal calls are used by vcpu.c, which returns from the handler of the kick signal;
	 * by impersonate.c, which ends the process by the signal that ended the container's
	 * program; and by abort().
	 */
	{SCMP_SYS(rt_sigreturn), L | D | V},
	{SCMP_SYS(rt_sigprocmask), L | D | V},
	{SCMP_SYS(rt_sigaction), L},
	{SCMP_SYS(getpid), L | D | V},
	{SCMP_SYS(gettid), L | D | V},
	/*
	 * wait4(2) is used by engine/qemu.c and share.c to reap child processes. kill(2) has a
	 * condition and is listed below.
	 */
	{SCMP_SYS(wait4), L},
	/*
	 * The C library makes these calls when a thread starts or ends, and when the process ends.
	 */
	{SCMP_SYS(rseq), D | V},
	{SCMP_SYS(set_robust_list), D | V},
	{SCMP_SYS(exit), L | D | V},
	{SCMP_SYS(exit_group), L | D | V},
};

/*
 * A system call that is allowed only if a condition on one of its arguments is true. If a call is
 * listed several times, it is enough that one of its conditions is true.
 */
struct narrow_call {
	int number;
	unsigned threads;
	struct scmp_arg_cmp arg;
};

/*
 * Compares the low 32 bits of the argument that names an ioctl, because the kernel reads only these
 * bits. musl fills the upper bits with the sign, which is set in a number such as KVM_GET_REGS.
 */
#define IOCTL(number) SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, number)

static const struct narrow_call narrow_calls[] = {
	/*
	 * mmap(2) and mprotect(2) are allowed only without PROT_EXEC, so that no memory becomes
	 * executable.
	 */
	{SCMP_SYS(mmap), L | D | V, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{SCMP_SYS(mprotect), L | D | V, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	/*
	 * These ioctls are used by vcpu.c to run a vCPU, and by regs.c to read the registers of a
	 * vCPU that cannot go on.
	 */
	{SCMP_SYS(ioctl), V, IOCTL(KVM_RUN)},
	{SCMP_SYS(ioctl), V, IOCTL(KVM_GET_REGS)},
	{SCMP_SYS(ioctl), V, IOCTL(KVM_GET_SREGS)},
	{SCMP_SYS(ioctl), V, IOCTL(KVM_TRANSLATE)},
	/*
	 * These ioctls are used by cpuid.c and state.c to read the machine's state for a snapshot,
	 * while the vCPUs are paused.
	 */
	{SCMP_SYS(ioctl), D, IOCTL(KVM_CHECK_EXTENSION)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_SUPPORTED_CPUID)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_MSR_INDEX_LIST)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_IRQCHIP)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_CLOCK)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_MP_STATE)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_REGS)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_SREGS)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_XCRS)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_DEBUGREGS)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_LAPIC)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_TSC_KHZ)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_XSAVE)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_XSAVE2)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_MSRS)},
	{SCMP_SYS(ioctl), D, IOCTL(KVM_GET_VCPU_EVENTS)},
	/*
	 * TUNSETOFFLOAD is used by virtio_net.c to set the offloads that the driver has accepted,
	 * or none after a reset.
	 */
	{SCMP_SYS(ioctl), L | D | V, IOCTL(TUNSETOFFLOAD)},
	/*
	 * blk_file.c uses the ioctls of block devices for a disk that is attached to the running
	 * machine.
	 */
	{SCMP_SYS(ioctl), D, IOCTL(BLKGETSIZE64)},
	{SCMP_SYS(ioctl), D, IOCTL(BLKSSZGET)},
	{SCMP_SYS(ioctl), D, IOCTL(BLKPBSZGET)},
	{SCMP_SYS(ioctl), D, IOCTL(BLKIOOPT)},
	/*
	 * vm/hotplug.c uses KVM_IOEVENTFD for the kicks of a device that is attached to the running
	 * machine. monitor/hotplug.c uses TUNGETIFF and TUNGETVNETHDRSZ to check the tap that a
	 * command has sent.
	 */
	{SCMP_SYS(ioctl), D, IOCTL(KVM_IOEVENTFD)},
	{SCMP_SYS(ioctl), L, IOCTL(TUNGETIFF)},
	{SCMP_SYS(ioctl), L, IOCTL(TUNGETVNETHDRSZ)},
	/*
	 * net_pairs.c uses TUNSETQUEUE to attach the queues of a tap that the driver uses, and to
	 * detach the others.
	 */
	{SCMP_SYS(ioctl), D | V, IOCTL(TUNSETQUEUE)},
	/*
	 * net_vhost.c uses these ioctls to start and stop the queues that vhost-net serves: in a
	 * vCPU's thread when the driver sets the status, and in the devices' thread for the control
	 * queue and for snapshots. vhost-net uses only memory and descriptors of this process.
	 */
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_OWNER)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_FEATURES)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_MEM_TABLE)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_VRING_NUM)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_VRING_BASE)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_GET_VRING_BASE)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_VRING_ADDR)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_VRING_CALL)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_SET_VRING_KICK)},
	{SCMP_SYS(ioctl), D | V, IOCTL(VHOST_NET_SET_BACKEND)},
	/*
	 * TCGETS and TIOCGWINSZ are made by isatty() of glibc and of musl, which vsock_stream.c
	 * calls.
	 */
	{SCMP_SYS(ioctl), D, IOCTL(TCGETS)},
	{SCMP_SYS(ioctl), D, IOCTL(TIOCGWINSZ)},
	/* TIOCGWINSZ is used by monitor.c to read the size of the monitor's terminal. */
	{SCMP_SYS(ioctl), L, IOCTL(TIOCGWINSZ)},
	/*
	 * fcntl(2) is used by vsock_stream.c to read the access mode of a stream's descriptor, by
	 * vhost/back_requests.c to make kick descriptors non-blocking, and by memory.c to seal the
	 * memory of a shadow.
	 */
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_GETFL)},
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_SETFL)},
	{SCMP_SYS(fcntl), D, SCMP_A1(SCMP_CMP_EQ, F_ADD_SEALS)},
	/* monitor/hotplug.c uses fcntl(2) to check the descriptors that a command has sent. */
	{SCMP_SYS(fcntl), L, SCMP_A1(SCMP_CMP_EQ, F_GETFL)},
	/* prctl(2) is used by impersonate.c, which forbids a core dump before the process ends. */
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
 * Adds to the filter the calls whose permitted arguments are known only at run time, and the calls
 * that fail instead of killing the process.
 */
static int add_own_calls(
	scmp_filter_ctx ctx, enum jail_thread kind, const pid_t *killable, size_t n)
{
	/*
	 * tgkill(2) is used by vcpu.c to interrupt the thread of a vCPU by a signal, and by abort()
	 * of glibc.
	 */
	int r = seccomp_rule_add(
		ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));

	/*
	 * openat(2) and open(2) fail instead of killing the process, because vsock_stream.c tries
	 * to open the file of a stream a second time, and uses the inherited descriptor if that
	 * fails.
	 */
	if (r == 0 && kind == JAIL_DEVICES)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), 0);
	if (r == 0 && kind == JAIL_DEVICES)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(open), 0);
	if (kind != JAIL_LOOP)
		return r;
	/*
	 * kill(2) is allowed for this process itself, which may end by a signal (impersonate.c),
	 * and for its child processes (engine/qemu.c, share.c).
	 */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
			SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (killable[i] > 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
				SCMP_A0(SCMP_CMP_EQ, (uint64_t)killable[i]));
	/* prlimit(2) is used by impersonate.c, which forbids a core dump of this process. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
			SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_CORE));
	return r;
}

/*
 * Writes the filter to a file in memory and reads it back, because libseccomp before 2.6 exports
 * filters only to files.
 */
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
