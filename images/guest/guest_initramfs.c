/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The bytes of the initramfs depend only on the kernel's release, the guest's
 * init, the modules and the user's initrd. make_key() describes all of these in a text, the key,
 * which contains the device, inode, size and times of change of each file. Making the key takes one
 * stat(2) for each file, and a package update changes the key. The name of the cache entry contains
 * the hash of the key.
 *
 *	hit:  open CACHE/initramfs-HASH, check its owner and mode
 *	miss: flock CACHE/lock, look again (another process may have made the entry),
 *	      write CACHE/initramfs-HASH.tmp, fsync, rename
 *
 * A reader never takes the lock. A process that dies while it writes an entry leaves a .tmp file,
 * which the next process replaces. If the cache cannot be used, the initramfs is made in a memfd at
 * each start, which only takes longer.
 */
#include "images/guest/guest_initramfs.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "images/guest/cache.h"
#include "images/guest/initramfs.h"

/*
 * a part of the cache's key; a developer who changes how the files are packed has to increase it,
 * so that old entries are not used
 */
#define FORMAT 2
#define PREFIX "initramfs-"
#define LAST_PAGE 4096
#define LAST_PAGE_USED 4 /* bytes of the initramfs in its last page */
/*
 * how many entries stay in the cache: enough for a few kernels and several versions of caisson-init
 */
#define KEPT 8
/*
 * how long, in ms, a process waits while another process packs an initramfs; packing takes a tenth
 * of a second
 */
#define LOCK_WAIT_MS 30000
#define MODULE_MAX (64 << 20) /* largest unpacked module, in bytes */
#define MODULES "modules"

static int key_file(struct strbuf *key, const char *field, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys("%s %s", field, path);
	return cache_key_stat(key, path, &st);
}

static int make_key(const struct guest_initramfs *g, struct strbuf *key)
{
	int r = strbuf_addf(key, "%d %s %d\n", FORMAT, g->release, g->unpack);

	if (r == 0)
		r = key_file(key, "the guest's init", g->init);
	if (r == 0 && g->initrd)
		r = key_file(key, "vm.kernel.initrd:", g->initrd);
	for (size_t i = 0; r == 0 && i < g->modules.n; i++) {
		const char *path = g->modules.v[i]->path;
		struct stat st;

		if (fstatat(g->modules_dir, path, &st, 0) < 0)
			return err_sys("kernel module %s/%s (named by modules.dep)",
				g->modules_path, path);
		r = cache_key_stat(key, path, &st);
	}
	return r;
}

/* ---- packs the initramfs, a cpio archive ---- */

/*
 * Executes a program that decompresses a kernel module, in the child process. The module is the
 * program's standard input, and a memfd its standard output.
 */
static void exec_unpacker(const char *program, int in, int out)
{
	const struct rlimit limit = {MODULE_MAX, MODULE_MAX};
	char *const argv[] = {(char *)program, (char *)"-dc", NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || fd_set_streams(in, out, -EBADF) < 0)
		_exit(126);
	close_range(3, ~0U, 0);
	execvp(program, argv);
	_exit(127);
}

/*
 * Decompresses the module to which the descriptor `in` refers, and returns the descriptor of a
 * memfd with the result.
 */
static int unpack_module(const struct module *m, int in)
{
	static const char *const programs[] = {
		[MODULE_GZIP] = "gzip", [MODULE_XZ] = "xz", [MODULE_ZSTD] = "zstd"};
	const char *program = programs[m->packing];
	_cleanup_fd_ int out = initramfs_memfd("kernel module");
	int status;

	if (out < 0)
		return out;
	pid_t pid = fork();
	if (pid < 0)
		return err_sys("fork");
	if (pid == 0)
		exec_unpacker(program, in, out);
	int r = process_wait(pid, program, &status);
	if (r < 0)
		return r;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(EOPNOTSUPP,
			"kernel module %s is compressed, and this kernel can't unpack it "
			"(CONFIG_MODULE_DECOMPRESS): install %s, or use another kernel",
			m->path, program);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(EIO,
			"kernel module %s: %s could not unpack it: the file may be damaged",
			m->path, program);
	return take_fd(&out);
}

