/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of cgroups/ share. Other folders do not include it, but the unit tests do. */
#pragma once
#include <limits.h>
#include <linux/bpf.h>
#include <sys/types.h>

#include "base/fd.h"
#include "cgroups/cgroup.h"

#define CG_LIST_MAX 512 /* bytes of cgroup.controllers; the kernel of 2026 fills about 60 */

/* detect.c: where cgroup2 is mounted, and what holds a controller. */

/*
 * Finds where cgroup2 is mounted; the string is static or in the arena. -ENOENT with a message: it
 * is not mounted.
 */
int cg_find_mount(struct arena *a, const char **ret) must_check;
/*
 * Finds the same in a mountinfo text; *ret stays NULL if there is none. It is declared for the unit
 * tests.
 */
int cg_mount_from_text(struct arena *a, const char *mountinfo, const char **ret) must_check;
/* The path of a process in cgroup2, such as "/a/b"; pid 0 is the caller. */
int cg_of_process(struct arena *a, pid_t pid, const char **ret) must_check;
/* The cgroup v1 mount that holds the controller, such as "/sys/fs/cgroup/memory", or NULL. */
int cg_v1_holder(struct arena *a, const char *mountinfo, const char *controller, const char **ret)
	must_check;
/*
 * Returns whether a word, or every word of another list, is in a space-separated list such as
 * cgroup.controllers.
 */
bool cg_list_has(const char *list, const char *name, size_t len);
bool cg_list_covers(const char *list, const char *wanted);
/*
 * Returns whether the kernel must be expected to refuse bpf(2), because the caller is an ordinary
 * user or is in a user namespace.
 */
bool cg_in_user_namespace(void);

/* dir.c: directories and control files. */

/*
 * Marks a directory that caisson made as the parent of a container's cgroup. The mark is an
 * attribute of the directory, because the container that it was made for may be gone long before
 * the last one beneath it. If the kernel does not keep it, the directory may stay.
 */
void cg_mark_made(int mount, const char *path);
/*
 * Removes the last directories of path as long as they are empty and either the path is longer than
 * `from` bytes or the directory has that mark.
 */
void cg_remove_made(int mount, const char *path, size_t from);

/* Returns whether r is what the kernel answers about a cgroup that has been removed. */
bool cg_is_gone(int r);
/*
 * Calls visit for the readable directory dir and for every cgroup beneath it, the deepest first,
 * until one call fails.
 */
typedef int cg_visit_fn(int dir, void *arg);
int cg_walk(int dir, cg_visit_fn *visit, void *arg) must_check;

int cg_open_mount(const struct cgroup *cg) must_check; /* O_PATH */
/*
 * Opens a cgroup beneath the mount, or the mount itself for "/". The message for -ENOENT avoids the
 * words that engines take for a missing command.
 */
int cg_open_dir(int mount, const char *path, int flags) must_check;
/*
 * Reads a small control file into buf and cuts its last newline. -ENOENT and -ENODEV come without a
 * message.
 */
int cg_read(int dir, const char *file, char *buf, size_t size) must_check;
int cg_read_u64(int dir, const char *file, uint64_t *ret) must_check; /* "max" is UINT64_MAX */
/*
 * Finds the number behind a key in a text of "key value" lines. Returns 0, or -ENOENT without a
 * message.
 */
int cg_find_key(const char *text, const char *key, uint64_t *ret) must_check;
/*
 * Writes the text with one write(2). The caller adds the message, for example with cg_err_file().
 */
int cg_write(int dir, const char *file, const char *text) must_check;
/*
 * Sets the message "FIELD: write "VALUE" to FILE of cgroup PATH: REASON" and returns r, which is
 * -errno. field may be NULL.
 */
int cg_err_file(int r, const char *field, const char *file, const char *value, const char *path);
/*
 * strerror() without "No such file or directory", because engines take these words for a missing
 * program of the container.
 */
const char *cg_strerror(int code);
/*
 * Waits until key of cgroup.events has the value. -ETIMEDOUT, without a message; -ENOENT, -ENODEV:
 * the cgroup is gone.
 */
int cg_wait_event(int dir, const char *key, uint64_t value, int timeout_ms) must_check;

/* create.c, explain.c: controllers that a cgroup lacks. */

/*
 * Enables the available controllers in every cgroup above path. It reports no failure, because
 * cg_explain_missing() does that if a limit needs the controller.
 */
void cg_enable_controllers(int mount, const char *path, const char *available);
/*
 * Sets the error for a limit whose controller the cgroup lacks: what holds the controller, or which
 * cgroup does not hand it out.
 */
int cg_explain_missing(const struct cgroup *cg, const char *controller, const char *field)
	must_check;

/* convert.c: pure functions. */

