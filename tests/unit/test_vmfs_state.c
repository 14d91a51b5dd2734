/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests that the virtio-fs server's state survives a snapshot (vm/fs/state.c): the numbers by which
 * the guest names nodes and open files must mean the same in a new session of the server. The
 * sessions run in the test's process, without vhost-user.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "vm/fs/fs.h"
#include "vm/snapshot/format.h"

#define ENTRIES 700 /* more entries than one call of getdents64(2) returns */

static char dir[64];
static struct vmfs_config config;
static struct fs_session session;
/* the session's state that was saved last, as a snapshot's file */
static struct snapshot_writer state;
static union {
	struct fuse_out_header head;
	uint8_t bytes[FS_REPLY_MAX];
} answer;

static int host(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int host(const char *format, ...)
{
	char command[512];
	va_list args;
	int n = snprintf(command, sizeof(command), "cd %s && ", dir);

	va_start(args, format);
	vsnprintf(command + n, sizeof(command) - (size_t)n, format, args);
	va_end(args);
	return system(command);
}

/*
 * Starts a session of the server. If `cloned` is set, the server reaches the directory through a
 * new mount, which has another mount id than before.
 */
static void begin(bool cloned)
{
	config = (struct vmfs_config){
		.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.root = cloned ? (int)syscall(SYS_open_tree, -1, dir,
					 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
			       : open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.locks = true,
		.max_nodes = 5000,
		.max_descriptors = 100,
		.max_handles = 50};
	assert_true(config.root >= 0 && config.proc >= 0);
	assert_int_equal(fs_session_init(&session, &config), 0);
}

static void end(void)
{
	fs_session_release(&session);
	fd_close(&config.root);
	fd_close(&config.proc);
}

/*
 * Sends a FUSE request to the session. Returns the error in the answer. reply() returns the part of
 * the answer that follows its header.
 */
static int fuse(uint32_t opcode, uint64_t node, const void *args, size_t len, const char *more)
{
	uint8_t in[4096];
	const size_t more_len = more ? strlen(more) + (opcode != FUSE_WRITE) : 0;
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + len + more_len),
		.opcode = opcode,
		.unique = 5,
		.nodeid = node};
	struct iovec from = {in, h.len}, to = {&answer, sizeof(answer)};

	memcpy(in, &h, sizeof(h));
	if (len)
		memcpy(in + sizeof(h), args, len);
	if (more_len)
		memcpy(in + sizeof(h) + len, more, more_len);
	int n = fs_handle(
		&session, &(struct fs_request){
				  .in = &from, .nin = 1, .out = &to, .nout = 1, .give_up = true});
	assert_true(n >= (int)sizeof(answer.head) || opcode == FUSE_FORGET);
	return answer.head.error;
}

static const void *reply(void)
{
	return answer.bytes + sizeof(answer.head);
}

static void init(void)
{
	struct fuse_init_in in = {.major = 7, .minor = 36, .flags = ~(uint32_t)FUSE_INIT_EXT};

	assert_int_equal(fuse(FUSE_INIT, 0, &in, sizeof(in), NULL), 0);
}

static uint64_t look_up(uint64_t in, const char *name)
{
	assert_int_equal(fuse(FUSE_LOOKUP, in, NULL, 0, name), 0);
	return ((const struct fuse_entry_out *)reply())->nodeid;
}

static int getattr(uint64_t node, struct fuse_attr *ret)
{
	struct fuse_getattr_in in = {0};
	int e = fuse(FUSE_GETATTR, node, &in, sizeof(in), NULL);

	*ret = ((const struct fuse_attr_out *)reply())->attr;
	return e;
}

static uint64_t open_it(uint32_t opcode, uint64_t node, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};

	assert_int_equal(fuse(opcode, node, &in, sizeof(in), NULL), 0);
	return ((const struct fuse_open_out *)reply())->fh;
}

static int write_to(uint64_t node, uint64_t fh, uint64_t offset, const char *text)
{
	struct fuse_write_in in = {.fh = fh, .offset = offset, .size = (uint32_t)strlen(text)};

	return fuse(FUSE_WRITE, node, &in, sizeof(in), text);
}

/*
 * Reads the directory entries after `cookie` and counts the names "f0", "f1" and so on in `seen`.
 * Returns the cookie of the last entry, or 0 at the end of the directory.
 */
static uint64_t read_entries(uint64_t node, uint64_t fh, uint64_t cookie, unsigned *seen)
{
	struct fuse_read_in in = {.fh = fh, .offset = cookie, .size = 4096};

	assert_int_equal(fuse(FUSE_READDIR, node, &in, sizeof(in), NULL), 0);
	const uint8_t *at = reply(), *last = answer.bytes + answer.head.len;
	uint64_t next = 0;
	while (at < last) {
		const struct fuse_dirent *d = (const void *)at;

		if (d->name[0] == 'f')
			seen[atoi(d->name + 1)]++;
		next = d->off;
		at += FUSE_DIRENT_SIZE(d);
	}
	return next;
}