/*
 * Returns the name that the module gets in the initramfs. The suffix of the name tells the guest's
 * init whether the file is compressed.
 */
static const char *name_in_archive(
	struct arena *a, const struct guest_initramfs *g, const struct module *m)
{
	static const char *const suffixes[] = {[MODULE_PLAIN] = "",
		[MODULE_GZIP] = ".gz",
		[MODULE_XZ] = ".xz",
		[MODULE_ZSTD] = ".zst"};

	return arena_printf(a, MODULES "/%s.ko%s", m->name, g->unpack ? "" : suffixes[m->packing]);
}

static int put_module(struct initramfs *w, const struct guest_initramfs *g, const struct module *m,
	const char *name)
{
	_cleanup_fd_ int fd =
		openat(g->modules_dir, m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return err_sys("kernel module %s/%s", g->modules_path, m->path);
	if (m->packing != MODULE_PLAIN && g->unpack) {
		int unpacked = unpack_module(m, fd);
		if (unpacked < 0)
			return unpacked;
		fd_close(&fd);
		fd = unpacked;
	}
	return initramfs_file(w, name, &(struct initramfs_attr){.mode = 0644}, fd);
}

static int put_modules(struct arena *a, struct initramfs *w, const struct guest_initramfs *g)
{
	_cleanup_strbuf_ struct strbuf list = {0};
	int r = 0;

	if (g->modules.n == 0)
		return 0;
	r = initramfs_dir(w, MODULES, &(struct initramfs_attr){.mode = 0755});
	for (size_t i = 0; r == 0 && i < g->modules.n; i++) {
		const char *name = name_in_archive(a, g, g->modules.v[i]);

		if (!name)
			return -ENOMEM;
		r = put_module(w, g, g->modules.v[i], name);
		if (r == 0)
			r = strbuf_addf(&list, "/%s\n", name);
	}
	return r < 0 ? r
		     : initramfs_data(
			       w, "modules.list", &(struct initramfs_attr){.mode = 0644}, &list);
}

static int put_entries(struct arena *a, struct initramfs *w, const struct guest_initramfs *g)
{
	static const char *const dirs[] = {"dev", "proc", "sys", "run", "tmp"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++)
		r = initramfs_dir(w, dirs[i], &(struct initramfs_attr){.mode = 0755});
	/*
	 * The initramfs needs /dev/console, because the kernel opens it as the standard streams of
	 * the first process.
	 */
	if (r == 0)
		r = initramfs_node(
			w, "dev/console", &(struct initramfs_attr){.mode = S_IFCHR | 0600}, 5, 1);
	if (r == 0)
		r = put_modules(a, w, g);
	if (r < 0)
		return r;
	_cleanup_fd_ int init = open(g->init, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (init < 0)
		return err_sys("the guest's init %s", g->init);
	r = initramfs_file(w, "init", &(struct initramfs_attr){.mode = 0755}, init);
	return r < 0 ? r : initramfs_end(w);
}

/*
 * Adds zeros, which Linux skips, so that nearly the whole last page of the initramfs is empty. QEMU
 * loads the initramfs of an ELF kernel into the last pages of the memory below 4 GiB, and so writes
 * over the ACPI tables that SeaBIOS 1.16.3 (Debian 13) has put at the end of the last page. Linux
 * hangs early if it finds no tables there.
 */
static int leave_room(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);

	if (size < 0 ||
		ftruncate(fd, size + (off_t)((size_t)(LAST_PAGE_USED - size) % LAST_PAGE)) < 0)
		return err_sys("leave room at the end of the initramfs");
	return 0;
}

/* Writes the initramfs to the empty file fd. */
static int pack_archive(struct arena *a, const struct guest_initramfs *g, int fd)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	int r = 0;

	/*
	 * The user's initrd comes before caisson's files, because the kernel keeps the last of
	 * several files with the same name, so that caisson's file is kept.
	 */
	if (g->initrd) {
		_cleanup_fd_ int initrd =
			open(g->initrd, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (initrd < 0)
			return err_sys("vm.kernel.initrd: %s", g->initrd);
		r = initramfs_append(fd, initrd, g->initrd);
		if (r < 0)
			return err_ctx(r, "vm.kernel.initrd");
	}
	r = initramfs_begin(&w, fd, "the guest's initramfs");
	if (r == 0)
		r = put_entries(a, &w, g);
	return r < 0 ? r : leave_room(fd);
}

static int pack_to_memory(struct arena *a, const struct guest_initramfs *g)
{
	_cleanup_fd_ int fd = initramfs_memfd("initramfs");

	if (fd < 0)
		return fd;
	int r = pack_archive(a, g, fd);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ||
		lseek(fd, 0, SEEK_SET) < 0)
		return err_sys("seal the initramfs");
	return take_fd(&fd);
}

