/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives tests a box in which they run the mount steps of the container's first process (INIT). Each
 * test runs two processes in the box. The "host" has a mount namespace of its own, with scratch
 * tmpfs at /tmp, /tmp/box and /dev, and opens the sources. "INIT" has further namespaces and
 * executes the steps. All mounts end with these processes. Both processes see the machine's own
 * root read-only, so that code that escapes from the container's root file system fails the test
 * and does not harm the machine. In either process a test uses EXPECT(), which ends the process
 * with a message, because cmocka's assertions work only in the test's own process.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "step/host_open.h"
#include "step/mnt.h"

#define BOX "/tmp/box"
#define ROOTFS BOX "/rootfs"
#define HOSTDIR BOX "/host" /* directory of the host that no container may reach */

#define EXPECT(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: expected %s (errno %s; last error \"%s\")\n", \
				__FILE__, __LINE__, #cond, strerror(errno), err_msg()); \
			_exit(1); \
		} \
	} while (0)

#define EXPECT_ERR(call, code, text) \
	do { \
		err_clear(); \
		int got_ = (call); \
		if (got_ != -(code) || !strstr(err_msg(), (text))) { \
			fprintf(stderr, "%s:%d: %s: got %d \"%s\", expected %d \"%s\"\n", \
				__FILE__, __LINE__, #call, got_, err_msg(), -(code), (text)); \
			_exit(1); \
		} \
	} while (0)

struct box {
	struct step_ctx c;
	struct plan plan;
	struct spec_id_maps gid_maps; /* gid mappings of the container, which error messages need */
	bool cgroup_ns;
	struct spec_process process;
	struct arena arena;
	int slots[32];
	int nslots;
	/* descriptor of the terminal, which the step CONSOLE has sent to the host process */
	int console;
};

typedef void (*box_fn)(struct box *b);

void box_write(const char *path, const char *text);
bool box_has(const char *path, const char *text);

/*
 * Returns the line of the caller's /proc/self/mountinfo for this mount point, or "". If several
 * file systems are mounted there, it returns the line of the topmost one, which is the last.
 */
const char *box_mountinfo(const char *point);
bool has(const char *line, const char *text);

/*
 * Opens the source of a bind mount, as the host process does. Returns the slot of the descriptor,
 * which is its index in b->slots.
 */
int box_open(struct box *b, const char *path, const struct spec_mount *m);
int box_mount(struct box *b, const struct spec_mount *m, int slot);

/* Builds a struct spec_mount from options that are written as in config.json. */
struct spec_mount box_entry(
	struct box *b, const char *type, const char *dest, const char *const *options);

#define OPTS(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

int box_new(struct box *b, const char *type, const char *dest, const char *const *opts);
int box_step_text(
	struct box *b, int (*fn)(struct step_ctx *, const struct step *), const char *text);
int box_number(struct box *b, int (*fn)(struct step_ctx *, const struct step *), uint64_t number);
int box_device(struct box *b, struct spec_device d, int slot);
int box_link(struct box *b, const char *target, const char *path);
int box_console(struct box *b);
void box_attach(struct box *b);

struct box_test {
	/*
	 * the process that plays the host calls this before it opens the root file system; may be
	 * NULL
	 */
	box_fn prepare;
	/*
	 * the process that plays the host calls this once it has opened the root file system; may
	 * be NULL
	 */
	box_fn host;
	box_fn init; /* the process that plays the container's first process (INIT) calls this */
	/*
	 * the process that plays the host calls this after the container's first process has ended;
	 * may be NULL
	 */
	box_fn check;
	/* namespaces that the container's first process (INIT) gets besides CLONE_NEWNS */
	uint64_t flags;
	uint32_t root_propagation;
};

void box_run(const struct box_test *t);

#define BOX_TEST(name, ...) \
	static void test_##name(void **state) \
	{ \
		box_run(&(struct box_test){__VA_ARGS__}); \
	}
