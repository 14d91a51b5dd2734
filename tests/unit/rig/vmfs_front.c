/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vmfs_front.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "unit/rig/child.h"
#include "vm/fs/vmfs.h"

static void start_server(struct front *f, struct vmfs_config c)
{
	c.sock = front_open(f);
	c.locks = true;
	strcpy(f->dir, "/tmp/vmfs-test.XXXXXX");
	CHECK(mkdtemp(f->dir));
	f->server = fork();
	CHECK(f->server >= 0);
	if (f->server == 0) {
		c.root = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		c.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(f->sock);
		munmap(f->ram, MEMORY);
		int r = vmfs_serve(&c);
		if (r < 0)
			fprintf(stderr, "# server: %s\n", err_msg());
		/*
		 * The server's process ends with exit() and not with _exit(), so that LeakSanitizer
		 * looks for leaks.
		 */
		exit(r == 0 ? 0 : r == -EPROTO ? 3 : 4);
	}
	close(c.sock);
}

void front_begin_with(struct front *f, bool read_only, uint32_t max_nodes, uint32_t max_descriptors)
{
	start_server(f, (struct vmfs_config){.read_only = read_only,
				.max_nodes = max_nodes,
				.max_descriptors = max_descriptors,
				/*
				 * The limit of file handles is small too if a test allows few
				 * descriptors, because such a test also checks this limit.
				 */
				.max_handles = max_descriptors > 100 ? max_descriptors : 16});
}

void front_begin(struct front *f, bool read_only, uint32_t max_nodes)
{
	front_begin_with(f, read_only, max_nodes, 100);
}

void front_begin_watching(struct front *f, uint32_t watch_us)
{
	start_server(f, (struct vmfs_config){.watch_us = watch_us,
				.max_nodes = 100,
				.max_descriptors = 100,
				.max_handles = 100});
}

int front_end(struct front *f)
{
	char command[128];
	int status;

	shutdown(f->sock, SHUT_WR);
	CHECK(waitpid(f->server, &status, 0) == f->server);
	front_close(f);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	CHECK(system(command) == 0);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

int front_fuse(struct front *f, uint32_t opcode, uint64_t node, const void *args, size_t len,
	const void *more, size_t more_len)
{
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + len + more_len),
		.opcode = opcode,
		.unique = ++f->unique,
		.nodeid = node,
		.uid = f->uid,
		.gid = f->gid};
	struct fuse_out_header out;

	memcpy(f->ram + DATA_IN, &h, sizeof(h));
	if (len)
		memcpy(f->ram + DATA_IN + sizeof(h), args, len);
	if (more_len)
		memcpy(f->ram + DATA_IN + sizeof(h) + len, more, more_len);
	front_desc(f, 0, GUEST + DATA_IN, h.len, VRING_DESC_F_NEXT, 1);
	front_desc(f, 1, GUEST + DATA_OUT, 0x100000, VRING_DESC_F_WRITE, 0);
	front_kick(f, 0);
	int n = front_wait(f);
	if (n == 0)
		return INT_MIN;
	CHECK(n >= (int)sizeof(out));
	memcpy(&out, f->ram + DATA_OUT, sizeof(out));
	CHECK((int)out.len == n && out.unique == f->unique);
	return out.error;
}

const void *front_reply(const struct front *f)
{
	return f->ram + DATA_OUT + sizeof(struct fuse_out_header);
}

void front_fuse_init(struct front *f)
{
	struct fuse_init_in in = {.major = 7, .minor = 36, .flags = ~(uint32_t)FUSE_INIT_EXT};

	CHECK(front_fuse(f, FUSE_INIT, 0, &in, sizeof(in), NULL, 0) == 0);
}

int front_name(struct front *f, uint32_t opcode, uint64_t dir, const char *name)
{
	return front_fuse(f, opcode, dir, NULL, 0, name, strlen(name) + 1);
}

uint64_t front_entry(const struct front *f)
{
	const struct fuse_entry_out *e = front_reply(f);

	return e->nodeid;
}
