/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what the files of cgroups/ share. Files of other folders do not include this header; the
 * unit tests do.
 */
#pragma once
#include <limits.h>
#include <linux/bpf.h>
#include <sys/types.h>

#include "base/fd.h"
#include "cgroups/cgroup.h"

/* size of a buffer for cgroup.controllers, which fills about 60 bytes on a kernel of 2026 */
#define CG_LIST_MAX 512

/* The functions of detect.c find where cgroup2 is mounted, and which mount holds a controller. */

/*
 * Finds where cgroup2 is mounted. *ret is a static string or a string in the arena. Returns -ENOENT
 * with a message if cgroup2 is not mounted.
 */
int cg_find_mount(struct arena *a, const char **ret) must_check;
/*
 * Finds the mount point of cgroup2 in the text of a mountinfo file; *ret stays NULL if the text has
 * no cgroup2 mount. The function is declared for the unit tests.
 */
int cg_mount_from_text(struct arena *a, const char *mountinfo, const char **ret) must_check;
/* Finds the path of a process in cgroup2, such as "/a/b". pid 0 stands for the calling process. */
int cg_of_process(struct arena *a, pid_t pid, const char **ret) must_check;
/*
 * Finds the cgroup v1 mount that holds the controller, such as "/sys/fs/cgroup/memory". *ret is
 * NULL if no v1 mount holds it.
 */
int cg_v1_holder(struct arena *a, const char *mountinfo, const char *controller, const char **ret)
	must_check;
/*
 * cg_list_has() returns whether a space-separated list such as cgroup.controllers has the word
 * `name`; cg_list_covers() returns whether it has every word of the list `wanted`.
 */
bool cg_list_has(const char *list, const char *name, size_t len);
bool cg_list_covers(const char *list, const char *wanted);
/*
 * Returns whether the kernel must be expected to refuse bpf(2), because the caller is an ordinary
 * user or is in a user namespace.
 */
bool cg_in_user_namespace(void);

/* The functions of dir.c open cgroups, and read and write their control files. */

/*
 * Marks a directory that caisson made as the parent of a container's cgroup, so that
 * cg_remove_made() removes it once it is empty. The mark is an extended attribute of the directory,
 * because the container that caisson made the directory for may end long before the last container
 * beneath the directory. If the kernel does not store the attribute, the directory may stay behind.
 */
void cg_mark_made(int mount, const char *path);
/*
 * Removes the last directories of path, from the deepest upwards, as long as each of them is empty
 * and was made by caisson. caisson made a directory if the directory's path is longer than `from`
 * bytes, or if cg_mark_made() has marked the directory.
 */
void cg_remove_made(int mount, const char *path, size_t from);

/* Returns whether the error r means that the cgroup has been removed. */
bool cg_is_gone(int r);
/*
 * The type of a function for cg_walk(). cg_walk() calls `visit` for the readable directory dir and
 * for every cgroup beneath it, the deepest first, until one call fails.
 */
typedef int cg_visit_fn(int dir, void *arg);
int cg_walk(int dir, cg_visit_fn *visit, void *arg) must_check;

/* returns an O_PATH descriptor of cg->mount */
int cg_open_mount(const struct cgroup *cg) must_check;
/*
 * Opens a cgroup beneath the mount, or the mount itself if path is "/". The message for -ENOENT is
 * not "No such file or directory", because engines take these words for a missing command of the
 * container.
 */
int cg_open_dir(int mount, const char *path, int flags) must_check;
/*
 * Reads a small control file into buf and cuts its last newline. Returns the length of the text.
 * Sets no message for -ENOENT and -ENODEV.
 */
int cg_read(int dir, const char *file, char *buf, size_t size) must_check;
/* Reads a control file that holds one number. *ret is UINT64_MAX for "max". */
int cg_read_u64(int dir, const char *file, uint64_t *ret) must_check;
/*
 * Finds the number behind a key in a text of "key value" lines. Returns 0, or -ENOENT without a
 * message.
 */
