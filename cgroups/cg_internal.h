/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of cgroups/ share. Not for other layers; the unit tests include it. */
#pragma once
#include <limits.h>
#include <linux/bpf.h>
#include <sys/types.h>

#include "base/fd.h"
#include "cgroups/cgroup.h"

#define CG_LIST_MAX 512 /* bytes of cgroup.controllers; the kernel of 2026 fills about 60 */

/* detect.c: what is mounted and who holds a controller. */

/*
 * Where cgroup2 is mounted; the string is static or in the arena. -ENOENT with a message where it
 * is not.
 */
int cg_find_mount(struct arena *a, const char **ret) must_check;
/* The same out of a mountinfo text; *ret stays NULL when there is none. The tests' entry. */
int cg_mount_from_text(struct arena *a, const char *mountinfo, const char **ret) must_check;
/* The cgroup2 path of a process ("/a/b"); pid 0 is the caller. */
int cg_of_process(struct arena *a, pid_t pid, const char **ret) must_check;
/* Which cgroup v1 mount holds the controller ("/sys/fs/cgroup/memory"), or NULL. */
int cg_v1_holder(struct arena *a, const char *mountinfo, const char *controller, const char **ret)
	must_check;
/* Words of a space-separated list such as cgroup.controllers. */
bool cg_list_has(const char *list, const char *name, size_t len);
bool cg_list_covers(const char *list, const char *wanted); /* every word of wanted is in list */
/* Whether an unprivileged eBPF refusal is to be expected: an ordinary user or a user namespace. */
bool cg_in_user_namespace(void);

/* dir.c: descriptors and control files. */

/* Removes the parts of path longer than `from` bytes, as far as they are empty. */
void cg_remove_made(int mount, const char *path, size_t from);

/* Whether r is what the kernel answers about a cgroup that has been removed. */
bool cg_is_gone(int r);
/*
 * Calls visit for the readable directory dir and for every cgroup beneath it, the deepest first,
 * until one fails.
 */
typedef int cg_visit_fn(int dir, void *arg);
int cg_walk(int dir, cg_visit_fn *visit, void *arg) must_check;

int cg_open_mount(const struct cgroup *cg) must_check; /* O_PATH */
/*
 * A directory beneath the mount, "/" too. -ENOENT sets no words that an engine takes for a missing
 * command.
 */
int cg_open_dir(int mount, const char *path, int flags) must_check;
/* A small control file into buf, its last newline cut. -ENOENT and -ENODEV: no message. */
int cg_read(int dir, const char *file, char *buf, size_t size) must_check;
int cg_read_u64(int dir, const char *file, uint64_t *ret) must_check; /* "max" is UINT64_MAX */
/* "key value" lines: the value of one key, as text. Returns 0 or -ENOENT, without a message. */
int cg_find_key(const char *text, const char *key, uint64_t *ret) must_check;
/* One write(2) of the text. The caller adds the message, e.g. with cg_err_file(). */
int cg_write(int dir, const char *file, const char *text) must_check;
/*
 * "FIELD: write "VALUE" to FILE of cgroup PATH: REASON"; r is -errno and comes back. field may be
 * NULL.
 */
int cg_err_file(int r, const char *field, const char *file, const char *value, const char *path);
/*
 * strerror(), but never "No such file or directory", which engines take for the container's
 * program.
 */
const char *cg_strerror(int code);
/*
 * Waits until key of cgroup.events has the value; -ETIMEDOUT without a message. -ENOENT, -ENODEV:
 * gone.
 */
int cg_wait_event(int dir, const char *key, uint64_t value, int timeout_ms) must_check;

/* create.c */

/*
 * Turns available controllers on in every cgroup above path; failures are left to
 * cg_explain_missing().
 */
void cg_enable_controllers(int mount, const char *path, const char *available);
/*
 * The error for a limit whose controller the cgroup lacks: says who holds it, or who keeps it back.
 */
int cg_explain_missing(const struct cgroup *cg, const char *controller, const char *field)
	must_check;

/* convert.c: pure. */

uint64_t cg_weight_from_shares(uint64_t shares);
uint64_t cg_io_weight_from_blkio(uint64_t weight);
/*
 * memory.swap.max out of the spec's memory+swap; *ret -1: unlimited; returns 0 when there is
 * nothing to set.
 */
int cg_swap_from_spec(struct opt_i64 limit, struct opt_i64 swap, int64_t *ret) must_check;
/* "a-b.slice" to "/a.slice/a-b.slice"; "-.slice" to "/". */
int cg_expand_slice(struct arena *a, const char *slice, const char **ret) must_check;
/*
 * Refuses "..", NUL-free control characters and over-long names; collapses slashes. Result starts
 * with "/".
 */
int cg_clean_path(struct arena *a, const char *path, const char **ret) must_check;
/* slice:prefix:name (or NULL) to unit names; user: the default slice is user.slice. */
int cg_scope_names(struct arena *a, const struct cg_options *opt, bool user, struct cgroup *ret)
	must_check;
/* A `unified` key: "CONTROLLER.PARAMETER", no slash; *ret_len: the length of CONTROLLER. */
int cg_check_unified(const char *file, size_t *ret_len) must_check;

/* target.c, io.c */

struct cg_target {
	const struct cgroup *cg;
	int dir;
	bool read, enabled; /* controllers were read; enabling them was tried */
	char controllers[CG_LIST_MAX];
};

/*
 * Returns 1 when the cgroup has the controller; 0 to leave the setting out: it is `lifting` a limit
 * that can't exist, or lenient mode (which warned); else the error.
 */
int cg_require(struct cg_target *t, const char *controller, const char *field, bool lifting)
	must_check;
int cg_put(struct cg_target *t, const char *field, const char *file, const char *fmt, ...)
	must_check printf_like(4, 5);
int cg_apply_io(struct cg_target *t, const struct cg_resources *res) must_check;

/* devices.c, bpf.c */

/*
 * In malloc()ed memory; *ret_n 0 (and NULL) when the rules deny nothing. Rules as in resources.h.
 */
int cg_device_program(const struct cg_device_rule *rules, size_t n, struct bpf_insn **ret,
	size_t *ret_n) must_check;
/* Puts the program in place of the one that an earlier call attached; n 0 takes that one away. */
int cg_bpf_install(int dir, const struct bpf_insn *insns, size_t n, const char *path) must_check;
int cg_apply_devices(struct cg_target *t, const struct cg_resources *res) must_check;

/* gvariant.c: GVariant text, as in org.systemd.property.* annotations. */

struct gv {
	const char *sig; /* D-Bus signature: "s", "as", "(st)", ... */
	union {
		uint64_t u; /* y q u t, and b */
		int64_t i;  /* n i x */
		double d;
		const char *s; /* s o g */
	};
	struct gv *first, *next; /* elements of arrays, tuples and variants */
};
int gv_parse(struct arena *a, const char *text, struct gv **ret) must_check;

/* systemd.c */

int cg_systemd_start(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid) must_check;
int cg_systemd_stop(const struct cgroup *cg) must_check;
/* Makes systemd's idea of the limits that of the files of dir, the scope's cgroup. */
int cg_systemd_update(const struct cgroup *cg, int dir) must_check;
int cg_systemd_attach(const struct cgroup *cg, pid_t pid) must_check;
