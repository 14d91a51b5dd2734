/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns linux.seccomp into a BPF program, by libseccomp or from a cache of such programs.
 *
 * Theory of operation. Compiling the usual profile of an engine takes longer than making the
 * container. The program depends only on the profile, on libseccomp's version and on this file, so
 * the cache's key consists of these three, written out as bytes. A hash of the key is the name of
 * the cache file. The file contains the whole key and is used only if the key is equal byte by
 * byte, so that a collision of hashes only costs a compilation. If a file is cut off, damaged,
 * owned by another user or writable by others, it is ignored and replaced.
 *
 *	cache file = struct cache_head, key, program (struct sock_filter[])
 *
 * The caller gets a descriptor of the cache file or of a memfd. The descriptor's offset is at the
 * program's first instruction, and the program ends where the file ends.
 *
 * SECCOMP_FILTER_FLAG_* and no_new_privs only matter when the filter is loaded: see step/seccomp.c.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "filter/filter.h"
#include "filter/stub.h"

/*
 * The version of the compiled programs, which is a part of the cache's key. Whoever changes this
 * file so that it compiles a profile to another program than before raises the version.
 */
#define CACHE_FORMAT 1
#define CACHE_MAGIC "caisbpf1"
#define CACHE_MAX (4 * 1024 * 1024)
#define NAME_SIZE 48
#define MAX_ARGS 6 /* how many arguments a system call has */

struct cache_head {
	char magic[8];
	uint64_t
		/*
		 * hash of the program, which detects damage; malice need not be detected, because
		 * only the runtime's user can write to the cache file
		 */
		program_hash;
	uint32_t key_len, program_len;
};

static void ctx_release(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}
#define _cleanup_ctx_ __attribute__((cleanup(ctx_release), unused))

/* Returns the FNV-1a hash of the bytes at `data`. */
static uint64_t hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

static int key_add_u32(struct strbuf *b, uint32_t v)
{
	return strbuf_add(b, &v, sizeof(v));
}

static int key_add_rule(struct strbuf *b, const struct spec_seccomp_rule *rule)
{
	int r = 0;

	r |= key_add_u32(b, rule->action);
	r |= key_add_u32(b, (uint32_t)rule->names.n);
	for (size_t i = 0; i < rule->names.n; i++)
		r |= strbuf_add(b, rule->names.v[i], strlen(rule->names.v[i]) + 1);
	r |= key_add_u32(b, (uint32_t)rule->nargs);
	for (size_t i = 0; i < rule->nargs; i++) {
		const struct spec_seccomp_arg *a = &rule->args[i];
		r |= key_add_u32(b, a->index);
		r |= key_add_u32(b, a->op);
		r |= strbuf_add(b, &a->value, sizeof(a->value));
		r |= strbuf_add(b, &a->value_two, sizeof(a->value_two));
	}
	return r < 0 ? -ENOMEM : 0;
}

/*
 * Writes the key of the cache for a profile. Every list begins with its length and every name ends
 * with its NUL, so that different profiles give different keys.
 */
static int make_key(const struct spec_seccomp *s, struct strbuf *b)
{
	const struct scmp_version *v = seccomp_version();
	const uint32_t head[] = {CACHE_FORMAT, v->major, v->minor, v->micro, s->default_action,
		(uint32_t)s->narchitectures};
	int r = strbuf_add(b, head, sizeof(head));

	for (size_t i = 0; i < s->narchitectures; i++)
		r |= key_add_u32(b, s->architectures[i]);
	r |= key_add_u32(b, (uint32_t)s->nrules);
	for (size_t i = 0; i < s->nrules; i++)
		r |= key_add_rule(b, &s->rules[i]);
	return r < 0 ? err_set(ENOMEM, "out of memory") : 0;
}

/*
 * Opens a file of the cache of compiled filters. Returns -ENOENT, without a message, if the file is
 * missing or damaged or contains another key.
 */
static int cache_open(int dir, const char *name, const struct strbuf *key)
{
	_cleanup_fd_ int fd =
		openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *data = NULL;
	struct cache_head head;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
		st.st_mode & 022 || st.st_size < (off_t)sizeof(head) || st.st_size > CACHE_MAX)
		return -ENOENT;
	size_t size = (size_t)st.st_size;
	data = malloc(size);
	if (!data || pread(fd, data, size, 0) != st.st_size)
		return -ENOENT;
	memcpy(&head, data, sizeof(head));
	const char *program = data + sizeof(head) + key->len;
	if (memcmp(head.magic, CACHE_MAGIC, sizeof(head.magic)) != 0 || head.key_len != key->len ||
		size != sizeof(head) + (uint64_t)head.key_len + head.program_len ||
		head.program_len == 0 || head.program_len % sizeof(struct sock_filter) != 0 ||
		memcmp(data + sizeof(head), key->s, key->len) != 0 ||
		hash_bytes(program, head.program_len) != head.program_hash)
		return -ENOENT;
	if (lseek(fd, program - data, SEEK_SET) < 0)
		return -ENOENT;
	return take_fd(&fd);
}