int cg_find_key(const char *text, const char *key, uint64_t *ret) must_check;
/*
 * Writes the text with one write(2). Sets no error message; the caller sets one, for example with
 * cg_err_file().
 */
int cg_write(int dir, const char *file, const char *text) must_check;
/*
 * Sets the error message "FIELD: write "VALUE" to FILE of cgroup PATH: REASON" and returns r, which
 * is -errno. field may be NULL.
 */
int cg_err_file(int r, const char *field, const char *file, const char *value, const char *path);
/*
 * Returns strerror(code), but never "No such file or directory", because engines take these words
 * for a missing program of the container.
 */
const char *cg_strerror(int code);
/*
 * Waits until the key in cgroup.events has the value. Returns -ETIMEDOUT, without a message, if
 * this takes longer than the timeout, and -ENOENT or -ENODEV if the cgroup has been removed.
 */
int cg_wait_event(int dir, const char *key, uint64_t value, int timeout_ms) must_check;

/*
 * The functions of create.c and explain.c enable controllers, and explain why a cgroup lacks a
 * controller.
 */

/*
 * Enables the available controllers in every cgroup above path. Reports no failure, because
 * cg_explain_missing() reports the missing controller if a limit needs it.
 */
void cg_enable_controllers(int mount, const char *path, const char *available);
/*
 * Sets the error message for a limit whose controller the cgroup lacks. The message says who has
 * the controller: a cgroup v1 mount, or the parent cgroup that does not enable it. Returns -errno.
 */
int cg_explain_missing(const struct cgroup *cg, const char *controller, const char *field)
	must_check;

/*
 * The functions of convert.c convert values and names to the form that cgroup v2 or systemd
 * expects, without system calls.
 */

uint64_t cg_weight_from_shares(uint64_t shares);
uint64_t cg_io_weight_from_blkio(uint64_t weight);
/*
 * Computes memory.swap.max from the specification's memory limit and its limit of memory and swap
 * together. *ret is -1 for unlimited. Returns 1, or 0 if memory.swap.max need not be written.
 */
int cg_swap_from_spec(struct opt_i64 limit, struct opt_i64 swap, int64_t *ret) must_check;
/*
 * Turns the name of a slice into its path: "a-b.slice" into "/a.slice/a-b.slice", and "-.slice"
 * into "/". The function is declared for the unit tests.
 */
int cg_expand_slice(struct arena *a, const char *slice, const char **ret) must_check;
/*
 * Checks a cgroup path: refuses "..", control characters and names that are too long, and merges
 * repeated slashes. *ret starts with "/".
 */
int cg_clean_path(struct arena *a, const char *path, const char **ret) must_check;
/*
 * Makes the name of a cgroup for a container without linux.cgroupsPath: "caisson-ID". If the ID is
 * too long for a file name, a hash replaces most of it. The name leaves room for ".scope".
 */
int cg_default_name(struct arena *a, const char *id, const char **ret) must_check;
/*
 * Makes the names of scope and slice from opt's "slice:prefix:name", which may be NULL. If `user`
 * is set, the default slice is user.slice.
 */
int cg_scope_names(struct arena *a, const struct cg_options *opt, bool user, struct cgroup *ret)
	must_check;
/*
 * Checks a key of `unified`: it must be "CONTROLLER.PARAMETER", without a slash. *ret_len is the
 * length of CONTROLLER.
 */
int cg_check_unified(const char *file, size_t *ret_len) must_check;
/*
 * The values that the kernel gives a new cgroup. Engines write these values explicitly (containerd
 * writes 1024 shares), and caisson needs no controller to leave them as they are.
 */
#define CG_SHARES_DEFAULT 1024
#define CG_PERIOD_DEFAULT 100000
bool cg_is_default(const struct cg_unified *u);

/*
 * A cgroup whose control files get settings. The functions of target.c and io.c write these
 * settings.
 */

