/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes QEMU's command line, and the list of descriptors to which its arguments refer by number. A
 * new argument of the machine itself belongs in add_machine(), an argument of a device in
 * add_devices(), and an argument of a disk in add_disks().
 */
#include "engine/qemu_args.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#include "base/fd.h"
#include "base/log.h"
#include "engine/qemu_carry.h"
#include "engine/qemu_commands.h"
#include "engine/qemu_hotplug.h"
#include "engine/qemu_jail.h"
#include "engine/share.h"
#include "machine/image.h"
#include "machine/qemu.h"

/* the option of the disk from which the firmware boots */
#define BOOTS ",bootindex=0"
#define TSC_MEASURE_NS 10000000
/*
 * QEMU's translation cache gets a fixed size (tb-size), because otherwise it takes a quarter of the
 * guest's memory, up to 1 GiB.
 */
#define TCG "tcg,thread=multi,tb-size=64"

static void add_arg(struct qemu_args *a, const char *fmt, ...) printf_like(2, 3);

static void add_arg(struct qemu_args *a, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	char *s = len < 0 || (size_t)len >= sizeof(text) ? NULL : arena_strdup(&a->arena, text);
	if (!s || a->n + 1 >= QEMU_ARGS_MAX)
		a->failed = true;
	else
		a->v[a->n++] = s;
}

/*
 * Makes QEMU inherit the descriptor fd under the same number. Returns that number, which QEMU's
 * argument names.
 */