/*
 * Writes a file of the cache of compiled filters under a random name and renames it, so that two
 * runtimes can compile the same profile at once. A failure is ignored, because the next container
 * can compile the profile again.
 */
static void cache_write(
	int dir, const char *name, const struct strbuf *key, const struct strbuf *program)
{
	struct cache_head head = {
		.magic = CACHE_MAGIC,
		.program_hash = hash_bytes(program->s, program->len),
		.key_len = (uint32_t)key->len,
		.program_len = (uint32_t)program->len,
	};
	char tmp[FD_TMP_MAX];

	_cleanup_fd_ int fd = fd_open_temporary(dir, name, 0600, tmp);
	if (fd < 0) {
		log_debug("seccomp cache: %s", err_msg());
		err_clear();
		return;
	}
	int r = fd_write_all(fd, &head, sizeof(head));
	if (r >= 0)
		r = fd_write_all(fd, key->s, key->len);
	if (r >= 0)
		r = fd_write_all(fd, program->s, program->len);
	if (r >= 0 && renameat(dir, tmp, dir, name) < 0)
		r = -errno;
	if (r < 0) {
		log_debug("seccomp cache: write %s: %s", name, strerror(-r));
		unlinkat(dir, tmp, 0);
	}
}

static const char *arch_name(uint32_t arch)
{
	static const struct {
		uint32_t arch;
		const char *name;
	} names[] = {
		{SCMP_ARCH_X86, "SCMP_ARCH_X86"},
		{SCMP_ARCH_X86_64, "SCMP_ARCH_X86_64"},
		{SCMP_ARCH_X32, "SCMP_ARCH_X32"},
		{SCMP_ARCH_ARM, "SCMP_ARCH_ARM"},
		{SCMP_ARCH_AARCH64, "SCMP_ARCH_AARCH64"},
		{SCMP_ARCH_S390X, "SCMP_ARCH_S390X"},
		{SCMP_ARCH_PPC64LE, "SCMP_ARCH_PPC64LE"},
		{SCMP_ARCH_RISCV64, "SCMP_ARCH_RISCV64"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].arch == arch)
			return names[i].name;
	return "this architecture";
}

static int add_archs(scmp_filter_ctx ctx, const struct spec_seccomp *s)
{
	/*
	 * Every new filter of libseccomp already has the machine's native architecture, which stays
	 * in it even if the profile does not list it, because the container could not make any
	 * system call without it.
	 */
	for (size_t i = 0; i < s->narchitectures; i++) {
		int r = seccomp_arch_add(ctx, s->architectures[i]);
		if (r == -EDOM || r == -EINVAL || r == -ENOTSUP)
			/*
			 * An architecture of the profile is left out if this machine cannot run
			 * programs of it: libseccomp does not know it, or it has another byte
			 * order. The filter works the same without it.
			 */
			log_debug("linux.seccomp.architectures[%zu]: %s (0x%x) is left out: this "
				  "machine does not have this architecture",
				i, arch_name(s->architectures[i]), s->architectures[i]);
		else if (r < 0 && r != -EEXIST)
			return err_set(-r, "architectures[%zu]: libseccomp: %s", i, strerror(-r));
	}
	return 0;
}

/*
 * Says whether a rule of the profile compares one argument twice. libseccomp accepts one comparison
 * per argument, and all comparisons of a rule must be true. runc splits a rule that compares an
 * argument twice into one rule for each comparison, so one true comparison is enough. Engines'
 * profiles rely on this, so caisson does the same.
 */
static bool compares_twice(const struct spec_seccomp_rule *rule)
{
	unsigned seen = 0;

	for (size_t i = 0; i < rule->nargs; i++) {
		if (seen & 1U << rule->args[i].index)
			return true;
		seen |= 1U << rule->args[i].index;
	}
	return false;
}

static int add_call(scmp_filter_ctx ctx, const struct spec_seccomp_rule *rule, const char *name,
	const struct scmp_arg_cmp *cmp)
{
	int nr = seccomp_syscall_resolve_name(name);
	int r = 0;

	if (nr == __NR_SCMP_ERROR) {
		log_debug("linux.seccomp: libseccomp does not know the system call %s: skipped",
			name);
		return 0;
	}
	if (!compares_twice(rule))
		return seccomp_rule_add_array(
			ctx, rule->action, nr, (unsigned)rule->nargs, rule->nargs ? cmp : NULL);
	for (size_t i = 0; r >= 0 && i < rule->nargs; i++)
		r = seccomp_rule_add_array(ctx, rule->action, nr, 1, &cmp[i]);
	return r;
}