struct cg_target {
	const struct cgroup *cg;
	int dir;
	/*
	 * read: `controllers` has been read; enabled: caisson has tried to enable missing
	 * controllers
	 */
	bool read, enabled;
	char controllers[CG_LIST_MAX];
	struct cg_undo *undo; /* gets what the files contained before; NULL: nobody wants it */
};

/* Writes the limits, and notes in *undo what the files contained before; NULL: nobody wants it. */
int cg_apply_noting(const struct cgroup *cg, const struct cg_resources *res, struct cg_undo *undo)
	must_check;
/* Notes what the file contains, before `value` is written to it. */
int cg_undo_note(struct cg_undo *u, int dir, const char *file, const char *value) must_check;

/*
 * Checks that the cgroup has the controller that the property `field` needs. Returns 1 if it has
 * the controller. Returns 0 if the caller should leave the setting out, either because the setting
 * only lifts a limit (`lifting`), or because in lenient mode a missing controller causes only a
 * warning. Else returns -errno with a message.
 */
int cg_require(struct cg_target *t, const char *controller, const char *field, bool lifting)
	must_check;
int cg_put(struct cg_target *t, const char *field, const char *file, const char *fmt, ...)
	must_check printf_like(4, 5);
int cg_apply_io(struct cg_target *t, const struct cg_resources *res) must_check;

/* The functions of devices.c and bpf.c decide which devices the container may use. */

/*
 * Makes the device program for the rules (resources.h says what the rules mean). *ret is allocated
 * by malloc(); if the rules deny nothing, *ret is NULL and *ret_n is 0. The function is declared
 * for the unit tests.
 */
int cg_device_program(const struct cg_device_rule *rules, size_t n, struct bpf_insn **ret,
	size_t *ret_n) must_check;
/*
 * Attaches the device program to the cgroup, in place of the program that an earlier call attached.
 * If n is 0, only removes the earlier program.
 */
int cg_bpf_install(int dir, const struct bpf_insn *insns, size_t n, const char *path) must_check;
/* Calls bpf(2). Returns a descriptor or 0, or -errno without a message. */
int cg_bpf(enum bpf_cmd cmd, union bpf_attr *attr);
/*
 * Returns whether the descriptor fd is a device program that root has loaded under caisson's name.
 * *ret_id gets the kernel's id of the program; ret_id may be NULL.
 */
bool cg_bpf_is_ours(int fd, uint32_t *ret_id);
/*
 * The functions of pin.c keep device programs for later containers. cg_pin_find() opens the pinned
 * program that has exactly these instructions, or returns -errno without a message. cg_pin_keep()
 * pins a program that has just been loaded; it does not report a failure, because a missing pin
 * only costs time.
 */
int cg_pin_find(const struct bpf_insn *insns, size_t n) must_check;
void cg_pin_keep(const struct bpf_insn *insns, size_t n, int fd);
int cg_apply_devices(struct cg_target *t, const struct cg_resources *res) must_check;

/*
 * A value that systemd/gvariant.c has parsed from GVariant text, in which org.systemd.property.*
 * annotations are written.
 */

struct gv {
	const char *sig; /* D-Bus signature, such as "s", "as" or "(st)" */
	union {
		uint64_t u; /* value of types y, q, u, t and b */
		int64_t i;  /* value of types n, i and x */
		double d;
		const char *s; /* value of types s, o and g */
	};
	/*
	 * first: first element of an array, tuple or variant; next: the element that follows this
	 * one
	 */
	struct gv *first, *next;
};
int gv_parse(struct arena *a, const char *text, struct gv **ret) must_check;

/*
 * The functions of systemd/client.c ask the helper program caisson-systemd to make, change and stop
 * the scope of a container.
 */

int cg_systemd_start(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;
int cg_systemd_stop(const struct cgroup *cg) must_check;
/* Tells systemd which limits the control files of the scope's cgroup now have. */
int cg_systemd_update(const struct cgroup *cg) must_check;
int cg_systemd_attach(const struct cgroup *cg, pid_t pid) must_check;
