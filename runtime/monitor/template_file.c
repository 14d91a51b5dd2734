/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/template_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/fd.h"
#include "jail/jail.h"

#define PREFIX "template-"
#define LOCK "template.lock"
/* how many templates stay in the cache: enough for a few kernels and sizes of machines */
#define KEPT 8

/* --- using a template --- */

/* Reads the snapshot behind the guest's memory, and what it says of itself. */
static int read_snapshot(const struct strbuf *key, uint64_t memory, struct template_found *t)
{
	struct template_owner *o = &t->owner;
	struct snapshot_part p;
	struct stat st;

	if (fstat(t->fd, &st) < 0 || lseek(t->fd, (off_t)memory, SEEK_SET) < 0)
		return err_sys("read its size");
	int r = fd_read_all(t->fd, &t->bytes, SNAPSHOT_MAX, "the template");
	if (r >= 0)
		r = snapshot_open(&t->snapshot, t->bytes.s, t->bytes.len);
	if (r >= 0)
		r = snapshot_find(&t->snapshot, SNAPSHOT_OWNER, 0, &p);
	if (r >= 0)
		r = snapshot_get(&p, o, sizeof(*o));
	if (r < 0)
		return r;
	if (p.left != key->len || memcmp(p.at, key->s, key->len) != 0)
		return err_set(EBADMSG, "it is of another machine");
	if (st.st_mtim.tv_sec != o->made || st.st_mtim.tv_nsec != 0)
		return err_set(EBADMSG, "its file was changed after it was made");
	return 0;
}

/* Makes the name of the template's file. */
static void make_name(const struct template_key *k, char ret[static CACHE_NAME_SIZE])
{
	char prefix[sizeof(PREFIX) + 3 * 9];

	snprintf(prefix, sizeof(prefix), PREFIX "%08" PRIx32 "-%08" PRIx32 "-%08" PRIx32 "-",
		k->boot, k->files, k->build);
	cache_name(prefix, &k->text, ret);
}

int template_open(
	int cache, const struct template_key *key, uint64_t memory, struct template_found *ret)
{
	*ret = (struct template_found){.fd = -EBADF};
	make_name(key, ret->name);
	ret->fd = cache_open_entry(cache, ret->name);
	if (ret->fd == -ENOENT)
		return -ENOENT;
	int r = ret->fd < 0 ? err_set(-ret->fd, "%s", strerror(-ret->fd))
			    : read_snapshot(&key->text, memory, ret);
	if (r >= 0)
		return 0;
	template_release(ret);
	return err_ctx(r == -ENOENT ? -EBADMSG : r, "the template %s", ret->name);
}

void template_release(struct template_found *t)
{
	fd_close(&t->fd);
	strbuf_release(&t->bytes);
}

/* --- making a template --- */

/*
 * Gives up all capabilities and all system calls but those of the keeper, because the keeper holds
 * a descriptor of the cache while the guest runs.
 */
static int confine_keeper(void)
{
	static const int allowed[] = {SCMP_SYS(recvfrom), SCMP_SYS(utimensat), SCMP_SYS(renameat),
		SCMP_SYS(renameat2), SCMP_SYS(unlinkat), SCMP_SYS(close), SCMP_SYS(exit_group),
		SCMP_SYS(munmap), SCMP_SYS(madvise), SCMP_SYS(brk)};
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &head, none) < 0)
		return -errno;
	return JAIL_HAS_FILTERS ? jail_filter_calls(allowed, ARRAY_SIZE(allowed), 0) : 0;
}

/* Waits until the template is complete, and gives the file its name; or removes the file. */
_Noreturn static void keep(int sock, int cache, int fd, int lock, const char *name, int64_t made)
{
	const struct timespec times[2] = {{.tv_sec = made}, {.tv_sec = made}};
	const int ours[] = {sock, cache, fd, lock};
	char tmp[CACHE_NAME_SIZE + 8], byte;

	snprintf(tmp, sizeof(tmp), "%s" CACHE_TMP, name);
	bool done = fd_set_streams(-EBADF, -EBADF, -EBADF) >= 0 &&
		    fd_close_all_but(ours, ARRAY_SIZE(ours)) >= 0 && confine_keeper() >= 0 &&
		    recv(sock, &byte, 1, 0) == 1 && futimens(fd, times) == 0 &&
		    renameat(cache, tmp, cache, name) == 0;
	if (!done)
		unlinkat(cache, tmp, 0);
	_exit(!done);
}

