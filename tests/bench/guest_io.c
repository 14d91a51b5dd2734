/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of the guests that vm.py measures; it is a static program. Its arguments are
 * the words after "--" on the kernel's command line:
 *
 *	guest_io [MILLISECONDS] TEST...
 *
 * Before the first test it always prints the line "first SECONDS", the age of the kernel's clock.
 * The tests are:
 *
 * boot    does nothing more
 * idle    sleeps for ever, so that vm.py can look at the monitor's memory
 * blk     reads and writes /dev/vda, bypassing the guest's page cache: 1 MiB in sequence, 4 KiB at
 *         random
 * blk2    does that of blk which keeps 16 requests under way, by two processes on two CPUs at once
 * fs      does the same with a file of 32 MiB on the virtio-fs share "bench", then with many small
 *         files
 * iperf3  gives eth0 the same address; iperf3 to 10.99.0.1, both ways
 * net     gives eth0 the address 10.99.0.2/24; TCP to 10.99.0.1:5001 (peer.c), both ways
 * vsock   sends to port 5001 of the host and receives from it
 *
 * Each measurement takes MILLISECONDS (default 1000) and prints one line, "= NAME AMOUNT SECONDS",
 * in which AMOUNT counts bytes or operations. Then it switches the machine off. All times are from
 * the guest's clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
#define PAGE 4096
#define DEPTH 16
#define FILE_LEN (32 * MIB)
#define STREAM_CHUNK 65536
#define PORT 5001
#define HOST_ADDRESS "10.99.0.1"
#define GUEST_ADDRESS "10.99.0.2"

static double limit = 1.0;
static char *buffer; /* buffer of 1 MiB, aligned because direct I/O demands it */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

_Noreturn static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

_Noreturn static void die(const char *what)
{
	printf("! %s: %s\n", what, strerror(errno));
	power_off();
}

static void say(const char *name, double amount, double seconds)
{
	printf("= %s %.0f %.6f\n", name, amount, seconds);
}

static uint64_t next_random(void)
{
	/* The generator is xorshift64 with a fixed start, so that every run has the same order. */
	static uint64_t s = 88172645463325252ULL;

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

/*
 * Reads or writes a disk or file in sequence until the measured time is over. Starts again at the
 * beginning when it reaches the end of the disk or file.
 */
static void sequence(const char *name, int fd, off_t len, int to_disk)
{
	double from = now(), done = 0;
	off_t at = 0;

	while (now() - from < limit) {
		ssize_t n = to_disk ? pwrite(fd, buffer, MIB, at) : pread(fd, buffer, MIB, at);
		if (n != MIB)
			die(name);
		at = at + 2 * MIB > len ? 0 : at + MIB;
		done += MIB;
	}
	if (to_disk && fsync(fd) < 0)
		die("fsync");
	say(name, done, now() - from);
}

static void at_random(const char *name, int fd, off_t len, int to_disk)
{
	double from = now(), done = 0;

	for (; now() - from < limit; done++) {
		off_t at = (off_t)(next_random() % (uint64_t)(len / PAGE)) * PAGE;
		ssize_t n = to_disk ? pwrite(fd, buffer, PAGE, at) : pread(fd, buffer, PAGE, at);
		if (n != PAGE)
			die(name);
	}
	if (to_disk && fsync(fd) < 0)
		die("fsync");
	say(name, done, now() - from);
}

/*
 * Reads or writes at random places of a disk or file, and keeps DEPTH requests under way at a time
 * (io_submit(2)). Returns how many requests were done, and sets *ret_seconds.
 */
static double at_depth(const char *name, int fd, off_t len, int to_disk, double *ret_seconds)
{
	struct iocb cb[DEPTH] = {0};
	struct io_event events[DEPTH];
	aio_context_t ctx = 0;
	long ready = DEPTH;
	double done = 0;

	if (syscall(SYS_io_setup, DEPTH, &ctx) < 0)
		die("io_setup");
	for (int i = 0; i < DEPTH; i++)
		events[i].obj = (uint64_t)(uintptr_t)&cb[i];
	double from = now();
	while (now() - from < limit) {
		struct iocb *list[DEPTH];
		for (long i = 0; i < ready; i++) {
			struct iocb *c = (struct iocb *)(uintptr_t)events[i].obj;
			*c = (struct iocb){.aio_fildes = (uint32_t)fd,
				.aio_lio_opcode = to_disk ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				.aio_buf = (uintptr_t)buffer + (uintptr_t)(c - cb) * PAGE,
				.aio_nbytes = PAGE,
				.aio_offset =
					(int64_t)(next_random() % (uint64_t)(len / PAGE)) * PAGE};
			list[i] = c;
		}
		if (syscall(SYS_io_submit, ctx, ready, list) != ready)
			die("io_submit");
		ready = syscall(SYS_io_getevents, ctx, 1L, (long)DEPTH, events, NULL);
		if (ready < 1)
			die("io_getevents");
		for (long i = 0; i < ready; i++)
			if (events[i].res != PAGE)
				die(name);
		done += (double)ready;
	}
	*ret_seconds = now() - from;
	syscall(SYS_io_destroy, ctx);
	return done;
}

static void one_at_depth(const char *name, int fd, off_t len, int to_disk)
{
	double seconds, done = at_depth(name, fd, len, to_disk, &seconds);

	say(name, done, seconds);
}

static void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		die("sched_setaffinity");
}

