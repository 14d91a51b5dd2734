/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the guest's agent without a guest, for tests/vm/test_guest_agent.py: it is the first process
 * of new pid, mount, network, IPC and UTS namespaces on this machine's kernel. The Unix socket
 * DIR/port-N stands for the host's vsock port N, and DIR/share-source for the share. The exit code
 * is the agent's, and its message goes to standard error.
 *
 *	guest_main DIR CGROUP
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/guest.h"

static int connect_blocking(void *data, uint32_t port)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys("make a socket");
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/port-%u", (const char *)data, port);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_sys("connect to %s", addr.sun_path);
	return take_fd(&fd);
}

static int connect_port(void *data, uint32_t port)
{
	_cleanup_fd_ int fd = connect_blocking(data, port);

	/*
	 * As with vsock, the stream of the agent itself is blocking, and the streams of the
	 * container's processes are not.
	 */
	if (fd >= 0 && port != AGENT_PORT && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys("set a socket non-blocking");
	return take_fd(&fd);
}

static int mount_share(void *data, const char *share)
{
	char source[4096];

	snprintf(source, sizeof(source), "%s/share-source", (const char *)data);
	return mount(source, share, NULL, MS_BIND | MS_REC, NULL) < 0 ? err_sys("bind the share")
								      : 0;
}

static int serve(char *dir, const char *cgroup)
{
	char own[4096];

	snprintf(own, sizeof(own), "%s/guest", dir);
	const struct guest_config config = {
		.data = dir,
		.connect = connect_port,
		.mount_share = mount_share,
		.reconnect = connect_blocking,
		.dir = own,
		.cgroup = cgroup,
		.disk = "/dev/vda",
	};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys("ask to die with the test");
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
		mount("proc", "/proc", "proc", 0, NULL) < 0)
		return err_sys("mount /proc");
	return guest_serve(&config);
}

int main(int argc, char **argv)
{
	int status;

	if (argc != 3) {
		fprintf(stderr, "usage: guest_main DIR CGROUP\n");
		return 2;
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
		unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) <
			0) {
		perror("guest_main");
		return 2;
	}
	pid_t pid = fork();
	if (pid == 0) {
		int r = serve(argv[1], argv[2]);
		if (r < 0)
			fprintf(stderr, "%s\n", err_msg());
		exit(r < 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 2;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