static int add_rule(scmp_filter_ctx ctx, const struct spec_seccomp *s, size_t index)
{
	const struct spec_seccomp_rule *rule = &s->rules[index];
	struct scmp_arg_cmp cmp[32] = {0};

	/*
	 * A rule whose action is the profile's default action changes nothing. The rule is skipped,
	 * because libseccomp refuses such a rule.
	 */
	if (rule->action == s->default_action)
		return 0;
	if (rule->nargs > ARRAY_SIZE(cmp))
		return err_set(EINVAL, "syscalls[%zu].args: %zu comparisons, expected at most %zu",
			index, rule->nargs, ARRAY_SIZE(cmp));
	for (size_t i = 0; i < rule->nargs; i++) {
		const struct spec_seccomp_arg *a = &rule->args[i];
		if (a->index >= MAX_ARGS)
			return err_set(EINVAL,
				"syscalls[%zu].args[%zu].index: expected 0 to %d, found %u", index,
				i, MAX_ARGS - 1, a->index);
		/*
		 * For SCMP_CMP_MASKED_EQ, the profile's value is the mask, and its valueTwo is what
		 * the masked argument is compared with.
		 */
		cmp[i] = (struct scmp_arg_cmp){
			a->index, (enum scmp_compare)a->op, a->value, a->value_two};
	}
	for (size_t i = 0; i < rule->names.n; i++) {
		int r = add_call(ctx, rule, rule->names.v[i], cmp);
		if (r < 0)
			return err_set(-r, "syscalls[%zu]: %s: libseccomp: %s", index,
				rule->names.v[i],
				r == -EOPNOTSUPP ? "the action is not supported by this kernel"
						 : strerror(-r));
	}
	return 0;
}

static size_t count_names(const struct spec_seccomp *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nrules; i++)
		n += s->rules[i].names.n;
	return n;
}

/*
 * Refuses profiles that no kernel could load or that would block the process that loads them
 * forever. The caller does this before it makes anything.
 */
static int check_profile(const struct spec_seccomp *s)
{
	if (s->flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV && !s->notify)
		return err_set(EINVAL,
			"flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no use without a rule "
			"whose action is SCMP_ACT_NOTIFY: add such a rule, or remove the flag");
	if (s->default_action == SCMP_ACT_NOTIFY)
		return err_set(EINVAL,
			"defaultAction: SCMP_ACT_NOTIFY cannot work: the process would wait for "
			"the agent before the agent has been given the listener");
	return 0;
}

/*
 * Writes the compiled filter into ret: first the part from stub.h, which answers ENOSYS for new
 * system calls, then the program that libseccomp makes of the profile's rules.
 */
static int compile_profile(const struct spec_seccomp *s, struct strbuf *ret)
{
	_cleanup_ctx_ scmp_filter_ctx ctx = seccomp_init(s->default_action);

	if (!ctx)
		return err_set(
			EINVAL, "defaultAction: libseccomp does not take 0x%x", s->default_action);
	int r = add_archs(ctx, s);
	/*
	 * SCMP_FLTATR_CTL_OPTIMIZE makes libseccomp build a binary tree of the call numbers instead
	 * of a list, so that a call costs a few comparisons and not hundreds. The attribute is only
	 * set for large filters, because libseccomp before 2.5.5 compiles small ones wrongly with
	 * it.
	 */
	if (r >= 0 && count_names(s) > 32)
		seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; r >= 0 && i < s->nrules; i++)
		r = add_rule(ctx, s, i);
	if (r < 0)
		return r;
	r = seccomp_stub(s, ret);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return err_sys("memfd_create");
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return err_set(-r, "libseccomp: write the program: %s", strerror(-r));
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys("seek in a memfd");
	r = fd_read_all(fd, ret, CACHE_MAX, "the compiled filter");
	if (r < 0)
		return r;
	size_t n = ret->len / sizeof(struct sock_filter);
	if (n > BPF_MAXINSNS)
		return err_set(E2BIG,
			"syscalls: the rules compile to %zu instructions, the kernel takes %d: "
			"use fewer rules with args",
			n, BPF_MAXINSNS);
	return 0;
}

static int copy_to_memfd(const struct strbuf *program)
{
	_cleanup_fd_ int fd = memfd_create("seccomp", MFD_CLOEXEC);

	if (fd < 0)
		return err_sys("memfd_create");
	int r = fd_write_all(fd, program->s, program->len);
	if (r < 0) {
		errno = -r;
		return err_sys("write to a memfd");
	}
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys("seek in a memfd");
	return take_fd(&fd);
}

int seccomp_compile(const struct spec_seccomp *s, int cache_dir)
{
	_cleanup_strbuf_ struct strbuf key = {0}, program = {0};
	char name[NAME_SIZE];

	int r = check_profile(s);
	if (r >= 0)
		r = make_key(s, &key);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%016llx", (unsigned long long)hash_bytes(key.s, key.len));
	if (cache_dir >= 0 && (r = cache_open(cache_dir, name, &key)) >= 0)
		return r;
	r = compile_profile(s, &program);
	if (r < 0)
		return r;
	if (cache_dir >= 0)
		cache_write(cache_dir, name, &key, &program);
	return copy_to_memfd(&program);
}