/*
 * Does what at_depth() does in this process and in a child at once, each on a CPU of its own, so
 * that a device with two queues uses both.
 */
static void two_at_depth(const char *name, int fd, off_t len, int to_disk)
{
	double *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double seconds;
	int status;

	if (other == MAP_FAILED)
		die("mmap");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	pin_to_cpu(pid == 0);
	for (int i = 0; pid == 0 && i < 1000; i++)
		next_random();
	double done = at_depth(name, fd, len, to_disk, &seconds);
	if (pid == 0) {
		*other = done;
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die(name);
	say(name, done + *other, seconds);
	munmap(other, PAGE);
}

static int open_disk(off_t *ret_len)
{
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 && errno != EBUSY)
		die("mount /dev");
	int fd = open("/dev/vda", O_RDWR | O_DIRECT);
	*ret_len = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (*ret_len < 2 * MIB)
		die("/dev/vda");
	return fd;
}

static void test_blk(void)
{
	off_t len;
	int fd = open_disk(&len);

	sequence("blk-write-1M", fd, len, 1);
	sequence("blk-read-1M", fd, len, 0);
	at_random("blk-write-4k", fd, len, 1);
	at_random("blk-read-4k", fd, len, 0);
	one_at_depth("blk-write-4k-q16", fd, len, 1);
	one_at_depth("blk-read-4k-q16", fd, len, 0);
	close(fd);
}

static void test_blk2(void)
{
	off_t len;
	int fd = open_disk(&len);

	two_at_depth("blk-write-4k-2xq16", fd, len, 1);
	two_at_depth("blk-read-4k-2xq16", fd, len, 0);
	close(fd);
}

/*
 * Measures three passes over many small files: the first makes, writes and closes them, the second
 * looks them up by name and reads them, the third removes them.
 */
static void small_files(void)
{
	double from = now();
	int made = 0, seen = 0, gone = 0;
	char name[64];
	struct stat st;

	mkdir("/mnt/many", 0755);
	for (; now() - from < limit; made++) {
		snprintf(name, sizeof(name), "/mnt/many/file-%d", made);
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || write(fd, name, sizeof(name)) != sizeof(name) || close(fd) < 0)
			die(name);
	}
	say("fs-create", made, now() - from);
	/*
	 * Drops the guest kernel's cache of names and inodes, so that each stat(2) below asks the
	 * virtio-fs server.
	 */
	int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (caches < 0 || write(caches, "3", 1) != 1)
		die("drop_caches");
	for (from = now(); seen < made && now() - from < limit; seen++) {
		snprintf(name, sizeof(name), "/mnt/many/file-%d", seen);
		if (stat(name, &st) < 0)
			die(name);
	}
	say("fs-stat", seen, now() - from);
	for (from = now(); gone < made; gone++) {
		snprintf(name, sizeof(name), "/mnt/many/file-%d", gone);
		if (unlink(name) < 0)
			die(name);
	}
	say("fs-unlink", gone, now() - from);
}

static void test_fs(void)
{
	mkdir("/proc", 0755);
	mkdir("/mnt", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) < 0)
		die("mount /proc");
	if (mount("bench", "/mnt", "virtiofs", 0, NULL) < 0)
		die("mount the share");
	int fd = open("/mnt/file", O_RDWR | O_CREAT | O_DIRECT, 0644);
	if (fd < 0)
		die("/mnt/file");
	for (int at = 0; at < FILE_LEN; at += MIB)
		if (pwrite(fd, buffer, MIB, at) != MIB)
			die("fill the file");
	sequence("fs-write-1M", fd, FILE_LEN, 1);
	sequence("fs-read-1M", fd, FILE_LEN, 0);
	at_random("fs-write-4k", fd, FILE_LEN, 1);
	at_random("fs-read-4k", fd, FILE_LEN, 0);
	close(fd);
	small_files();
	umount("/mnt");
}

