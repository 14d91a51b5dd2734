/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the machine: kernel, network interfaces, disk, file server, external servers, then the
 * engine. build_machine() makes these parts in this order, because each part needs those that were
 * made before it.
 *
 * At debug level the monitor logs "microvm: ..." at the end of each stage of the start.
 * tests/bench/vm.py makes a table of these lines.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "engine/connector.h"
#include "images/disk/lock.h"
#include "machine/net_backend.h"
#include "monitor/monitor_internal.h"

/*
 * The kernel's command line of a guest with caisson's agent. The kernel does not look for devices
 * that the machine lacks and does not test itself, because both would take time. The kernel prints
 * only errors on the console. panic=-1 ends the machine at once after a panic.
 */
#define CMDLINE \
	"console=hvc0 quiet panic=-1 reboot=t pci=off i8042.noaux i8042.nomux " \
	"rcupdate.rcu_expedited=1 i8042.dumbkbd 8250.nr_uarts=0 cryptomgr.notests " \
	"random.trust_cpu=on"

/*
 * What caisson adds to the kernel parameters of a foreign guest, an operating system with an init
 * of its own: the guest's machine ends at once after a panic.
 */
#define FOREIGN_CMDLINE "panic=-1"
/*
 * Makes Linux reset the machine by a triple fault, upon which QEMU ends. Otherwise Linux finds no
 * other way to reset QEMU's microvm than a jump to the entry of the BIOS, which now and then boots
 * the same kernel again instead of resetting the machine.
 */
#define QEMU_CMDLINE " reboot=t"

static int build_cmdline(struct monitor *m, const char **ret)
{
	const struct machine_config *c = m->a->machine;
	const struct spec_strings *more = &c->kernel_parameters;
	_cleanup_strbuf_ struct strbuf b = {0};

	int r = strbuf_addf(&b, "%s", foreign_here(m) ? FOREIGN_CMDLINE : CMDLINE);
	if (r >= 0 && foreign_here(m) && c->hypervisor == HYPERVISOR_QEMU)
		r = strbuf_addf(&b, "%s", QEMU_CMDLINE);
	/* The kernel leaves the spare vCPUs off line until the agent puts them on line. */
	if (r >= 0 && c->max_cpus > c->cpus)
		r = strbuf_addf(&b, " maxcpus=%u", c->cpus);
	for (size_t i = 0; i < more->n && r >= 0; i++)
		r = strbuf_addf(&b, " %s", more->v[i]);
	/*
	 * The serial console is the last one on the command line of a foreign guest, because the
	 * kernel makes the last console /dev/console, on which the guest's init writes.
	 */
	if (r >= 0 && foreign_here(m))
		r = strbuf_addf(&b, " console=ttyS0");
	if (r < 0)
		return r;
	if (b.len > 2047)
		return err_set(E2BIG,
			"vm.kernel.parameters: the command line would be %zu bytes, "
			"a kernel takes 2047",
			b.len);
	*ret = arena_strdup(m->a->arena, strbuf_str(&b));
	return *ret ? 0 : -ENOMEM;
}

/*
 * Refuses more network interfaces than the machine has room for. Counts the interfaces of the
 * container's network namespace and the one that a vhost-user server may bring.
 */
static int check_interfaces(const struct monitor *m)
{
	const struct machine_config *c = m->a->machine;
	size_t n = m->boot.net.interface_count, backends = 0;

	for (size_t i = 0; i < m->a->plan->n; i++) {
		const struct step *s = &m->a->plan->steps[i];
		if (s->place != PLACE_HOST)
			continue;
		backends += s->kind == STEP_CONNECT && !spec_mount_is_image(s->connect.mount);
		n += s->kind == STEP_CONNECT_NET;
	}
	unsigned room = machine_room_for_nics(c, backends);
	if (n <= room)
		return 0;
	if (room == ENGINE_NICS_MAX)
		return err_set(ENOSPC,
			"the container has %zu network interfaces: a microVM takes %u", n, room);
	return err_set(ENOSPC,
		"the container has %zu network interfaces: a microVM takes %d devices in all, and "
		"beside %s%zu vhost-user sources of mounts %u interfaces at most",
		n, MACHINE_LINES,
		c->seed    ? "vm.image, its seed and "
		: c->image ? "vm.image and "
			   : "",
		backends, room);
}

/*
 * Returns how many queues an interface has in each direction: one for each vCPU, up to
 * NET_TAP_QUEUES_MAX.
 */