static int start_keeper(int cache, int lock, const char *name, struct template_new *t)
{
	struct template_owner *o = (struct template_owner *)t->owner.s;
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int theirs = socks[1];
	t->keeper = socks[0];
	t->pid = fork();
	if (t->pid < 0)
		return err_sys("fork a process that keeps the template");
	if (t->pid == 0) {
		prctl(PR_SET_NAME, "caisson-keep");
		keep(theirs, cache, t->fd, lock, name, o->made);
	}
	return 0;
}

/*
 * Says whether no machine can use the template with this name any more: it was made before the host
 * booted, or by files that are not those at their paths now. A template by other paths may be used
 * by another caisson of this host.
 */
static bool is_stale(const char *name, const struct template_key *k)
{
	const size_t prefix = str_starts(name, PREFIX)           ? strlen(PREFIX)
			      : str_starts(name, TEMPLATE_PAGES) ? strlen(TEMPLATE_PAGES)
								 : 0;
	uint32_t boot, files, build;

	if (!prefix)
		return false;
	/* Earlier versions of caisson made templates with shorter names. */
	if (sscanf(name + prefix, "%8" SCNx32 "-%8" SCNx32 "-%8" SCNx32 "-", &boot, &files,
		    &build) != 3)
		return true;
	return boot != k->boot || (files == k->files && build != k->build);
}

static void drop_stale(int cache, const struct template_key *k)
{
	DIR *d = dir_take_fd(openat(cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	for (struct dirent *e; d && (e = readdir(d));)
		if (is_stale(e->d_name, k))
			(void)unlinkat(cache, e->d_name, 0);
	if (d)
		closedir(d);
}

static int write_owner(const struct strbuf *key, uint32_t port, struct template_new *t)
{
	const struct template_owner o = {.made = time(NULL), .agent_port = port};
	int r = strbuf_add(&t->owner, &o, sizeof(o));

	return r < 0 ? r : strbuf_add(&t->owner, key->s, key->len);
}

int template_keep(int cache, int lock, const char *name, struct template_new *t)
{
	char tmp[CACHE_NAME_SIZE + 8];

	snprintf(tmp, sizeof(tmp), "%s" CACHE_TMP, name);
	t->fd = openat(cache, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return t->fd < 0 ? err_sys("create %s", tmp) : start_keeper(cache, lock, name, t);
}

void template_pages_name(const struct template_found *t, char ret[static CACHE_NAME_SIZE])
{
	snprintf(ret, CACHE_NAME_SIZE, TEMPLATE_PAGES "%s", t->name + strlen(PREFIX));
}

int template_make(int cache, const struct template_key *key, uint64_t memory, uint32_t port,
	struct template_new *ret)
{
	char name[CACHE_NAME_SIZE];

	*ret = (struct template_new){.fd = -EBADF, .keeper = -EBADF};
	_cleanup_fd_ int lock = cache_lock(cache, LOCK, 0);
	if (lock < 0)
		return lock;
	make_name(key, name);
	drop_stale(cache, key);
	cache_drop_old(cache, PREFIX, KEPT - 1);
	int r = write_owner(&key->text, port, ret);
	if (r < 0)
		return r;
	r = template_keep(cache, lock, name, ret);
	if (r >= 0 && lseek(ret->fd, (off_t)memory, SEEK_SET) < 0)
		r = err_sys("seek in %s", name);
	if (r < 0)
		template_abandon(ret);
	return r;
}

void template_abandon(struct template_new *t)
{
	fd_close(&t->fd);
	fd_close(&t->keeper);
	strbuf_release(&t->owner);
}