static void save(int expected)
{
	int r = snapshot_begin(&state);

	assert_int_equal(r, 0);
	assert_int_equal(snapshot_section(&state, SNAPSHOT_DEVICE, 0), 0);
	r = fs_session_save(&session, &state);
	if (r != expected)
		fail_msg("%d: %s", r, err_msg());
	if (r >= 0)
		assert_int_equal(snapshot_finish(&state), 0);
}

static int load(void)
{
	struct snapshot_part p;
	struct snapshot s;

	assert_int_equal(snapshot_open(&s, state.bytes.s, state.bytes.len), 0);
	assert_int_equal(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &p), 0);
	int r = fs_session_load(&session, &p);
	return r < 0 ? r : snapshot_end(&p);
}

static int setup(void **data)
{
	strcpy(dir, "/tmp/vmfs-state.XXXXXX");
	return !mkdtemp(dir) ||
	       host("mkdir d e; echo one >d/one; echo two >d/two; echo three >e/3; "
		    "ln -s one d/link");
}

static int teardown(void **data)
{
	snapshot_release(&state);
	assert_int_equal(chdir("/"), 0);
	return host("cd /; rm -rf %s", dir);
}

static void nodes_and_files(void **data)
{
	struct fuse_attr one, link, two, after;

	begin(false);
	init();
	uint64_t d = look_up(FUSE_ROOT_ID, "d"), n1 = look_up(d, "one"), n2 = look_up(d, "two");
	uint64_t nl = look_up(d, "link");
	uint64_t gone = look_up(look_up(FUSE_ROOT_ID, "e"), "3");
	assert_int_equal(fuse(FUSE_FORGET, gone, &(struct fuse_forget_in){1}, 8, NULL), 0);
	uint64_t wr = open_it(FUSE_OPEN, n1, O_RDWR), rd = open_it(FUSE_OPEN, n2, O_RDONLY);
	assert_int_equal(write_to(n1, wr, 4, "before\n"), 0);
	assert_int_equal(getattr(n1, &one), 0);
	assert_int_equal(getattr(n2, &two), 0);
	assert_int_equal(getattr(nl, &link), 0);
	save(0);
	end();
	begin(geteuid() == 0);
	assert_int_equal(load(), 0);
	assert_int_equal(getattr(n1, &after), 0);
	assert_memory_equal(&after, &one, sizeof(one));
	assert_int_equal(getattr(nl, &after), 0);
	assert_int_equal(after.ino, link.ino);
	assert_int_equal(write_to(n1, wr, 11, "after\n"), 0);
	assert_int_equal(host("test \"$(cat d/one)\" = \"$(printf 'one\\nbefore\\nafter')\""), 0);
	assert_int_equal(write_to(n2, rd, 0, "x"), -EBADF);
	/*
	 * A lookup must find the node that the snapshot has for this file, and a file that the
	 * guest has forgotten must get a new node number.
	 */
	assert_int_equal(look_up(d, "one"), n1);
	uint64_t again = look_up(look_up(FUSE_ROOT_ID, "e"), "3");
	assert_true(again != gone && again != n1 && again != n2 && again != d && again != nl);
	assert_int_equal(getattr(gone, &after), -ESTALE);
	/*
	 * The snapshot has saved how often the guest has looked up each node, so the node must
	 * vanish when the guest forgets its only lookup.
	 */
	struct fuse_release_in release = {.fh = rd};
	assert_int_equal(fuse(FUSE_RELEASE, n2, &release, sizeof(release), NULL), 0);
	assert_int_equal(fuse(FUSE_FORGET, n2, &(struct fuse_forget_in){1}, 8, NULL), 0);
	assert_int_equal(getattr(n2, &after), -ESTALE);
	end();
}

/*
 * Checks that a guest which had read a part of a directory before the snapshot gets the rest after
 * the restore, and gets each entry once.
 */
static void directories(void **data)
{
	unsigned seen[ENTRIES] = {0};

	assert_int_equal(host("cd e && seq -f f%%g 0 %d | xargs touch", ENTRIES - 1), 0);
	begin(false);
	init();
	uint64_t e = look_up(FUSE_ROOT_ID, "e"), fh = open_it(FUSE_OPENDIR, e, 0);
	uint64_t cookie = read_entries(e, fh, 0, seen);
	cookie = read_entries(e, fh, cookie, seen);
	save(0);
	end();
	begin(false);
	assert_int_equal(load(), 0);
	while ((cookie = read_entries(e, fh, cookie, seen)))
		;
	for (unsigned i = 0; i < ENTRIES; i++)
		assert_int_equal(seen[i], 1);
	end();
}

/*
 * Checks files that the guest knows but has not open, and that the host deletes, moves or replaces
 * between snapshot and restore. Their nodes must be stale, and all other nodes must still work.
 */
