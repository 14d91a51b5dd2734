/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which module files a guest on a distribution's kernel needs, in the order in which they load.
 *
 *	modules_load(&arena, dirfd, "/lib/modules/6.1.0-56-amd64", &m);
 *	modules_resolve(&arena, m, (const char *const[]){"virtiofs", "overlay"}, 2, &list);
 *	for (i = 0; i < list.n; i++)
 *		pack(list.v[i]->path)
 *
 * Reads what depmod(8) and the kernel's build leave in /lib/modules/VERSION: modules.dep
 *(modules.dep(5), the text form) and modules.builtin (Documentation/kbuild/kbuild.rst). A module is
 *named without directory and suffix; '-' and
 * '_' are the same. Not read: modules.softdep and modules.alias, since a soft dependency is one
 *that may be missing. Callers name those that they want themselves (ext4 wants crc32c_generic or
 *crc32c_intel, say).
 *
 * The files come from an administrator, or out of a package, or an image: they are parsed as
 *hostile ones. Sizes are bounded, every path is relative and without "..", a cycle or a missing
 *line is an error. Everything returned lives in the arena. No state, any thread.
 */
#pragma once
#include "base/arena.h"
#include "base/str.h"

#define MODULES_MAX_FILE (8 * 1024 * 1024) /* bytes of modules.dep; Debian's: 0.6 million */
#define MODULES_MAX 65536    /* lines of modules.dep and of modules.builtin together */
#define MODULES_MAX_NAME 55  /* MODULE_NAME_LEN of include/linux/moduleparam.h, less NUL */
#define MODULES_MAX_DEPTH 64 /* of dependencies of dependencies */

/* A module's file as it is on disk: the name's suffix .ko, .ko.gz, .ko.xz or .ko.zst. */
enum module_packing { MODULE_PLAIN, MODULE_GZIP, MODULE_XZ, MODULE_ZSTD };

struct module {
	const char *name; /* with '_' */
	const char *path; /* relative to /lib/modules/VERSION: "kernel/fs/fuse/virtiofs.ko.xz" */
	enum module_packing packing;
	bool builtin;     /* in the kernel: there is no file */
	const char *deps; /* modules.dep's text after the colon */
};

struct modules; /* an index, in the arena */

struct module_list {
	const struct module **v;
	size_t n;
};

/*
 * Indexes the two texts; builtin may be empty. what: the directory, for messages.
 * -EINVAL: malformed, named with its line; -EFBIG, -E2BIG: past the limits above.
 */
int modules_parse(struct arena *a, const struct strbuf *dep, const struct strbuf *builtin,
	const char *what, const struct modules **ret) must_check;

/*
 * As modules_parse(), on the files of the directory dirfd. No modules.dep is -ENOENT with a message
 * that says what to run; no modules.builtin is an empty one.
 */
int modules_load(struct arena *a, int dirfd, const char *what, const struct modules **ret)
	must_check;

/* The module of that name, a file or built in; NULL if the kernel has none. */
const struct module *modules_find(const struct modules *m, const char *name);

/*
 * The files to load for the n wanted modules, each after all that it depends on, each once; in the
 * order wanted otherwise. Built-in ones are left out. -ENOENT: the kernel has no such module;
 * -ELOOP: modules depend on each other; -EINVAL: modules.dep names a dependency that it has no line
 * for.
 */
int modules_resolve(struct arena *a, const struct modules *m, const char *const *wanted, size_t n,
	struct module_list *ret) must_check;
