/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the kernel module files that a guest needs if it runs a distribution's kernel, in the order
 * in which they must be loaded.
 *
 *	modules_load(&arena, dirfd, "/lib/modules/6.1.0-56-amd64", &m);
 *	modules_resolve(&arena, m, (const char *const[]){"virtiofs", "overlay"}, 2, &list);
 *	for (i = 0; i < list.n; i++)
 *		pack(list.v[i]->path)
 *
 * The code reads two files in /lib/modules/VERSION: modules.dep, which depmod(8) makes (the text
 * form of modules.dep(5)), and modules.builtin, which the kernel's build makes
 * (Documentation/kbuild/kbuild.rst). A module is named without directory and suffix; '-' and '_'
 * are the same. It does not read modules.softdep and modules.alias, because a soft dependency may
 * be missing. Callers name such modules themselves, such as crc32c_generic or crc32c_intel for
 * ext4.
 *
 * The files come from an administrator, a package or an image, and are not trusted: sizes are
 * bounded, every path must be relative and without "..", and a cycle or a missing line is an error.
 * All results live in the arena. The functions keep no state, so any thread may call them.
 */
#pragma once
#include "base/arena.h"
#include "base/str.h"

/* largest modules.dep in bytes; Debian's has 0.6 million bytes */
#define MODULES_MAX_FILE (8 * 1024 * 1024)
#define MODULES_MAX 65536 /* largest number of lines of modules.dep and modules.builtin together */
/* longest name of a module: MODULE_NAME_LEN of include/linux/moduleparam.h, without the NUL */
#define MODULES_MAX_NAME 55
#define MODULES_MAX_DEPTH 64 /* largest number of levels of dependencies */

/* How a module's file is packed: its suffix is .ko, .ko.gz, .ko.xz or .ko.zst. */
enum module_packing { MODULE_PLAIN, MODULE_GZIP, MODULE_XZ, MODULE_ZSTD };

struct module {
	const char *name; /* canonical name of the module, with '_' for every '-' */
	/*
	 * path of the module's file relative to /lib/modules/VERSION, such as
	 * "kernel/fs/fuse/virtiofs.ko.xz"
	 */
	const char *path;
	enum module_packing packing;
	bool builtin;     /* the module is built into the kernel, so the module has no file */
	const char *deps; /* paths of the dependencies, as modules.dep has them behind the colon */
};

/* an index of the modules in a directory /lib/modules/VERSION; lives in the arena */
struct modules;

struct module_list {
	const struct module **v;
	size_t n;
};

/*
 * Makes an index from the texts of modules.dep and modules.builtin; `builtin` may be empty. `what`
 * is the directory's name in error messages. Returns -EINVAL for a malformed line, which the
 * message names, and -EFBIG or -E2BIG if one of the limits MODULES_MAX... is exceeded. The function
 * is declared here for tests and fuzzing; other callers use modules_load().
 */
int modules_parse(struct arena *a, const struct strbuf *dep, const struct strbuf *builtin,
	const char *what, const struct modules **ret) must_check;

/*
 * Makes an index from modules.dep and modules.builtin in the directory dirfd. Returns -ENOENT if
 * modules.dep is missing, with a message that says how to make it. A missing modules.builtin counts
 * as empty.
 */
int modules_load(struct arena *a, int dirfd, const char *what, const struct modules **ret)
	must_check;

/*
 * Returns the module with the name `name`, built in or not, or NULL if the kernel has no such
 * module.
 */
const struct module *modules_find(const struct modules *m, const char *name);

/*
 * Lists the files to load for the n wanted modules. Each file is listed once, after all files that
 * it depends on, and otherwise in the order of `wanted`. Built-in modules are left out. Returns
 * -ENOENT if the kernel has no such module, -ELOOP if modules depend on each other, -EINVAL if
 * modules.dep has no line for a dependency.
 */
int modules_resolve(struct arena *a, const struct modules *m, const char *const *wanted, size_t n,
	struct module_list *ret) must_check;
