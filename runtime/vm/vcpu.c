/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A vCPU thread is in KVM_RUN nearly all the time, because devices do slow
 * work in the thread of the event loop. To get all threads out of KVM_RUN, the caller changes
 * `want` under the lock, then sets immediate_exit = 1 for each thread and sends it a signal. A
 * thread clears immediate_exit before it reads `want`. So the thread sees a request that comes
 * before the read in `want`; a request that comes after it makes the next KVM_RUN return at once,
 * and the signal ends a KVM_RUN that runs already.
 *
 * KVM completes a PIO or MMIO access only at the next KVM_RUN. So before a thread pauses, it calls
 * KVM_RUN once more with immediate_exit set. Then the registers that are read during the pause are
 * those after the access.
 */
#include "vm/vcpu.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm/arch/x86_64/arch.h"

#define KICK SIGRTMIN

struct vcpu {
	struct vcpus *all;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	pid_t tid; /* thread id, by which kick() sends its signal; 0 until the thread runs */
};

static void on_kick(int sig)
{
}

/*
 * Makes the vCPU leave KVM_RUN. Uses tgkill(2) instead of pthread_kill(), because the jail allows
 * signals only to this process, and pthread_kill() of musl does not name the process. A thread that
 * does not run yet enters KVM_RUN later, and leaves it at once.
 */
static void kick(struct vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pid_t tid = __atomic_load_n(&v->tid, __ATOMIC_SEQ_CST);
	if (tid > 0)
		syscall(SYS_tgkill, getpid(), tid, KICK);
}

static int create_vcpu(struct vcpu *v, struct vcpus *all, unsigned index)
{
	v->all = all;
	v->index = index;
	v->fd = ioctl(all->kvm->vm, KVM_CREATE_VCPU, (unsigned long)index);
	if (v->fd < 0)
		return err_sys("create vCPU %u", index);
	void *run = mmap(NULL, all->kvm->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return err_sys("map the run page of vCPU %u", index);
	v->run = run;
	return arch_set_cpuid(all->kvm, v->fd,
		&(struct arch_cpu){.index = index, .count = all->count, .nested = all->nested});
}

int vcpus_init(struct vcpus *ret, const struct vcpus_options *o)
{
	/* Leaves SA_RESTART out, so that the signal makes KVM_RUN return. */
	struct sigaction action = {.sa_handler = on_kick};
	unsigned max = o->kvm->max_vcpus < VCPUS_MAX ? o->kvm->max_vcpus : VCPUS_MAX;
	int r = 0;

	if (o->count == 0 || o->count > max)
		return err_set(EINVAL, "%u vCPUs: expected 1 to %u on this host", o->count, max);
	*ret = (struct vcpus){.kvm = o->kvm,
		.memory = o->memory,
		.pio = o->pio,
		.mmio = o->mmio,
		.count = o->count,
		.enter = o->enter,
		.enter_ctx = o->enter_ctx,
		.nested = o->nested,
		.ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	pthread_mutex_init(&ret->lock, NULL);
	pthread_cond_init(&ret->changed, NULL);
	if (ret->ended < 0)
		r = err_sys("create an eventfd");
	else if (sigaction(KICK, &action, NULL) < 0)
		r = err_sys("set the handler of the vCPUs' signal");
	else if (!(ret->cpu = calloc(o->count, sizeof(*ret->cpu))))
		r = err_set(ENOMEM, "out of memory for %u vCPUs", o->count);
	for (unsigned i = 0; ret->cpu && i < o->count; i++)
		ret->cpu[i].fd = -EBADF;
	for (unsigned i = 0; r >= 0 && i < o->count; i++)
		r = create_vcpu(&ret->cpu[i], ret, i);
	if (r < 0)
		vcpus_release(ret);
	return r;
}

void vcpus_release(struct vcpus *c)
{
	for (unsigned i = 0; c->cpu && i < c->count; i++) {
		if (c->cpu[i].run)
			munmap(c->cpu[i].run, c->kvm->run_len);
		fd_close(&c->cpu[i].fd);
	}
	free(take_ptr(c->cpu));
	fd_close(&c->ended);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}

int vcpus_fd(const struct vcpus *c, unsigned index)
{
	return c->cpu[index].fd;
}

void vcpus_end(struct vcpus *c, enum vm_end end, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&c->lock);
	if (c->end == VM_END_NONE) {
		c->end = end;
		va_start(ap, fmt);
		vsnprintf(c->why, sizeof(c->why), fmt, ap);
		va_end(ap);
	}
	/*
	 * Requests all vCPUs to stop, because a guest that has switched the machine off must not
	 * run on.
	 */
	c->want = VCPU_STOP;
	for (unsigned i = 0; i < c->threads; i++)
		kick(&c->cpu[i]);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	eventfd_write(c->ended, 1);
}

static void end_with_registers(struct vcpu *v, const char *what)
{
	char regs[ARCH_REGS_TEXT];

	arch_print_regs(v->fd, v->all->memory, regs, sizeof(regs));
	vcpus_end(v->all, VM_END_FAULT, "vCPU %u: %s\n%s", v->index, what, regs);
}

static void do_pio(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)v->run + run->io.data_offset;

	/*
	 * A string instruction causes one exit with run->io.count items, which all go to the same
	 * port.
	 */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			vm_bus_write(v->all->pio, run->io.port, data, run->io.size);
		else
			vm_bus_read(v->all->pio, run->io.port, data, run->io.size);
	}
}