uint64_t cg_weight_from_shares(uint64_t shares);
uint64_t cg_io_weight_from_blkio(uint64_t weight);
/*
 * Computes memory.swap.max from the specification's memory and swap together. *ret -1: unlimited.
 * Returns 0 if there is nothing to set, else 1.
 */
int cg_swap_from_spec(struct opt_i64 limit, struct opt_i64 swap, int64_t *ret) must_check;
/* Turns "a-b.slice" into "/a.slice/a-b.slice", and "-.slice" into "/". Declared for tests. */
int cg_expand_slice(struct arena *a, const char *slice, const char **ret) must_check;
/*
 * Checks a cgroup path: ".." and control characters are refused, and so are names that are too
 * long; slashes are merged. The result starts with "/".
 */
int cg_clean_path(struct arena *a, const char *path, const char **ret) must_check;
/*
 * The name that a container gets without linux.cgroupsPath: "caisson-ID", in which most of an ID
 * that is too long for a file name is replaced by a hash. ".scope" still fits behind it.
 */
int cg_default_name(struct arena *a, const char *id, const char **ret) must_check;
/*
 * Makes unit names from slice:prefix:name, which may be NULL. user: the default slice is
 * user.slice.
 */
int cg_scope_names(struct arena *a, const struct cg_options *opt, bool user, struct cgroup *ret)
	must_check;
/*
 * Checks a `unified` key: "CONTROLLER.PARAMETER", without a slash. *ret_len: the length of
 * CONTROLLER.
 */
int cg_check_unified(const char *file, size_t *ret_len) must_check;
/*
 * Values that a new cgroup has anyway. Engines write them (containerd 1024 shares), and they need
 * no controller.
 */
#define CG_SHARES_DEFAULT 1024
#define CG_PERIOD_DEFAULT 100000
bool cg_is_default(const struct cg_unified *u);

/* target.c, io.c: writing settings. */

struct cg_target {
	const struct cgroup *cg;
	int dir;
	bool read, enabled; /* whether controllers has been read, and enabling them been tried */
	char controllers[CG_LIST_MAX];
};

/*
 * Checks that the cgroup has the controller. 1: it has. 0: leave the setting out, because it only
 * lifts a limit (`lifting`), or because in lenient mode a missing controller is a warning. Else the
 * error.
 */
int cg_require(struct cg_target *t, const char *controller, const char *field, bool lifting)
	must_check;
int cg_put(struct cg_target *t, const char *field, const char *file, const char *fmt, ...)
	must_check printf_like(4, 5);
int cg_apply_io(struct cg_target *t, const struct cg_resources *res) must_check;

/* devices.c, bpf.c: which devices are allowed. */

/*
 * Makes the program for rules, which are as in resources.h. *ret is from malloc(); it is NULL and
 * *ret_n is 0 if the rules deny nothing. Declared for tests.
 */
int cg_device_program(const struct cg_device_rule *rules, size_t n, struct bpf_insn **ret,
	size_t *ret_n) must_check;
/*
 * Attaches the program in place of the one that an earlier call attached. n 0 only removes that
 * one.
 */
int cg_bpf_install(int dir, const struct bpf_insn *insns, size_t n, const char *path) must_check;
/* bpf(2); returns a descriptor or 0, or -errno without a message. */
int cg_bpf(enum bpf_cmd cmd, union bpf_attr *attr);
/*
 * Returns whether a descriptor is a device program that root has loaded, by caisson's name. ret_id
 * may be NULL, else it gets the kernel's number of the program.
 */
bool cg_bpf_is_ours(int fd, uint32_t *ret_id);
/*
 * pin.c: opens the program of these instructions that was kept, or returns -errno without a
 * message; keeps a program that was loaded, if it can.
 */
int cg_pin_find(const struct bpf_insn *insns, size_t n) must_check;
void cg_pin_keep(const struct bpf_insn *insns, size_t n, int fd);
int cg_apply_devices(struct cg_target *t, const struct cg_resources *res) must_check;

/* systemd/gvariant.c: GVariant text, which org.systemd.property.* annotations have. */

struct gv {
	const char *sig; /* D-Bus signature, such as "s", "as" or "(st)" */
	union {
		uint64_t u; /* types y, q, u, t and b */
		int64_t i;  /* types n, i and x */
		double d;
		const char *s; /* types s, o and g */
	};
	struct gv *first, *next; /* elements of arrays, tuples and variants */
};
int gv_parse(struct arena *a, const char *text, struct gv **ret) must_check;

/* systemd/client.c: the scope of a container, by the helper program caisson-systemd. */

int cg_systemd_start(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;
int cg_systemd_stop(const struct cgroup *cg) must_check;
/* Tells systemd the limits that the files of the scope's cgroup have. */
int cg_systemd_update(const struct cgroup *cg) must_check;
int cg_systemd_attach(const struct cgroup *cg, pid_t pid) must_check;