static unsigned net_queues(const struct machine_config *c)
{
	_Static_assert(VIRTIO_NET_PAIRS_MAX == NET_TAP_QUEUES_MAX, "a queue for each pair");
	return c->cpus < NET_TAP_QUEUES_MAX ? c->cpus : NET_TAP_QUEUES_MAX;
}

/* Opens a tap for each interface of the container's network namespace, in which the monitor is. */
static int open_taps(struct monitor *m, struct engine_description *d)
{
	int r = net_config_read(m->a->arena, -EBADF, &m->boot.net);

	if (r < 0)
		return err_ctx(r, "the container's network");
	r = check_interfaces(m);
	if (r < 0)
		return r;
	for (size_t i = 0; i < m->boot.net.interface_count; i++) {
		const struct net_interface *n = &m->boot.net.interfaces[i];
		struct engine_nic *nic = &d->nics[i];

		r = net_tap_open(n, net_queues(m->a->machine), &m->boot.taps[i]);
		if (r < 0)
			return r;
		d->nnics++;
		*nic = (struct engine_nic){.fd = -EBADF,
			.taps = m->boot.taps[i].fds,
			.queues = m->boot.taps[i].queues,
			.mtu = n->mtu,
			.offloads = m->boot.taps[i].offloads};
		if (m->a->machine->vhost_net && net_tap_open_vhost(&m->boot.taps[i]))
			nic->vhost = m->boot.taps[i].vhost;
		memcpy(nic->mac, n->mac, sizeof(nic->mac));
	}
	return 0;
}

/*
 * Adds the interface that a vhost-user server brings (vm.net in config.json), after the interfaces
 * of the network namespace.
 */
static int add_net_backend(struct monitor *m, struct engine_description *d, const struct step *s)
{
	struct engine_nic *nic = &d->nics[d->nnics];
	uint8_t mac[6];

	net_backend_mac(s->net, m->a->id, mac);
	int r = net_backend_add(m->a->arena, s->net, mac, &m->boot.net);
	if (r < 0)
		return err_ctx(r, "%s", s->field);
	*nic = (struct engine_nic){
		.backend = s->field, .fd = take_fd(&m->a->slots[s->slot]), .mtu = s->net->mtu};
	memcpy(nic->mac, mac, sizeof(mac));
	d->nnics++;
	return 0;
}

static int open_image(const struct machine_config *c, int *ret)
{
	*ret = -EBADF;
	if (!c->image || c->image_server)
		return 0;
	*ret = open(c->image, (c->image_read_only ? O_RDONLY : O_RDWR) |
				      (c->image_direct ? O_DIRECT : 0) | O_CLOEXEC);
	if (*ret < 0 && c->image_direct && errno == EINVAL)
		return err_sys("vm.image.path: %s: its file system has no direct I/O "
			       "(annotation io.caisson.vm.image-cache)",
			c->image);
	if (*ret < 0)
		return err_sys("vm.image.path: %s", c->image);
	/*
	 * The lock on the image lasts as long as the hypervisor runs, because the lock belongs to
	 * the open file description, of which the hypervisor has a descriptor too.
	 */
	int r = disk_lock(*ret, c->image, !c->image_read_only, false);
	return r < 0 ? err_ctx(r, "vm.image.path") : 0;
}

/*
 * Makes the socket pair for the output of the guest's console. The monitor's loop reads one end,
 * because an error message about a machine that failed quotes the last lines of that output.
 */
static int open_log(struct monitor *m, int *ret_guest_end)
{
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return err_sys("make a socket pair");
	m->guest_log = socks[0];
	*ret_guest_end = socks[1];
	return console_limit_socket(
		socks[1], foreign_here(m) && m->a->machine->hypervisor == HYPERVISOR_QEMU);
}

/*
 * Makes the socket pair for the port of qemu-guest-agent in a foreign guest. A container needs no
 * such port, because caisson's agent is in its guest.
 */
static int open_guest_agent(struct monitor *m, int *ret_guest_end)
{
	int socks[2];

	if (!foreign_here(m))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return err_sys("make a socket pair");
	foreign_qga_open(m, socks[0]);
	*ret_guest_end = socks[1];
	return 0;
}

/*
 * Refuses a machine whose memory is too small for its kernel and initramfs, because the kernel
 * would overwrite itself and never print an error.
 */
static int check_memory(const struct guest_kernel *k, const struct machine_config *c)
{
	struct stat st;

	if (fstat(k->initramfs, &st) < 0)
		return err_sys("read the size of the initramfs");
	if (k->memory_end < c->memory && (uint64_t)st.st_size < c->memory - k->memory_end)
		return 0;
	return err_set(EFBIG,
		"%s%s: the kernel needs %llu bytes of memory and its initramfs %lld more, but the "
		"microVM has %llu: raise vm.hwConfig.memory (--memory)",
		c->kernel ? "vm.kernel.path: " : "", k->path, (unsigned long long)k->memory_end,
		(long long)st.st_size, (unsigned long long)c->memory);
}