static void configure_net(void)
{
	struct ifreq q = {.ifr_name = "eth0"};
	struct sockaddr_in *a = (struct sockaddr_in *)&q.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	a->sin_family = AF_INET;
	inet_pton(AF_INET, GUEST_ADDRESS, &a->sin_addr);
	if (fd < 0 || ioctl(fd, SIOCSIFADDR, &q) < 0)
		die("address of eth0");
	inet_pton(AF_INET, "255.255.255.0", &a->sin_addr);
	if (ioctl(fd, SIOCSIFNETMASK, &q) < 0)
		die("netmask of eth0");
	q.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &q) < 0)
		die("eth0 up");
	close(fd);
}

static int dial(int family)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PORT};
	int fd = socket(family, SOCK_STREAM, 0), r;

	inet_pton(AF_INET, HOST_ADDRESS, &in.sin_addr);
	r = family == AF_INET ? connect(fd, (struct sockaddr *)&in, sizeof(in))
			      : connect(fd, (struct sockaddr *)&vm, sizeof(vm));
	if (fd < 0 || r < 0)
		die("connect");
	return fd;
}

/*
 * Sends data until the measured time is over. The time that is printed ends when the peer confirms
 * with one byte that it has received all data.
 */
static void send_stream(const char *name, int family)
{
	int fd = dial(family);
	double done = 0;
	ssize_t n;

	if (write(fd, "S", 1) != 1)
		die(name);
	double from = now();
	while (now() - from < limit) {
		n = write(fd, buffer, STREAM_CHUNK);
		if (n < 0)
			die(name);
		done += (double)n;
	}
	if (shutdown(fd, SHUT_WR) < 0 || read(fd, buffer, 1) != 1)
		die(name);
	say(name, done, now() - from);
	close(fd);
}

static void receive_stream(const char *name, int family)
{
	int fd = dial(family);
	double done = 0;
	ssize_t n;

	if (write(fd, "R", 1) != 1)
		die(name);
	double from = now();
	while (now() - from < limit) {
		n = read(fd, buffer, STREAM_CHUNK);
		if (n <= 0)
			die(name);
		done += (double)n;
	}
	say(name, done, now() - from);
	close(fd);
}

/*
 * Measures round trips: sends one byte to the peer and waits until the peer has sent one byte back.
 */
static void ping_pong(const char *name, int family)
{
	int fd = dial(family);
	double done = 0;

	if (write(fd, "P", 1) != 1)
		die(name);
	double from = now();
	for (; now() - from < limit; done++)
		if (write(fd, "x", 1) != 1 || read(fd, buffer, 1) != 1)
			die(name);
	say(name, done, now() - from);
	close(fd);
}

/*
 * Measures a stream by iperf3, whose client the initramfs has. Its last lines say how many bits a
 * second the sender and the receiver have counted.
 */
static void run_iperf3(const char *name, const char *way)
{
	char seconds[16];
	int status;

	snprintf(seconds, sizeof(seconds), "%d", limit < 1 ? 1 : (int)limit);
	printf("iperf3 %s\n", name);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/iperf3", "iperf3", "-c", HOST_ADDRESS, "-t", seconds, "-f", "k", way, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		die("iperf3");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("first %.6f\n", now());
	if (posix_memalign((void **)&buffer, PAGE, MIB))
		die("memory");
	memset(buffer, 'c', MIB);
	for (int i = 1; i < argc; i++) {
		if (atoi(argv[i]) > 0) {
			limit = atoi(argv[i]) / 1000.0;
		} else if (!strcmp(argv[i], "idle")) {
			for (;;)
				pause();
		} else if (!strcmp(argv[i], "blk")) {
			test_blk();
		} else if (!strcmp(argv[i], "blk2")) {
			test_blk2();
		} else if (!strcmp(argv[i], "fs")) {
			test_fs();
		} else if (!strcmp(argv[i], "net")) {
			configure_net();
			send_stream("net-send", AF_INET);
			receive_stream("net-receive", AF_INET);
			ping_pong("net-ping", AF_INET);
		} else if (!strcmp(argv[i], "iperf3")) {
			configure_net();
			run_iperf3("iperf3-send", NULL);
			run_iperf3("iperf3-receive", "-R");
		} else if (!strcmp(argv[i], "vsock")) {
			send_stream("vsock-send", AF_VSOCK);
			receive_stream("vsock-receive", AF_VSOCK);
			ping_pong("vsock-ping", AF_VSOCK);
		}
	}
	puts("done");
	power_off();
}
