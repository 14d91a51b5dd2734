/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boots the built-in machine without caisson, for tests on a host whose KVM runs Linux:
 *
 *	vm_boot [-m MIB] [-c CPUS] [-b PAGES] [-d DISK]... [-s TAG=SOCKET]... [-n TAP]...
 *		[-k TAP]... [-u FD]... [-q QUEUES] [-v SOCKET] KERNEL INITRAMFS CMDLINE
 *
 * -b: a balloon that asks the guest for PAGES pages. -n: a network device on that tap, which must
 * exist. -k: one that vhost-net serves. -u: a disk of a vhost-user back end, to which the inherited
 * descriptor FD is connected, with as many queues as the -q before it says. -v: each vsock stream
 * that the guest opens is connected to that Unix socket. The guest's console goes to standard
 * output. The exit code is 0 if the guest switched itself off, 3 if it ended otherwise, and 1 if
 * the machine could not be built. The last line on standard error says how the machine ended and
 * after how many milliseconds.
 */
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/str.h"
#include "vm/machine.h"

struct arguments {
	struct machine_options o;
	struct machine_disk disks[MACHINE_DISKS_MAX];
	struct machine_share shares[MACHINE_SHARES_MAX];
	struct virtio_net_options nics[MACHINE_NICS_MAX];
	struct virtio_vsock_options vsock;
	uint32_t balloon_pages;
	unsigned queues; /* of the disks that back ends serve */
};

static int connect_to(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys("socket");
	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(ENAMETOOLONG, "%s", path);
	strcpy(a.sun_path, path);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return err_sys("connect to %s", path);
	return take_fd(&fd);
}

static int add_share(struct arguments *a, char *text)
{
	char *at = strchr(text, '=');

	if (!at || a->o.share_count == MACHINE_SHARES_MAX)
		return err_set(EINVAL, "-s %s: expected TAG=SOCKET", text);
	*at = '\0';
	int sock = connect_to(at + 1);
	if (sock < 0)
		return sock;
	a->shares[a->o.share_count++] = (struct machine_share){.tag = text, .sock = sock};
	return 0;
}

static int add_disk(struct arguments *a, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_sys("%s", path);
	if (a->o.disk_count == MACHINE_DISKS_MAX)
		return err_set(EINVAL, "-d %s: too many disks", path);
	a->disks[a->o.disk_count++] = (struct machine_disk){.fd = fd, .serial = "vm_boot"};
	return 0;
}

static int add_served_disk(struct arguments *a, const char *fd)
{
	if (a->o.disk_count == MACHINE_DISKS_MAX)
		return err_set(EINVAL, "-u %s: too many disks", fd);
	a->disks[a->o.disk_count++] = (struct machine_disk){
		.fd = atoi(fd), .remote = true, .peer = "-u", .queues = a->queues, .serial = ""};
	return 0;
}

static int open_tap(const char *name)
{
	struct ifreq q = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header = sizeof(struct virtio_net_hdr_v1), little_endian = 1;
	_cleanup_fd_ int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_sys("/dev/net/tun");
	snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &q) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
		ioctl(fd, TUNSETVNETLE, &little_endian) < 0)
		return err_sys("tap %s", name);
	return take_fd(&fd);
}

static int add_nic(struct arguments *a, const char *name, bool in_kernel)
{
	int vhost = in_kernel ? open("/dev/vhost-net", O_RDWR | O_CLOEXEC) : -EBADF;

	if (in_kernel && vhost < 0)
		return err_sys("/dev/vhost-net");
	if (a->o.nic_count == MACHINE_NICS_MAX)
		return err_set(EINVAL, "-n %s: too many network devices", name);
	int tap = open_tap(name);
	if (tap < 0)
		return tap;
	a->nics[a->o.nic_count] = (struct virtio_net_options){.taps = {tap},
		.in_kernel = in_kernel,
		.vhost = {vhost},
		.mac = {2, 0, 0, 0, 0, (uint8_t)a->o.nic_count},
		.mtu = 1500,
		.offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6};
	a->o.nic_count++;
	return 0;
}