/*
 * Starts caisson-disk if it serves vm.image, as it does for each image that is not raw. The server
 * becomes the first of the machine's vhost-user servers, because vm.image is the guest's first
 * disk.
 */
static int start_disk_server(struct monitor *m, struct engine_description *d)
{
	if (!m->a->machine->image_server)
		return 0;
	int r = disk_server_start(&m->disk, m->a->machine, d->log);
	if (r >= 0)
		d->backends[d->nbackends++] = (struct engine_backend){.field = "vm.image",
			.sock = m->disk.sock,
			.queues = m->a->machine->image_queues};
	return r;
}

/*
 * Takes the connections to vhost-user servers out of the slots of the plan into the machine's
 * description. The machine needs these connections as long as it runs, but the caller closes all
 * slots afterwards.
 */
static int take_backends(struct monitor *m, struct engine_description *d)
{
	for (size_t i = 0; i < m->a->plan->n; i++) {
		const struct step *s = &m->a->plan->steps[i];
		if (s->place == PLACE_HOST && s->kind == STEP_CONNECT_NET) {
			int r = add_net_backend(m, d, s);
			if (r < 0)
				return r;
		}
		if (s->place != PLACE_HOST || s->kind != STEP_CONNECT ||
			spec_mount_is_image(s->connect.mount))
			continue;
		struct engine_backend *b = &d->backends[d->nbackends++];
		*b = (struct engine_backend){.field = s->field,
			.tag = s->connect.device[0] == '/' ? NULL : s->connect.device,
			.sock = take_fd(&m->a->slots[s->slot])};
		/*
		 * Of the vhost-user servers that have ended, only the server of a disk may be
		 * replaced by a new server, because a new file server would not know which files
		 * the guest has open.
		 */
		if (b->tag || !m->a->machine->reconnect)
			continue;
		b->reconnect = connector_start(s->connect.mount->backend, m->a->machine->reconnect);
		if (b->reconnect < 0)
			return b->reconnect;
	}
	return 0;
}

/*
 * Opens a foreign guest's kernel and initramfs, which were taken from the guest's disk. These files
 * are as hostile as the disk, so the monitor reads nothing from them. The hypervisor loads them as
 * they are.
 */
