/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the FUSE server with sequences of requests. The server serves a tmpfs of 16 MiB of its
 * own, so that no request reaches the machine's files. The input is a list of records {opcode,
 * node, 2 bytes of length, bytes}; the fuzzer mostly replaces node numbers and file handles by ones
 * that exist. Only root can run the fuzzer.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>

#include "vm/fs/fs.h"

#define MAX_REQUESTS 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_up(struct vmfs_config *c)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("fuzz", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=1000") <
			0) {
		perror("fuzz_fuse: a tmpfs of its own (needs root)");
		exit(2);
	}
	*c = (struct vmfs_config){.sock = -EBADF,
		.locks = true,
		.max_nodes = 300,
		.max_descriptors = 64,
		.max_handles = 16,
		.cache_ms = 1000};
	c->root = open("/mnt", O_PATH | O_DIRECTORY | O_CLOEXEC);
	c->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (c->root < 0 || c->proc < 0)
		abort();
}

/*
 * Sends the requests that begin every input, because mutations would take long to find them: INIT,
 * a directory, and a file that is open for writing.
 */
static void begin(struct fs_session *s)
{
	static const struct fuse_create_in create = {
		.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};
	static const struct fuse_init_in init = {.major = 7, .minor = 36, .flags = 0x3fffffff};
	struct {
		struct fuse_in_header h;
		uint8_t args[128];
	} m = {{.len = sizeof(m.h) + sizeof(init), .opcode = FUSE_INIT}, {0}};
	uint8_t reply[4096];
	struct iovec in = {&m, sizeof(m)}, out = {reply, sizeof(reply)};
	struct fs_request r = {.in = &in, .nin = 1, .out = &out, .nout = 1};

	memcpy(m.args, &init, sizeof(init));
	if (fs_handle(s, &r) <= 0)
		abort();
	m.h = (struct fuse_in_header){
		.len = sizeof(m.h) + sizeof(create) + 5, .opcode = FUSE_CREATE, .nodeid = 1};
	memcpy(m.args, &create, sizeof(create));
	memcpy(m.args + sizeof(create), "file", 5);
	(void)!fs_handle(s, &r);
}

static uint64_t some_id(const struct fs_slots *t, uint64_t id)
{
	uint32_t i = (uint32_t)id % 8;

	return id < 0xf0 && i < t->used ? (uint64_t)t->slot[i].generation << 32 | i : id;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vmfs_config config;
	static uint8_t in_space[8192], out_space[8192];
	struct fs_session s;

	if (!config.max_nodes)
		set_up(&config);
	if (fs_session_init(&s, &config) < 0)
		abort();
	begin(&s);
	for (int n = 0; n < MAX_REQUESTS && size >= 4; n++) {
		struct fuse_in_header h = {
			.opcode = data[0], .nodeid = some_id(&s.nodes, data[1]), .unique = 1};
		size_t len = (size_t)(data[2] | data[3] << 8) % 4096;
		bool lie = data[3] & 0x80;

		data += 4;
		size -= 4;
		if (len > size)
			len = size;
		h.len = (uint32_t)(sizeof(h) + len + lie);
		memcpy(in_space, &h, sizeof(h));
		memcpy(in_space + sizeof(h), data, len);
		/*
		 * The arguments of most operations begin with a file handle, so the fuzzer replaces
		 * the first 8 bytes by a handle that exists.
		 */
		if (len >= 8) {
			uint64_t fh;

			memcpy(&fh, data, sizeof(fh));
			fh = some_id(&s.files, fh);
			memcpy(in_space + sizeof(h), &fh, sizeof(fh));
		}
		struct iovec in[2] = {{in_space, 24}, {in_space + 24, sizeof(h) + len - 24}};
		struct iovec out[2] = {{out_space, 7}, {out_space + 7, len & 1 ? 16 : 4096}};
		struct fs_request r = {.in = in, .nin = 2, .out = out, .nout = 2, .give_up = true};
		int done = fs_handle(&s, &r);
		if (done < 0 || (size_t)done > out[0].iov_len + out[1].iov_len)
			abort();
		data += len;
		size -= len;
	}
	fs_session_release(&s);
	/*
	 * Unmounting the tmpfs that the server has served frees the memory of its files before the
	 * next input.
	 */
	if (umount2("/mnt", MNT_DETACH) < 0)
		abort();
	close(config.root);
	if (mount("fuzz", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=1000") < 0)
		abort();
	config.root = open("/mnt", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return 0;
}