static void lost_nodes(void **data)
{
	struct fuse_attr attr;

	begin(false);
	init();
	uint64_t d = look_up(FUSE_ROOT_ID, "d"), n1 = look_up(d, "one"), n2 = look_up(d, "two");
	uint64_t e = look_up(FUSE_ROOT_ID, "e"), n3 = look_up(e, "3");
	save(0);
	end();
	assert_int_equal(host("rm d/one; mv e f; echo 3 >d/new; mv d/new d/two"), 0);
	begin(false);
	assert_int_equal(load(), 0);
	assert_int_equal(getattr(d, &attr), 0);
	assert_int_equal(getattr(n1, &attr), -ESTALE);
	assert_int_equal(getattr(n2, &attr), -ESTALE);
	assert_int_equal(getattr(n3, &attr), -ESTALE);
	assert_true(look_up(d, "two") != n2);
	end();
}

static void refused_load(const char *change, const char *text)
{
	begin(false);
	init();
	uint64_t n1 = look_up(look_up(FUSE_ROOT_ID, "d"), "one");
	(void)open_it(FUSE_OPEN, n1, O_RDWR);
	save(0);
	end();
	assert_int_equal(host("%s", change), 0);
	begin(false);
	assert_true(load() < 0);
	if (!strstr(err_msg(), text))
		fail_msg("the message is: %s", err_msg());
	end();
	snapshot_release(&state);
}

static void open_files_must_be_there(void **data)
{
	refused_load("mv d/one d/other", "/d/one, which the guest has open, is gone or is another");
	assert_int_equal(host("cp d/other d/one"), 0);
	refused_load("cp d/one d/x; mv d/x d/one", "/d/one, which the guest has open, is gone or");
	refused_load("mv d g; ln -s g d", "/d/one, which the guest has open, is gone or");
}

static void what_cannot_be_saved(void **data)
{
	struct fuse_lk_in lock = {
		.owner = 7, .lk = {.start = 0, .end = 9, .type = F_WRLCK, .pid = 1}};

	begin(false);
	init();
	uint64_t d = look_up(FUSE_ROOT_ID, "d"), n1 = look_up(d, "one");
	uint64_t fh = open_it(FUSE_OPEN, n1, O_RDWR);
	lock.fh = fh;
	assert_int_equal(fuse(FUSE_SETLK, n1, &lock, sizeof(lock), NULL), 0);
	save(-ENOTSUP);
	assert_non_null(strstr(err_msg(), "holds 1 file locks on the host"));
	snapshot_release(&state);
	struct fuse_flush_in flush = {.fh = fh, .lock_owner = 7};
	assert_int_equal(fuse(FUSE_FLUSH, n1, &flush, sizeof(flush), NULL), 0);
	assert_int_equal(fuse(FUSE_UNLINK, d, NULL, 0, "one"), 0);
	save(-ENOTSUP);
	assert_non_null(strstr(err_msg(), "a file open that has no name any more"));
	end();
}

/*
 * Changes one byte of the saved state at a time and loads the state. The session must refuse the
 * state with an error message, or load it. In both cases no file may stay open after the guest has
 * sent INIT.
 */
static void hostile_states(void **data)
{
	struct snapshot_part whole;
	struct snapshot s;

	begin(false);
	init();
	uint64_t d = look_up(FUSE_ROOT_ID, "d"), n1 = look_up(d, "one");
	(void)look_up(d, "link");
	(void)open_it(FUSE_OPEN, n1, O_RDWR);
	(void)open_it(FUSE_OPENDIR, d, 0);
	save(0);
	end();
	assert_int_equal(snapshot_open(&s, state.bytes.s, state.bytes.len), 0);
	assert_int_equal(snapshot_find(&s, SNAPSHOT_DEVICE, 0, &whole), 0);
	uint8_t *bytes = (uint8_t *)whole.at;
	const size_t len = whole.left;
	unsigned failed = 0;
	for (size_t i = 0; i < len; i++) {
		static const uint8_t masks[] = {1, 0x80, 0xff};

		for (size_t m = 0; m < sizeof(masks); m++) {
			struct snapshot_part p = whole;
			struct fuse_attr attr;

			bytes[i] ^= masks[m];
			begin(false);
			int r = fs_session_load(&session, &p);
			failed += r < 0;
			assert_true(r >= 0 || *err_msg());
			(void)getattr(n1, &attr);
			init();
			assert_int_equal(session.nfiles, 0);
			end();
			bytes[i] ^= masks[m];
		}
	}
	assert_true(failed > 50);
	for (size_t cut = 0; cut < len; cut++) {
		struct snapshot_part p = {.at = bytes, .left = cut, .name = "device"};

		begin(false);
		assert_int_equal(fs_session_load(&session, &p), -EBADMSG);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nodes_and_files, setup, teardown),
		cmocka_unit_test_setup_teardown(directories, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(open_files_must_be_there, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_states, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