static int add_fd(struct qemu_args *a, int fd)
{
	if (a->nfds == QEMU_ARGS_FDS_MAX)
		a->failed = true;
	else
		a->fds[a->nfds++] = fd;
	return fd;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/*
 * Measures the frequency of the TSC in kHz by reading the TSC and a clock twice. The error is a few
 * millionths even if the process is interrupted, because the TSC and the clock both go on while the
 * process waits.
 */
static uint64_t tsc_khz(void)
{
	uint64_t t0 = now_ns(), c0 = __rdtsc(), t1;

	do
		t1 = now_ns();
	while (t1 - t0 < TSC_MEASURE_NS);
	return (__rdtsc() - c0) * 1000000 / (t1 - t0);
}

/*
 * Adds an inherited descriptor as the descriptor set `set`, which a -drive names as
 * /dev/fdset/SET, and begins the -drive.
 */
static void add_file(struct qemu_args *a, int fd, int set)
{
	add_arg(a, "-add-fd");
	add_arg(a, "fd=%d,set=%d", add_fd(a, fd), set);
	add_arg(a, "-drive");
}

/* Adds the two flash memories that EDK2 expects: its code, and its variables. */
static void add_firmware(struct qemu_args *a, const struct engine_description *d)
{
	add_file(a, d->firmware, 3);
	add_arg(a, "if=pflash,unit=0,format=raw,file=/dev/fdset/3,file.locking=off,readonly=on");
	add_file(a, d->firmware_vars, 4);
	add_arg(a, "if=pflash,unit=1,format=raw,file=/dev/fdset/4,file.locking=off,"
		   "auto-read-only=off");
}

#define TICKS_MIN 100 /* the fewest ticks in a second that a kernel can have (CONFIG_HZ) */

static void add_kernel(struct qemu_args *a, const struct engine_description *d)
{
	add_arg(a, "-kernel");
	add_arg(a, QEMU_JAIL_KERNEL);
	if (d->initramfs >= 0) {
		add_arg(a, "-initrd");
		add_arg(a, QEMU_JAIL_INITRAMFS);
	}
	add_arg(a, "-append");
	/*
	 * tsc=reliable tells the guest's kernel not to check the TSC, because QEMU's TSC is the
	 * host's. Otherwise the kernel would compare the TSC with its own timer ticks, which come
	 * late on a loaded host. The kernel would then count the ticks instead of the TSC, and its
	 * clock would lose time.
	 *
	 * noreplace-smp keeps the lock prefixes in the code of a kernel that has only one CPU.
	 * Removing them would change thousands of places of the kernel's code at boot, and QEMU
	 * translates the code of a page again after each write to the page.
	 *
	 * lpj tells the kernel how far the TSC counts in one of its ticks. Each CPU but the first
	 * would measure that when it is put on line. On a host whose CPUs are busy it can measure a
	 * number so large that the next delay loop takes minutes. The number is that of a kernel
	 * with TICKS_MIN ticks in a second. In a kernel with more ticks delays are longer, which
	 * does no harm.
	 *
	 * edd=off keeps the real-mode code of a bzImage from asking the firmware for the boot
	 * sectors of the disks. SeaBIOS, the firmware of this machine except in Debian 12, would
	 * read them by a request below 1 MiB. QEMU does not share that memory with the process
	 * that serves a disk, which would take the request for an attack and end.
	 */
	const uint64_t khz = tsc_khz();
	add_arg(a, "%s edd=off noreplace-smp tsc=reliable tsc_early_khz=%" PRIu64 " lpj=%" PRIu64,
		d->cmdline, khz, khz * 1000 / TICKS_MIN);
}

static void add_machine(struct qemu_args *a, const struct engine_description *d)
{
	const struct machine_config *c = d->config;

	add_arg(a, "%s", c->qemu);
	add_arg(a, "-nodefaults");
	add_arg(a, "-no-user-config");
	add_arg(a, "-display");
	add_arg(a, "none");
	add_arg(a, "-machine");
	/*
	 * rtc=on gives the machine a CMOS clock, because without a CMOS clock and without KVM's
	 * paravirtual clock Linux would wait a second at boot for a clock. EFI firmware needs the
	 * machine q35, because its boot path finds disks on a PCI bus.
	 */
	if (c->firmware)
		add_arg(a, "q35,smm=off,vmport=off,memory-backend=ram");
	else
		add_arg(a,
			"microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=%s,memory-backend=ram",
			c->foreign ? "on" : "off");
	/*
	 * A reboot ends the machine, because the kernel that would boot again may not be the one
	 * that is on the disk by then. A machine with firmware may reboot, because the firmware
	 * reads the kernel from the disk again.
	 */
	if (!c->firmware)
		add_arg(a, "-no-reboot");
	add_arg(a, "-global");
	add_arg(a, "virtio-mmio.force-legacy=false");
	add_arg(a, "-accel");
	add_arg(a, TCG);
	add_arg(a, "-cpu");
	/*
	 * ERMS and FSRM are hidden, because QEMU executes a string instruction byte by byte in
	 * software; without the two flags Linux and libraries copy in words instead. LA57 is
	 * hidden, so that page tables have four levels to walk and not five.
	 */
	add_arg(a, "max,-erms,-fsrm,-la57%s", c->nested ? "" : ",-svm,-vmx");
	add_arg(a, "-smp");
	add_arg(a, "%u", c->max_cpus);
	add_arg(a, "-m");
	add_arg(a, "%" PRIu64 "M", c->memory >> 20);
	add_arg(a, "-object");
	add_arg(a, "memory-backend-memfd,id=ram,size=%" PRIu64 "M,share=on%s", c->memory >> 20,
		c->pages == VM_PAGES_HUGETLB ? ",hugetlb=on,hugetlbsize=2M,prealloc=on" : "");
	if (c->firmware)
		add_firmware(a, d);
	else
		add_kernel(a, d);
}

/*
 * Returns the end of a virtio device's name: a machine with firmware has its devices on a PCI bus,
 * and a machine without firmware has them on virtio-mmio.
 */
static const char *bus(const struct engine_description *d)
{
	return d->config->firmware ? "pci" : "device";
}

/*
 * Writes the descriptors of a tap's queues, separated by colons, and makes QEMU inherit them.
 * Returns `text`.
 */
static const char *queue_fds(struct qemu_args *a, const int *fds, unsigned n, char text[96])
{
	int len = 0;

	for (unsigned i = 0; i < n; i++)
		len += snprintf(
			text + len, (size_t)(96 - len), "%s%d", i ? ":" : "", add_fd(a, fds[i]));
	return text;
}

static void add_tap(struct qemu_args *a, const struct engine_nic *n, size_t i)
{
	const char *s = n->queues > 1 ? "s" : "";
	char fds[96], vhost[96];

	queue_fds(a, n->taps, n->queues, fds);
	if (n->vhost)
		add_arg(a, "tap,id=net%zu,fd%s=%s,vhost=on,vhostfd%s=%s", i, s, fds, s,
			queue_fds(a, n->vhost, n->queues, vhost));
	else
		add_arg(a, "tap,id=net%zu,fd%s=%s,vhost=off", i, s, fds);
}

static void add_nic(struct qemu_args *a, const struct engine_description *d, size_t i)
{
	const struct engine_nic *n = &d->nics[i];
	const uint8_t *m = n->mac;
	char mtu[32] = "";

	if (n->backend) {
		add_arg(a, "-chardev");
		add_arg(a, "socket,id=net%zu,path=" QEMU_JAIL_SOCKET, i);
		if (n->mtu)
			snprintf(mtu, sizeof(mtu), ",host_mtu=%u", n->mtu);
	}
	add_arg(a, "-netdev");
	if (n->backend)
		add_arg(a, "vhost-user,id=net%zu,chardev=net%zu", i, i);
	else
		add_tap(a, n, i);
	add_arg(a, "-device");
	add_arg(a, "virtio-net-%s,netdev=net%zu,mac=" STR_MAC_FORMAT "%s%s%s", bus(d), i,
		STR_MAC_ARGS(m), mtu, d->config->firmware ? ",romfile=" : "",
		!n->backend && n->queues > 1 ? ",mq=on" : "");
}

/*
 * Adds the socket on which QEMU takes commands. -S makes QEMU wait for a command before it runs the
 * guest. Only the monitor has the other end of the socket, so no other process can command
 * QEMU.
 */
static void add_commands(struct qemu_args *a, const struct engine_description *d, int qmp)
{
	add_arg(a, "-S");
	add_arg(a, "-chardev");
	add_arg(a, "socket,id=qmp,fd=%d", add_fd(a, qmp));
	add_arg(a, "-mon");
	add_arg(a, "chardev=qmp,mode=control");
	/* QEMU waits for the command that names the saved machine. */
	if (d->snapshot) {
		add_arg(a, "-incoming");
		add_arg(a, "defer");
	}
}

/*
 * Adds a screen, a keyboard and a pointer. QEMU listens for no viewer: the monitor hands each
 * viewer's connection over (engine_add_viewer()). A machine with firmware has a VGA adapter,
 * because the firmware has a driver for VGA, and q35 also has a PS/2 keyboard.
 */
static void add_screen(struct qemu_args *a, const struct engine_description *d)
{
	add_arg(a, "-vnc");
	add_arg(a, "none");
	add_arg(a, "-device");
	add_arg(a, "%s", d->config->firmware ? "VGA" : "virtio-gpu-device");
	add_arg(a, "-device");
	add_arg(a, "virtio-keyboard-%s", bus(d));
	add_arg(a, "-device");
	add_arg(a, "virtio-tablet-%s", bus(d));
}

/*
 * Adds the virtio-serial port at which qemu-guest-agent of a foreign guest listens. The guest finds
 * the port by its name.
 */
static void add_guest_agent(struct qemu_args *a, const struct engine_description *d)
{
	if (d->guest_agent < 0)
		return;
	add_arg(a, "-chardev");
	add_arg(a, "socket,id=" QEMU_GUEST_AGENT ",fd=%d", add_fd(a, d->guest_agent));
	add_arg(a, "-device");
	add_arg(a, "virtio-serial-%s", bus(d));
	add_arg(a, "-device");
	add_arg(a, "virtserialport,id=" QEMU_GUEST_AGENT ",chardev=" QEMU_GUEST_AGENT
		   ",name=" ENGINE_GUEST_AGENT_PORT);
}

/* Adds a placeholder for each spare transport (qemu_hotplug.h). */
static void add_spares(struct qemu_args *a, const struct engine_description *d)
{
	const unsigned spares = qemu_count_spares(d);

	for (unsigned i = 0; i < spares; i++) {
		add_arg(a, "-device");
		add_arg(a, QEMU_PLACEHOLDER ",id=" QEMU_SPARE "%u,bus=virtio-mmio-bus.%u", i,
			QEMU_SPARE_TRANSPORT(i));
	}
}

static void add_devices(
	struct qemu_args *a, const struct engine_description *d, const struct qemu_sockets *s)
{
	add_arg(a, "-chardev");
	add_arg(a, "socket,id=console,fd=%d", add_fd(a, s->console));
	/*
	 * A foreign guest has its console on a serial port, because its kernel writes to a serial
	 * port from the beginning of the boot, and has the driver of a virtio console only as a
	 * module.
	 */
	if (d->config->foreign) {
		add_arg(a, "-serial");
		add_arg(a, "chardev:console");
		add_guest_agent(a, d);
	} else {
		add_arg(a, "-device");
		add_arg(a, "virtio-serial-device");
		add_arg(a, "-device");
		add_arg(a, "virtconsole,chardev=console");
	}
	add_arg(a, "-object");
	add_arg(a, "rng-builtin,id=rng");
	add_arg(a, "-device");
	add_arg(a, "virtio-rng-%s,rng=rng", bus(d));
	add_arg(a, "-device");
	add_arg(a, "virtio-balloon-%s,free-page-reporting=on,deflate-on-oom=on", bus(d));
	if (d->share >= 0) {
		add_arg(a, "-chardev");
		add_arg(a, "socket,id=" QEMU_SHARE_CHARDEV ",fd=%d", add_fd(a, d->share));
		add_arg(a, "-device");
		add_arg(a, "vhost-user-fs-device,id=" QEMU_SHARE_ID ",chardev=" QEMU_SHARE_CHARDEV
			   ",tag=" SHARE_TAG ",queue-size=" QEMU_SHARE_QUEUE);
	}
	if (s->vsock >= 0) {
		add_arg(a, "-chardev");
		add_arg(a, "socket,id=" QEMU_VSOCK_CHARDEV ",fd=%d", add_fd(a, s->vsock));
		add_arg(a, "-device");
		add_arg(a, "vhost-user-vsock-%s,id=" QEMU_VSOCK_ID ",chardev=" QEMU_VSOCK_CHARDEV,
			bus(d));
	}
	for (size_t i = 0; i < d->nnics; i++)
		add_nic(a, d, i);
}

static void add_image(struct qemu_args *a, const struct engine_description *d)
{
	add_file(a, d->image, 1);
	/*
	 * auto-read-only is off, because otherwise QEMU would open the image a second time, for
	 * writing, which fails for a descriptor that QEMU has inherited.
	 */
	add_arg(a, "if=none,id=image,format=raw,file=/dev/fdset/1,file.locking=off,cache=%s,%s",
		d->config->image_direct          ? "none"
		: d->config->image_write_through ? "writethrough"
						 : "writeback",
		d->config->image_read_only ? "read-only=on" : "auto-read-only=off");
	add_arg(a, "-device");
	add_arg(a, "virtio-blk-%s,drive=image,serial=%s,werror=%s,rerror=%s%s", bus(d),
		machine_image_serial(d->config), machine_on_error_name(d->config->image_werror),
		machine_on_error_name(d->config->image_rerror), d->config->firmware ? BOOTS : "");
}

static void add_seed(struct qemu_args *a, const struct engine_description *d)
{
	add_file(a, d->seed, 2);
	add_arg(a, "if=none,id=seed,format=raw,file=/dev/fdset/2,file.locking=off,read-only=on");
	add_arg(a, "-device");
	add_arg(a, "virtio-blk-%s,drive=seed,serial=" ENGINE_SEED_SERIAL, bus(d));
}

/*
 * Returns QEMU's options for the queues of a disk. If no number of queues is set, QEMU's own
 * defaults are used, because the server may support neither more nor larger queues than QEMU's
 * defaults.
 */
static const char *queue_options(const struct engine_backend *b, char *text, size_t size)
{
	text[0] = '\0';
	if (b->queues)
		snprintf(text, size, ",num-queues=%u,queue-size=256", b->queues);
	return text;
}

/*
 * Adds the disks in the order of the description, because the guest numbers them (vda, vdb) in the
 * order of these arguments.
 */
static void add_disks(struct qemu_args *a, const struct engine_description *d)
{
	if (d->image >= 0)
		add_image(a, d);
	for (size_t i = 0; i < d->nbackends; i++) {
		const struct engine_backend *b = &d->backends[i];
		char options[64];

		add_arg(a, "-chardev");
		add_arg(a, "socket,id=" QEMU_BACKEND "%zu,fd=%d", i, add_fd(a, b->sock));
		add_arg(a, "-device");
		if (b->tag)
			add_arg(a, "vhost-user-fs-device,chardev=" QEMU_BACKEND "%zu,tag=%s", i,
				b->tag);
		else
			add_arg(a, "vhost-user-blk%s,chardev=" QEMU_BACKEND "%zu%s%s",
				d->config->firmware ? "-pci" : "", i,
				queue_options(b, options, sizeof(options)),
				d->config->firmware && d->image < 0 && i == 0 ? BOOTS : "");
	}
	if (d->seed >= 0)
		add_seed(a, d);
}

/*
 * Adds -sandbox, which denies those of QEMU's groups of system calls that a running machine never
 * uses.
 */
static int add_sandbox(struct qemu_args *a, const struct machine_config *c)
{
	int r = qemu_has_sandbox(c->qemu);

	if (r < 0)
		return r;
	if (r == 0) {
		log_warn("%s was built without -sandbox: no system call is denied to it", c->qemu);
		return 0;
	}
	add_arg(a, "-sandbox");
	add_arg(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	return 0;
}

int qemu_args_build(
	struct qemu_args *a, const struct engine_description *d, const struct qemu_sockets *s)
{
	add_machine(a, d);
	int r = add_sandbox(a, d->config);
	if (r < 0)
		return r;
	add_commands(a, d, s->qmp);
	add_spares(a, d);
	add_devices(a, d, s);
	add_disks(a, d);
	if (d->config->vnc)
		add_screen(a, d);
	for (size_t i = 0; i < d->config->qemu_parameters.n; i++)
		add_arg(a, "%s", d->config->qemu_parameters.v[i]);
	return a->failed ? err_set(E2BIG, "QEMU's command line is too long") : 0;
}