static int connect_stream(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	int fd = connect_to(ctx);

	if (fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		fd_close(&fd);
	return fd < 0 ? -ECONNREFUSED : fd;
}

static void add_vsock(struct arguments *a, char *path)
{
	a->vsock = (struct virtio_vsock_options){
		.cid = 3, .event_queue = true, .connect = connect_stream, .ctx = path};
	a->o.vsock = &a->vsock;
}

static int parse(int argc, char **argv, struct arguments *a)
{
	int r = 0, c;

	while (r >= 0 && (c = getopt(argc, argv, "m:c:b:d:u:q:s:n:k:v:")) >= 0) {
		if (c == 'm')
			a->o.memory.size = strtoull(optarg, NULL, 10) << 20;
		else if (c == 'c')
			a->o.cpus = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'b')
			a->balloon_pages = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'd')
			r = add_disk(a, optarg);
		else if (c == 'u')
			r = add_served_disk(a, optarg);
		else if (c == 'q')
			a->queues = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 's')
			r = add_share(a, optarg);
		else if (c == 'n')
			r = add_nic(a, optarg, false);
		else if (c == 'k')
			r = add_nic(a, optarg, true);
		else if (c == 'v')
			add_vsock(a, optarg);
		else
			r = err_set(EINVAL, "see the head of tests/vm/vm_boot.c");
	}
	if (r < 0)
		return r;
	if (argc - optind != 3)
		return err_set(EINVAL, "expected KERNEL INITRAMFS CMDLINE");
	a->o.kernel = open(argv[optind], O_RDONLY | O_CLOEXEC);
	if (a->o.kernel < 0)
		return err_sys("%s", argv[optind]);
	a->o.initramfs = open(argv[optind + 1], O_RDONLY | O_CLOEXEC);
	if (a->o.initramfs < 0)
		return err_sys("%s", argv[optind + 1]);
	a->o.cmdline = argv[optind + 2];
	a->o.balloon = a->balloon_pages > 0;
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const ends[] = {
		"running", "poweroff", "reset", "stopped", "fault", "lost"};
	struct arguments a = {.o = {.kvm = "/dev/kvm",
				      .memory = {.size = 512 << 20, .pages = VM_PAGES_TRANSPARENT},
				      .cpus = 1,
				      .console_in = -EBADF,
				      .console_out = STDOUT_FILENO}};
	struct machine *m = calloc(1, sizeof(*m));
	struct timespec from, to;

	if (!m)
		return 1;
	a.o.disks = a.disks;
	a.o.shares = a.shares;
	a.o.nics = a.nics;
	signal(SIGPIPE, SIG_IGN);
	clock_gettime(CLOCK_MONOTONIC, &from);
	int r = parse(argc, argv, &a);
	if (r >= 0)
		r = machine_build(m, &a.o);
	if (r >= 0) {
		if (a.o.balloon)
			virtio_balloon_set_target(&m->balloon, a.balloon_pages);
		r = machine_run(m);
		clock_gettime(CLOCK_MONOTONIC, &to);
		for (unsigned i = 0; i < m->slot_count; i++)
			if (m->slots[i].device->broken[0])
				fprintf(stderr, "broken: %s\n", m->slots[i].device->broken);
		if (a.o.balloon)
			fprintf(stderr, "balloon: %u pages given, %llu discarded\n",
				virtio_balloon_actual(&m->balloon),
				(unsigned long long)m->balloon.discarded);
		if (r >= 0)
			fprintf(stderr, "end: %s (%s) after %ld ms\n", ends[r], m->cpus.why,
				(to.tv_sec - from.tv_sec) * 1000 +
					(to.tv_nsec - from.tv_nsec) / 1000000);
		machine_release(m);
	}
	free(m);
	if (r < 0) {
		fprintf(stderr, "vm_boot: %s\n", err_msg());
		return 1;
	}
	return r == VM_END_POWEROFF ? 0 : 3;
}
