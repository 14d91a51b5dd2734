/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-guest is the first process of a microVM's guest. It sets the guest up, connects to the
 * monitor on the host by vsock(7), serves the monitor, and powers the machine off. If caisson-guest
 * has to end because of an error, its last line on the console says why, and the monitor shows that
 * line.
 *
 * With the argument --service, caisson-guest is a service of the operating system of a whole
 * machine instead (service.c), and sets up and powers off nothing. `caisson machine install-agent`
 * copies the program into the disk of the machine.
 */
#include <fcntl.h>
#include <linux/random.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/guest.h"
#include "guest/setup.h"

/*
 * how long, in ms, caisson-guest waits until the vsock device has appeared and the monitor listens
 */
#define CONNECT_WAIT_MS 10000
/*
 * how long, in s, caisson-guest waits until the monitor accepts the vsock connection; the kernel's
 * default of 2 s is too short for a slow host
 */
#define ANSWER_WAIT_S 600
#define SERVICE_WAIT_S 30 /* the same for the agent of an operating system, which tries again */
#define RETRY_MAX_MS 64
#define ENTROPY_MAX 256 /* how many bytes of entropy the monitor sends after a restore at most */
#define SHARE_TAG "caisson"
#define READ_AHEAD_KB "512"
#define SERVICE "--service"
/*
 * The first and the last vsock port from which the agent of an operating system connects. A program
 * needs CAP_NET_BIND_SERVICE for a port below 1024, so the monitor knows by the port that no
 * ordinary user of the operating system poses as the agent.
 */
#define RESERVED_FIRST 512
#define RESERVED_LAST 1023

/* Binds the socket to a free port that only a privileged program can have. */
static int bind_reserved(int fd)
{
	struct sockaddr_vm here = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};

	for (here.svm_port = RESERVED_LAST; here.svm_port >= RESERVED_FIRST; here.svm_port--) {
		if (bind(fd, (const struct sockaddr *)&here, sizeof(here)) == 0)
			return 0;
		if (errno != EADDRINUSE)
			break;
	}
	return -errno;
}

static int connect_once(uint32_t port, int flags, bool reserved)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	const struct timeval wait = {.tv_sec = reserved ? SERVICE_WAIT_S : ANSWER_WAIT_S};
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &wait, sizeof(wait)) < 0)
		return -errno;
	int r = reserved ? bind_reserved(fd) : 0;
	if (r < 0)
		return r;
	if (connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(&fd);
}

/*
 * Connects to the monitor by vsock. Retries for CONNECT_WAIT_MS, because the module of the vsock
 * device was loaded just before, and the device may not be there yet. If the kernel does not know
 * vsock sockets, gives up at once, because waiting would not help.
 */
static int connect_agent(uint32_t port, bool reserved)
{
	int fd = connect_once(port, 0, reserved);

	for (int waited = 0, ms = 1; fd < 0 && fd != -EAFNOSUPPORT && waited < CONNECT_WAIT_MS;
		waited += ms) {
		nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
		ms = ms < RETRY_MAX_MS ? 2 * ms : ms;
		fd = connect_once(port, 0, reserved);
	}
	if (fd == -EAFNOSUPPORT)
		return err_set(EAFNOSUPPORT,
			"the guest's kernel has no vsock: it needs the modules vsock and "
			"vmw_vsock_virtio_transport");
	if (fd == -ENODEV)
		return err_set(ENODEV, "the guest found no vsock device");
	if (fd < 0)
		return err_set(
			-fd, "connect to the monitor at vsock port %u: %s", port, strerror(-fd));
	return fd;
}

static int connect_vsock(void *data, uint32_t port)
{
	if (port == AGENT_PORT)
		return connect_agent(port, false);
	int fd = connect_once(port, SOCK_NONBLOCK, false);
	return fd < 0 ? err_set(-fd, "connect to vsock port %u: %s", port, strerror(-fd)) : fd;
}

/*
 * Makes the kernel read more of a file at once when a program reads on or touches a page of it. A
 * request to the file server costs far more than the bytes that it brings, and the kernel's default
 * of 128 KiB makes a dozen requests of the start of a program. It is no error if that fails.
 */
static void raise_read_ahead(const char *share)
{
	char path[64];
	struct stat st;

	if (stat(share, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev),
		minor(st.st_dev));
	if (fd_write_file(AT_FDCWD, path, READ_AHEAD_KB) < 0)
		err_clear();
}