static int open_foreign_kernel(const struct machine_config *c, struct guest_kernel *ret)
{
	ret->kernel = open(c->kernel, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (ret->kernel < 0)
		return err_sys("vm.kernel.path: %s", c->kernel);
	if (c->initrd)
		ret->initramfs = open(c->initrd, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return c->initrd && ret->initramfs < 0 ? err_sys("vm.kernel.initrd: %s", c->initrd) : 0;
}

/*
 * Opens the EFI firmware and its variables. The lock on the file of variables keeps two machines
 * from writing to it.
 */
static int open_firmware(const struct machine_config *c, struct engine_description *d)
{
	d->firmware = open(c->firmware, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (d->firmware < 0)
		return err_sys("--firmware %s", c->firmware);
	d->firmware_vars = open(c->firmware_vars, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (d->firmware_vars < 0)
		return err_sys("--firmware-vars %s", c->firmware_vars);
	int r = disk_lock(d->firmware_vars, c->firmware_vars, true, false);
	return r < 0 ? err_ctx(r, "--firmware-vars") : 0;
}

static int open_kernel(struct monitor *m, struct engine_description *d, struct guest_kernel *ret)
{
	const struct machine_config *c = m->a->machine;

	if (c->firmware)
		return open_firmware(c, d);
	const struct guest_kernel_request q = {
		.kernel = c->kernel, .initrd = c->initrd, .init = c->init, .cache = c->cache};

	int r = c->foreign ? open_foreign_kernel(c, ret) : guest_kernel_open(m->a->arena, &q, ret);
	if (r < 0)
		return r;
	d->kernel = ret->kernel;
	d->initramfs = ret->initramfs;
	r = c->foreign ? 0 : check_memory(ret, c);
	log_debug("microvm: kernel and initramfs");
	spans_mark(m, "open the kernel and the initramfs", false);
	return r < 0 ? r : build_cmdline(m, &d->cmdline);
}

static int check_hypervisor(const struct machine_config *c, const struct snapshot *s)
{
	const bool of_qemu = snapshot_is_of_qemu(s);

	if (of_qemu == (c->hypervisor == HYPERVISOR_QEMU))
		return 0;
	if (of_qemu)
		return err_set(ENOTSUP, "the checkpoint is of a microVM on QEMU, and can only be "
					"restored on QEMU");
	return err_set(ENOTSUP,
		"the checkpoint is of a microVM on KVM, and can only be restored on KVM%s%s",
		c->why_not_kvm ? ": " : "", c->why_not_kvm ? c->why_not_kvm : "");
}

/*
 * Reads the snapshot from which a restored machine starts. On KVM such a machine needs no kernel.
 */
static int open_snapshot(
	struct monitor *m, struct engine_description *d, struct strbuf *bytes, struct snapshot *ret)
{
	struct checkpoint_owner owner;

	int r = fd_read_all(m->a->restore->state, bytes, SNAPSHOT_MAX, "the snapshot");
	if (r >= 0)
		r = snapshot_open(ret, bytes->s, bytes->len);
	if (r >= 0)
		r = check_hypervisor(m->a->machine, ret);
	if (r >= 0)
		r = checkpoint_read_owner(ret, &owner);
	if (r < 0)
		return r;
	m->streams.agent_port = owner.agent_port;
	m->next_process = owner.next_process;
	d->snapshot = ret;
	d->snapshot_memory = m->a->restore->memory;
	return 0;
}

static int build_machine(struct monitor *m, struct engine_description *d)
{
	const struct machine_config *c = m->a->machine;
	struct guest_kernel kernel = GUEST_KERNEL_INIT;
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct snapshot snapshot;
	const struct share_options share = {
		d->log, c->host_locks, c->cpu_limited, c->hypervisor == HYPERVISOR_QEMU};

	int r = m->a->restore ? open_snapshot(m, d, &bytes, &snapshot) : 0;
	/* QEMU loads the kernel before it loads the snapshot over it. */
	if (r >= 0 && (!m->a->restore || c->hypervisor == HYPERVISOR_QEMU))
		r = open_kernel(m, d, &kernel);
	if (r >= 0)
		r = open_taps(m, d);
	if (r >= 0)
		r = open_image(c, &d->image);
	if (r >= 0 && share_needed(m->a->plan))
		r = share_start(&m->share, m->a->plan, m->a->slots, &share);
	log_debug("microvm: file server");
	spans_mark(m, "open the network, and start the file server", false);
	d->share = m->share.sock;
	d->share_carrier = m->share.carrier;
	if (r >= 0)
		r = start_disk_server(m, d);
	if (r >= 0)
		r = take_backends(m, d);
	if (r >= 0)
		r = monitor_make_seed(m, &d->seed);
	if (r >= 0)
		r = template_choose(m, d, &kernel);
	if (r >= 0)
		r = template_start(m, d, &kernel);
	template_release(&m->template.found);
	/*
	 * If a restore has failed, the error message gets the file server's last lines of the log,
	 * because the file server writes there why it could not load its state.
	 */
	if (r < 0 && m->a->restore)
		r = monitor_server_words(m, r);
	log_debug("microvm: built");
	/*
	 * The monitor closes the socket of the file server, because QEMU has its own copy, and the
	 * file server would not notice the end of QEMU if the monitor kept the socket open.
	 */
	if (c->hypervisor == HYPERVISOR_QEMU)
		fd_close(&m->share.sock);
	guest_kernel_release(&kernel);
	return r;
}

int monitor_boot(struct monitor *m)
{
	_cleanup_fd_ int log = -EBADF, guest_agent = -EBADF;
	struct engine_description d = {.config = m->a->machine,
		.kernel = -EBADF,
		.initramfs = -EBADF,
		.share = -EBADF,
		.share_carrier = -EBADF,
		.image = -EBADF,
		.seed = -EBADF,
		.firmware = -EBADF,
		.firmware_vars = -EBADF,
		.streams = &m->streams};

	int r = clock_watch(&m->clock);
	if (r >= 0)
		r = open_log(m, &log);
	if (r >= 0)
		r = open_guest_agent(m, &guest_agent);
	d.log = log;
	d.guest_agent = guest_agent;
	if (r >= 0)
		r = build_machine(m, &d);
	fd_close(&d.image);
	fd_close(&d.seed);
	fd_close(&d.firmware);
	fd_close(&d.firmware_vars);
	if (m->a->restore) {
		close(m->a->restore->state);
		close(m->a->restore->memory);
	}
	/*
	 * The slots of the plan can be closed now, because the file server has its own copies of
	 * their descriptors.
	 */
	for (int i = 0; i < m->a->plan->nslots; i++)
		fd_close(&m->a->slots[i]);
	return r;
}
