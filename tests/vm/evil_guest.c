/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest. It is a static program. As the machine's first process (rdinit=/evil) it attacks
 * the monitor as the variable "evil" on the kernel's command line says, and uses caisson's
 * initramfs and modules. As a program in a container it does what its argument says.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AGENT_PORT 1024
#define STREAM_PORTS 0x10000u

static int connect_to(uint32_t port)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0) {
		int code = errno;
		if (fd >= 0)
			close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

/*
 * Connects to the port on which the monitor waits for the guest's agent. The function tries again
 * for some time, because the vsock device may appear a moment after the guest has started.
 */
static int connect_agent(void)
{
	for (int i = 0; i < 500; i++) {
		int fd = connect_to(AGENT_PORT);
		if (fd >= 0)
			return fd;
		usleep(10000);
	}
	printf("evil: no agent port: %s\n", strerror(errno));
	return -1;
}

static void say(int fd, const char *json)
{
	const uint32_t head[2] = {(uint32_t)strlen(json), 0};

	(void)!write(fd, head, sizeof(head));
	(void)!write(fd, json, strlen(json));
}

/*
 * Connects to ports on which no one listens, and to the agent's port, which has a connection
 * already. The monitor must refuse all of these connections.
 */
static int knock(void)
{
	unsigned answered = 0, other = 0;

	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t port = i < 2000 ? i : STREAM_PORTS + (i - 2000);
		int fd = connect_to(port);
		if (fd >= 0) {
			answered++;
			close(fd);
		} else if (errno != ECONNRESET && errno != ECONNREFUSED) {
			other++;
		}
	}
	printf("evil: knocked: %u answered, %u not refused\n", answered, other);
	return answered || other;
}

static void noise(int fd, size_t len)
{
	unsigned char text[4096];

	for (size_t done = 0; done < len; done += sizeof(text)) {
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (unsigned char)rand();
		if (write(fd, text, sizeof(text)) < 0)
			return;
	}
}

static int be_agent(const char *what)
{
	static const char hello[] = "{\"type\":\"hello\",\"version\":3,\"kernel\":\"6.1\"}";
	int fd = connect_agent();

	if (fd < 0)
		return 1;
	if (strcmp(what, "noise") == 0)
		noise(fd, 1 << 20);
	else if (strcmp(what, "hello") == 0)
		say(fd, hello);
	else if (strcmp(what, "close") == 0)
		close(fd);
	for (;;)
		pause();
}

static void load_modules(FILE *list)
{
	char line[256];

	while (fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		int fd = open(line, O_RDONLY | O_CLOEXEC);
		(void)syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
}

/*
 * Loads the drivers of the devices, which are modules in a distribution's kernel, and opens the
 * console, which may appear later than this process starts.
 */
static void find_devices(void)
{
	FILE *list = fopen("/modules.list", "re");
	int fd = -1;

	if (list) {
		load_modules(list);
		fclose(list);
	}
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	for (int i = 0; i < 500 && (fd = open("/dev/console", O_RDWR)) < 0; i++)
		usleep(10000);
	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : getenv("evil");

	setvbuf(stdout, NULL, _IONBF, 0);
	if (argc > 1)
		return strcmp(what, "knock") == 0 ? knock() : 2;
	if (!what)
		return 2;
	find_devices();
	printf("evil: %s\n", what);
	if (strncmp(what, "agent-", 6) == 0)
		return be_agent(what + 6);
	if (strcmp(what, "panic") == 0)
		return 1; /* process 1 ends here, which makes the kernel panic */
	if (strcmp(what, "console") == 0) {
		noise(1, 1 << 18);
		printf("\033[2Jlast words\n");
	}
	reboot(strcmp(what, "reboot") == 0 ? RB_AUTOBOOT : RB_POWER_OFF);
	return 1;
}