static void do_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->mmio.is_write)
		vm_bus_write(v->all->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		vm_bus_read(v->all->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void do_internal_error(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	char text[256];

	snprintf(text, sizeof(text),
		"KVM could not go on: internal error %u%s (data 0x%llx 0x%llx); the registers are",
		run->internal.suberror,
		run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
			? ", an instruction that it can't emulate"
			: "",
		run->internal.ndata > 0 ? run->internal.data[0] : 0,
		run->internal.ndata > 1 ? run->internal.data[1] : 0);
	end_with_registers(v, text);
}

/* Handles the exit of KVM_RUN by the reason that KVM gives in v->run. */
static void handle_exit(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	char text[128];

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		do_pio(v);
		break;
	case KVM_EXIT_MMIO:
		do_mmio(v);
		break;
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_HLT:
		/*
		 * KVM reports a halt only if the interrupt controllers are not in the kernel, and
		 * then nothing can wake the vCPU.
		 */
		end_with_registers(
			v, "the guest halted and nothing can wake it; the registers are");
		break;
	case KVM_EXIT_SHUTDOWN:
		end_with_registers(v,
			"triple fault: an exception that the guest's own handlers could not "
			"take; the registers are");
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		vcpus_end(v->all,
			run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? VM_END_POWEROFF
			: run->system_event.type == KVM_SYSTEM_EVENT_RESET  ? VM_END_RESET
									    : VM_END_FAULT,
			"system event %u", run->system_event.type);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, sizeof(text),
			"the CPU refuses to enter the guest (reason 0x%llx); the registers are",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		end_with_registers(v, text);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		do_internal_error(v);
		break;
	default:
		snprintf(text, sizeof(text),
			"KVM exit %u, which caisson does not know; the registers are",
			run->exit_reason);
		end_with_registers(v, text);
	}
}

/* Makes KVM complete the last PIO or MMIO access of the vCPU without running the guest. */
static void complete_access(struct vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	(void)ioctl(v->fd, KVM_RUN, 0);
}

/* Waits while the vCPUs are paused. Returns false if this vCPU's thread has to end. */
static bool wait_until_running(struct vcpu *v)
{
	struct vcpus *c = v->all;

	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&c->lock);
	if (c->want == VCPU_PAUSE) {
		pthread_mutex_unlock(&c->lock);
		complete_access(v);
		pthread_mutex_lock(&c->lock);
		c->parked++;
		pthread_cond_broadcast(&c->changed);
		while (c->want == VCPU_PAUSE)
			pthread_cond_wait(&c->changed, &c->lock);
		c->parked--;
		/*
		 * Clears immediate_exit while the lock is held, so that a new request, which also
		 * takes the lock, can set it only after this line.
		 */
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	}
	bool run = c->want == VCPU_RUN;
	pthread_mutex_unlock(&c->lock);
	return run;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	char name[16];

	__atomic_store_n(&v->tid, gettid(), __ATOMIC_SEQ_CST);
	snprintf(name, sizeof(name), "vcpu %u", v->index);
	pthread_setname_np(pthread_self(), name);
	if (v->all->enter && v->all->enter(v->all->enter_ctx) < 0)
		vcpus_end(v->all, VM_END_FAULT, "vCPU %u: %s", v->index, err_msg());
	while (wait_until_running(v)) {
		if (ioctl(v->fd, KVM_RUN, 0) >= 0) {
			handle_exit(v);
		} else if (errno != EINTR && errno != EAGAIN) {
			err_sys("KVM_RUN");
			end_with_registers(v, err_msg());
		}
	}
	return NULL;
}

int vcpus_start(struct vcpus *c)
{
	sigset_t all, old;
	int r = 0;

	/*
	 * All signals but the kick are blocked in the vCPU threads, because the event loop handles
	 * the process's signals.
	 */
	sigfillset(&all);
	sigdelset(&all, KICK);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; r == 0 && c->threads < c->count; c->threads += r == 0)
		r = pthread_create(
			&c->cpu[c->threads].thread, NULL, vcpu_main, &c->cpu[c->threads]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		return 0;
	r = err_set(r, "start the thread of vCPU %u of %u", c->threads, c->count);
	vcpus_stop(c);
	return r;
}

static void set_want(struct vcpus *c, enum vcpu_want want)
{
	pthread_mutex_lock(&c->lock);
	if (c->want != VCPU_STOP)
		c->want = want;
	for (unsigned i = 0; want != VCPU_RUN && i < c->threads; i++)
		kick(&c->cpu[i]);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

void vcpus_resume(struct vcpus *c)
{
	set_want(c, VCPU_RUN);
}

void vcpus_pause(struct vcpus *c)
{
	set_want(c, VCPU_PAUSE);
	pthread_mutex_lock(&c->lock);
	while (c->want == VCPU_PAUSE && c->parked < c->threads)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void vcpus_stop(struct vcpus *c)
{
	vcpus_end(c, VM_END_STOPPED, "stopped");
	for (unsigned i = 0; i < c->threads; i++)
		pthread_join(c->cpu[i].thread, NULL);
	c->threads = 0;
}