static int mount_share(void *data, const char *share)
{
	if (mount(SHARE_TAG, share, "virtiofs", 0, NULL) == 0) {
		raise_read_ahead(share);
		return 0;
	}
	if (errno == ENODEV)
		return err_set(ENODEV,
			"the guest's kernel has no virtio-fs: it needs the module virtiofs, or "
			"CONFIG_VIRTIO_FS built in; choose another kernel with vm.kernel.path");
	if (errno == EINVAL)
		return err_set(EINVAL, "the guest found no virtio-fs device \"%s\"", SHARE_TAG);
	return err_sys("mount the virtio-fs share \"%s\"", SHARE_TAG);
}

static void set_clock(void *data, uint64_t nanoseconds)
{
	const struct timespec t = {.tv_sec = (time_t)(nanoseconds / 1000000000),
		.tv_nsec = (long)(nanoseconds % 1000000000)};

	/*
	 * A failure to set the clock is only logged, because a container with a wrong clock is
	 * better than no container.
	 */
	if (clock_settime(CLOCK_REALTIME, &t) < 0)
		dprintf(STDERR_FILENO, "caisson-guest: set the clock: %m\n");
}

static int reconnect_agent(void *data, uint32_t port)
{
	return connect_agent(port, false);
}

static void add_entropy(void *data, const void *bytes, size_t len)
{
	_cleanup_fd_ int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
	struct {
		struct rand_pool_info info;
		uint8_t bytes[ENTROPY_MAX];
	} pool = {0};

	len = len < sizeof(pool.bytes) ? len : sizeof(pool.bytes);
	pool.info.entropy_count = (int)len * 8;
	pool.info.buf_size = (int)len;
	memcpy(pool.bytes, bytes, len);
	/*
	 * RNDRESEEDCRNG makes the kernel use the new bytes at once. Without it the kernel would for
	 * a while derive random numbers from the old key, and another machine from the same
	 * snapshot would derive the same numbers.
	 */
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		dprintf(STDERR_FILENO, "caisson-guest: add entropy: %m\n");
	explicit_bzero(&pool, sizeof(pool));
}

static int hold_nics(void *data, bool hold)
{
	static struct nics nics;

	return hold ? nics_release(&nics) : nics_take(&nics);
}

static int run_guest(void)
{
	static const struct guest_config config = {
		.connect = connect_vsock,
		.mount_share = mount_share,
		.set_clock = set_clock,
		.reconnect = reconnect_agent,
		.add_entropy = add_entropy,
		.hold_nics = hold_nics,
		.dir = "/run/caisson",
		.cgroup = "/container",
		.disk = "/dev/vda",
	};

	int r = setup_console();
	if (r >= 0)
		r = setup_modules();
	if (r >= 0)
		r = setup_root();
	if (r < 0)
		return r;
	setup_limits();
	setup_memory();
	return guest_serve(&config);
}

/*
 * Does what connect_vsock() does, for a service. *data becomes false if there is no monitor: the
 * kernel has no vsock, the machine no such device, or the host no listener.
 */
static int connect_service(void *data, uint32_t port)
{
	bool *monitored = data;

	if (port != AGENT_SERVICE_PORT)
		return connect_vsock(NULL, port);
	int fd = connect_agent(port, true);
	*monitored = fd != -EAFNOSUPPORT && fd != -ENODEV && fd != -ECONNRESET;
	return fd;
}

/*
 * Serves the monitor from within an operating system. Returns the exit code: 0 if there is no
 * monitor, because the machine was not started by caisson; then the init must not start the service
 * again.
 */
static int run_service(void)
{
	bool monitored = true;
	const struct guest_config config = {.data = &monitored,
		.connect = connect_service,
		.dir = "/run/caisson-agent",
		.service = true};

	if (guest_serve(&config) >= 0)
		return 0;
	dprintf(STDERR_FILENO, "caisson-agent: %s%s\n", err_msg(),
		monitored ? "" : ": this machine was not started by caisson");
	return monitored;
}

int main(int argc, char **argv)
{
	if (argc == 2 && streq(argv[1], SERVICE) && getpid() != 1)
		return run_service();
	if (getpid() != 1) {
		dprintf(STDERR_FILENO,
			"caisson-guest: this program runs only as the first process of a microVM's "
			"guest, where caisson starts it, and with " SERVICE
			" as a service of a whole machine\n");
		return 1;
	}
	if (run_guest() < 0) {
		setup_late_console();
		dprintf(STDERR_FILENO, "caisson-guest: %s\n", err_msg());
	}
	sync();
	reboot(RB_POWER_OFF);
	/*
	 * main() gets here only if reboot() has failed. It returns, because the kernel panics when
	 * process 1 ends, and the panic ends the machine too.
	 */
	return 1;
}
