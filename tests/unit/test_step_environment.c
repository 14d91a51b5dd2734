/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the environment that a program gets: process.env, and HOME from the container's
 * /etc/passwd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "step/step.h"
#include "unit/rig/child.h"
#include "unit/rig/exec_rootfs.h"

static void run_environment(void)
{
	struct step_ctx c = exec_rootfs_enter(exec_rootfs());
	struct spec_process p = {
		.cwd = "/",
		.args = STRINGS("/bin/prog"),
		.env = STRINGS("A=1", "B=x=y", "A=2", "AA=3", "EMPTY=", "HOME=/there", "A=4"),
	};

	CHECK(find_program(&c, &p) == 0);
	CHECK(streq(env_of(&c, "A"), "4") && streq(env_of(&c, "B"), "x=y"));
	CHECK(streq(env_of(&c, "AA"), "3") && streq(env_of(&c, "EMPTY"), ""));
	CHECK(streq(env_of(&c, "HOME"), "/there"));
	CHECK(streq(c.env[0], "B=x=y") && streq(c.env[4], "A=4") && !c.env[5]);
	/*
	 * HOME must come from the container's /etc/passwd if process.env has no HOME. The last HOME
	 * of process.env counts, and an empty one counts as none.
	 */
	p.env = (struct spec_strings)STRINGS("HOME=/there", "HOME=");
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/root"));
	p.user.uid = 33;
	p.env = (struct spec_strings){0};
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/var/www"));
	p.user.uid = 34; /* the line of this user in /etc/passwd has no home directory */
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	p.user.uid = 5; /* the line of this user in /etc/passwd ends too early */
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	p.user.uid = 4000; /* /etc/passwd has no line for this user */
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	/* the line of this user is the last one of /etc/passwd and has no line feed */
	p.user.uid = 77;
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/last"));
	p.env = (struct spec_strings)STRINGS("A=1", "NOVALUE");
	CHECK(find_program(&c, &p) == -EINVAL);
	CHECK_MSG("process.env[1]: \"NOVALUE\": expected NAME=VALUE");
	p.env = (struct spec_strings)STRINGS("=x");
	CHECK(find_program(&c, &p) == -EINVAL);
	/*
	 * If the runtime sends an environment for the program, the program must get it instead of
	 * process.env.
	 */
	struct step s = {.process = &p};
	c.env = (char *const[]){"LISTEN_FDS=1", NULL};
	CHECK(step_find_program(&c, &s) == 0);
	CHECK(streq(env_of(&c, "LISTEN_FDS"), "1") && !env_of(&c, "A"));
}

/*
 * Checks that the search for the program neither fails nor hangs, whatever /etc/passwd is, because
 * the container controls that file.
 */
static void run_hostile_passwd(void)
{
	struct step_ctx c = exec_rootfs_enter(exec_rootfs());
	struct spec_process p = {.cwd = "/", .args = STRINGS("/bin/prog")};
	static char block[1 << 16];

	CHECK(unlink("/etc/passwd") == 0 && mkfifo("/etc/passwd", 0666) == 0);
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	CHECK(unlink("/etc/passwd") == 0 && mkdir("/etc/passwd", 0755) == 0);
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	CHECK(rmdir("/etc/passwd") == 0 && symlink("/etc/passwd", "/etc/passwd") == 0);
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	CHECK(unlink("/etc/passwd") == 0);
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	/* The test makes an /etc/passwd that is larger than the part of it that caisson reads. */
	int fd = open("/etc/passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	memset(block, ':', sizeof(block));
	for (int i = 0; i < 17; i++)
		CHECK(write(fd, block, sizeof(block)) == sizeof(block));
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	/* The test makes an /etc/passwd that has malformed lines and then a good one. */
	static const char odd[] =
		"\n:\n::::::\nx:x:0x0:0::/hex:\nx:x:99999999999999999999:0::/big:\n"
		"x:x:-0:0::/minus:\nx:x: 0:0::/blank:\nroot:x:0:0::/good:/bin/sh";
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, odd, sizeof(odd) - 1, 0) > 0);
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/good"));
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, "\0root:x:0:0::/nul:\n", 19, 0) == 19);
	CHECK(find_program(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
}

static void run_many_variables(void)
{
	enum { N = 20000 };
	struct step_ctx c = exec_rootfs_enter(exec_rootfs());
	const char **env = calloc(N + 1, sizeof(*env));
	size_t n = 0;

	for (int i = 0; i < N; i++) {
		char *e = NULL;
		CHECK(asprintf(&e, "V%d=%d", i % (N / 2), i) > 0);
		env[i] = e;
	}
	struct spec_process p = {.cwd = "/", .args = STRINGS("/bin/prog"), .env = {env, N}};
	CHECK(find_program(&c, &p) == 0);
	while (c.env[n])
		n++;
	CHECK(n == N / 2 + 1);
	CHECK(streq(c.env[0], "V0=10000") && streq(c.env[N / 2 - 1], "V9999=19999"));
}

ROOT_CHILD_TEST(environment)
ROOT_CHILD_TEST(hostile_passwd)
ROOT_CHILD_TEST(many_variables)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_many_variables),
		/*
		 * This test must be the last one, because it changes the root file system that all
		 * tests use.
		 */
		cmocka_unit_test(test_hostile_passwd),
	};

	return cmocka_run_group_tests(tests, make_rootfs, remove_rootfs);
}
