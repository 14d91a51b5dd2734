/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the module files that a guest on a distribution's kernel needs, in the order in which they
 * are loaded.
 *
 *	modules_load(&arena, dirfd, "/lib/modules/6.1.0-56-amd64", &m);
 *	modules_resolve(&arena, m, (const char *const[]){"virtiofs", "overlay"}, 2, &list);
 *	for (i = 0; i < list.n; i++)
 *		pack(list.v[i]->path)
 *
 * It reads what depmod(8) and the kernel's build leave in /lib/modules/VERSION: modules.dep
 * (modules.dep(5), the text form) and modules.builtin (Documentation/kbuild/kbuild.rst). A module
 * is named without directory and suffix; '-' and '_' are the same. modules.softdep and
 * modules.alias are not read, because a soft dependency may be missing. Callers name such modules
 * themselves, as crc32c_generic or crc32c_intel for ext4.
 *
 * The files come from an administrator, a package or an image, and are parsed as hostile ones:
 * sizes are bounded, every path is relative and without "..", and a cycle or a missing line is an
 * error. Everything returned lives in the arena. Any thread may call; no state is kept.
 */
#pragma once
#include "base/arena.h"
#include "base/str.h"

#define MODULES_MAX_FILE (8 * 1024 * 1024) /* bytes of modules.dep; Debian's has 0.6 million */
#define MODULES_MAX 65536    /* lines of modules.dep and of modules.builtin together */
#define MODULES_MAX_NAME 55  /* MODULE_NAME_LEN of include/linux/moduleparam.h, less NUL */
#define MODULES_MAX_DEPTH 64 /* levels of dependencies */

/* How a module's file is packed: its suffix is .ko, .ko.gz, .ko.xz or .ko.zst. */
enum module_packing { MODULE_PLAIN, MODULE_GZIP, MODULE_XZ, MODULE_ZSTD };

struct module {
	const char *name; /* with '_' for every '-' */
	const char *path; /* relative to /lib/modules/VERSION: "kernel/fs/fuse/virtiofs.ko.xz" */
	enum module_packing packing;
	bool builtin;     /* built into the kernel, so that there is no file */
	const char *deps; /* the text of modules.dep behind the colon */
};

struct modules; /* an index of modules, in the arena */

struct module_list {
	const struct module **v;
	size_t n;
};

/*
 * Indexes the two texts; builtin may be empty. what: the directory, for messages. -EINVAL: a
 * malformed line, which the message names; -EFBIG, -E2BIG: a limit above is exceeded. It is
 * declared for tests and fuzzing; others call modules_load().
 */
int modules_parse(struct arena *a, const struct strbuf *dep, const struct strbuf *builtin,
	const char *what, const struct modules **ret) must_check;

/*
 * Indexes the two files of the directory dirfd. -ENOENT: modules.dep is missing, and the message
 * says how to make it. A missing modules.builtin is like an empty one.
 */
int modules_load(struct arena *a, int dirfd, const char *what, const struct modules **ret)
	must_check;

/* Finds a module, built in or not; NULL: the kernel has none of that name. */
const struct module *modules_find(const struct modules *m, const char *name);

/*
 * Lists the files to load for the n wanted modules: each once, behind all that it depends on, and
 * otherwise in the order wanted. Built-in modules are left out. -ENOENT: the kernel has no such
 * module; -ELOOP: modules depend on each other; -EINVAL: modules.dep has no line for a dependency.
 */
int modules_resolve(struct arena *a, const struct modules *m, const char *const *wanted, size_t n,
	struct module_list *ret) must_check;