/* ---- stores initramfs archives in the cache ---- */

/*
 * Packs the initramfs into a new cache entry. The caller holds the lock of the cache. If packing
 * fails, for example with -ENOSPC or -EROFS, the caller makes the initramfs in memory.
 */
static int build_entry(struct arena *a, const struct guest_initramfs *g, int dir, const char *name)
{
	char tmp[CACHE_NAME_SIZE + 8];

	snprintf(tmp, sizeof(tmp), "%s" CACHE_TMP, name);
	/*
	 * A .tmp file that a killed process has left is removed and not overwritten, because
	 * another process may still have it open.
	 */
	unlinkat(dir, tmp, 0);
	_cleanup_fd_ int fd =
		openat(dir, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys("create %s", tmp);
	int r = pack_archive(a, g, fd);
	/*
	 * The data is synced before the rename, because after a power cut there could otherwise be
	 * an entry without its data.
	 */
	if (r == 0 && fsync(fd) < 0)
		r = err_sys("write %s", tmp);
	if (r == 0 && renameat(dir, tmp, dir, name) < 0)
		r = err_sys("rename %s", tmp);
	if (r < 0) {
		unlinkat(dir, tmp, 0);
		return r;
	}
	cache_drop_old(dir, PREFIX, KEPT);
	r = cache_open_entry(dir, name);
	return r < 0 ? err_set(-r, "open %s: %s", name, err_text(-r)) : r;
}

static int open_or_build_entry(
	struct arena *a, const struct guest_initramfs *g, const struct strbuf *key)
{
	_cleanup_fd_ int dir = cache_open(g->cache), lock = -EBADF;
	char name[CACHE_NAME_SIZE];
	int fd;

	if (dir < 0)
		return dir;
	cache_name(PREFIX, key, name);
	fd = cache_open_entry(dir, name);
	if (fd >= 0)
		return fd;
	lock = cache_lock(dir, "lock", LOCK_WAIT_MS);
	if (lock < 0)
		return lock;
	fd = cache_open_entry(dir, name);
	return fd >= 0 ? fd : build_entry(a, g, dir, name);
}

int guest_initramfs_open(struct arena *a, const struct guest_initramfs *g)
{
	_cleanup_strbuf_ struct strbuf key = {0};
	int r = make_key(g, &key);

	if (r < 0)
		return r;
	if (g->cache) {
		r = open_or_build_entry(a, g, &key);
		if (r >= 0)
			return r;
		/*
		 * The error is only logged, because the caller then packs the initramfs in memory.
		 * If the fault is in a file to be packed and not in the cache, pack_to_memory()
		 * reports the error again.
		 */
		log_debug("the initramfs is made in memory: cache %s: %s", g->cache, err_msg());
		err_clear();
	}
	return pack_to_memory(a, g);
}
