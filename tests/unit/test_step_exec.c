/* SPDX-License-Identifier: Apache-2.0 */
/* Tests step/exec.c: the working directory, the program, and the texts of its errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/path.h"
#include "step/step.h"
#include "unit/rig/child.h"
#include "unit/rig/exec_rootfs.h"

static const struct plan plan_of_exec = {.exec = true};

static void run_programs(void)
{
	struct step_ctx c = exec_rootfs_enter(exec_rootfs());
	struct spec_process p = {
		.cwd = "/", .args = STRINGS("prog"), .env = STRINGS("PATH=/nope:/usr/bin:/bin")};

	CHECK(find_program(&c, &p) == 0);
	CHECK(streq(c.exe, "/bin/prog"));
	p.args = (struct spec_strings)STRINGS("missing");
	CHECK(find_program(&c, &p) == -ENOENT);
	CHECK_MSG("exec: \"missing\": executable file not found in $PATH");
	p.args = (struct spec_strings)STRINGS("/nope/x");
	CHECK(find_program(&c, &p) == -ENOENT);
	CHECK(streq(err_msg(), "exec: \"/nope/x\": stat /nope/x: " NO_SUCH_FILE));
	p.args = (struct spec_strings)STRINGS("/etc/passwd");
	CHECK(find_program(&c, &p) == -EPERM);
	CHECK(streq(err_msg(), "exec: \"/etc/passwd\": permission denied"));
	/*
	 * For an ordinary user, `create` must also report that the program is not executable,
	 * because no user can execute a file without execute permission.
	 */
	p.user.uid = 1000;
	CHECK(find_program(&c, &p) == -EPERM);
	p.user.uid = 0;
	p.args = (struct spec_strings)STRINGS("/bin");
	CHECK(find_program(&c, &p) == -EISDIR);
	CHECK_MSG("exec: \"/bin\": is a directory");
	p.args = (struct spec_strings)STRINGS("/etc/passwd/x");
	CHECK(find_program(&c, &p) == -ENOTDIR);
	p.args = (struct spec_strings)STRINGS("/bin/fifo");
	CHECK(find_program(&c, &p) == -EPERM);
	p.args = (struct spec_strings)STRINGS("/bin/loop");
	CHECK(find_program(&c, &p) == -ELOOP);
	p.args = (struct spec_strings)STRINGS("");
	CHECK(find_program(&c, &p) == -EINVAL);
	CHECK_MSG("process.args");
	p.args = (struct spec_strings){0};
	CHECK(find_program(&c, &p) == -EINVAL);
	/*
	 * If the file in the first directory of PATH is not executable, the search must go on to
	 * the next directory.
	 */
	p.args = (struct spec_strings)STRINGS("twice");
	CHECK(find_program(&c, &p) == 0 && streq(c.exe, "/bin/twice"));
	/* An absolute symbolic link to a program must be resolved inside the container's root. */
	p.args = (struct spec_strings)STRINGS("/bin/link");
	CHECK(find_program(&c, &p) == 0);
	/*
	 * A relative path of the program, and relative directories in PATH, must start at the
	 * working directory cwd.
	 */
	p.cwd = "/bin";
	p.args = (struct spec_strings)STRINGS("./prog");
	CHECK(find_program(&c, &p) == 0 && streq(c.exe, "./prog"));
	p.args = (struct spec_strings)STRINGS("../bin/prog");
	CHECK(find_program(&c, &p) == 0);
	p.args = (struct spec_strings)STRINGS("prog");
	p.env = (struct spec_strings)STRINGS("PATH=/nope:");
	CHECK(find_program(&c, &p) == 0 && streq(c.exe, "./prog"));
	/*
	 * Without PATH in process.env, the usual directories must be searched, but the environment
	 * must get no PATH.
	 */
	p.cwd = "/";
	p.env = (struct spec_strings){0};
	CHECK(find_program(&c, &p) == 0 && streq(c.exe, "/bin/prog"));
	CHECK(!env_of(&c, "PATH"));
}

static void run_directories(void)
{
	char path[PATH_MAX];
	struct stat st;
	int outside = open("/", O_PATH | O_DIRECTORY);
	struct step_ctx c = exec_rootfs_enter(exec_rootfs());
	struct spec_process p = {.cwd = "/new/deep", .args = STRINGS("/bin/prog")};

	CHECK(find_program(&c, &p) == 0);
	CHECK(getcwd(path, sizeof(path)) && streq(path, "/new/deep"));
	CHECK(stat("/new/deep", &st) == 0 && (st.st_mode & 07777) == 0755);
	/*
	 * A process of `caisson exec` must get an error if its working directory is missing; the
	 * directory must not be made.
	 */
	c.plan = &plan_of_exec;
	p.cwd = "/not/there";
	CHECK(find_program(&c, &p) == -ENOENT);
	CHECK(streq(err_msg(),
		"chdir to cwd (\"/not/there\") set in config.json failed: " NO_SUCH_FILE));
	CHECK(access("/not", F_OK) < 0);
	p.cwd = "/etc/passwd";
	CHECK(find_program(&c, &p) == -ENOTDIR);
	/*
	 * A symbolic link in cwd that leads out of the container's root must be resolved inside
	 * this root.
	 */
	p.cwd = "/up";
	CHECK(find_program(&c, &p) == 0);
	CHECK(getcwd(path, sizeof(path)) && streq(path, "/etc"));
	/*
	 * The context's descriptor of the root refers to another directory here than the process's
	 * own root. A working directory outside of that directory must be refused, because the
	 * process may have broken out of the container.
	 */
	c.root = outside;
	p.cwd = "/etc";
	CHECK(find_program(&c, &p) == -EPERM);
	CHECK_MSG("possible container breakout");
	/*
	 * If the context has no descriptor of the root, as for a process of `caisson exec`, the
	 * working directory must be found without it.
	 */
	c.root = -EBADF;
	CHECK(find_program(&c, &p) == 0);
	CHECK(getcwd(path, sizeof(path)) && streq(path, "/etc"));
}

/*
 * Checks that paths through /proc are refused. CVE-2024-21626: the working directory is a
 * descriptor's number, or a link to one. CVE-2019-5736: the program is /proc/self/exe.
 */
static void run_magic_links(void)
{
	struct step_ctx c = exec_rootfs_enter("/");
	struct spec_process p = {.args = STRINGS("/bin/true")};
	char cwd[64], link[64];

	for (int fd = 3; fd <= 20; fd++) {
		snprintf(cwd, sizeof(cwd), "/proc/self/fd/%d", fd);
		CHECK(dup2(c.root, fd) == fd);
		c.root = fd;
		p.cwd = cwd;
		CHECK(find_program(&c, &p) == -ELOOP);
		CHECK_MSG("set in config.json failed: it leads through a link of procfs");
	}
	snprintf(link, sizeof(link), "%s/fd-link", exec_rootfs());
	CHECK(symlink("/proc/self/fd/7/etc", link) == 0);
	p.cwd = link;
	CHECK(find_program(&c, &p) == -ELOOP);
	p.cwd = "/";
	p.args = (struct spec_strings)STRINGS("/proc/self/exe");
	CHECK(find_program(&c, &p) == -ELOOP);
	CHECK_MSG("exec: \"/proc/self/exe\": refused");
}

static void run(struct step_ctx *c, const struct spec_process *p)
{
	struct step s = {.process = p};

	CHECK(find_program(c, p) == 0);
	CHECK(step_exec(c, &s) < 0);
}

static void becomes_the_program(void)
{
	struct step_ctx c = exec_rootfs_enter("/");
	struct spec_process p = {
		.cwd = "/usr",
		.args = STRINGS("sh", "-c",
			"[ \"$PWD\" = /usr ] && [ $# = 2 ] && [ \"$2\" = 'b c' ] && [ $X = 1 ] && "
			"[ $(env | grep -c -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD) = 3 ] && "
			"grep -q '^SigIgn:.0*$' /proc/self/status && "
			"grep -q '^SigBlk:.0*$' /proc/self/status && kill -PIPE $$",
			"sh", "a", "b c"),
		.env = STRINGS("X=1", "PATH=/usr/bin:/bin"),
	};
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigfillset(&set);
	sigdelset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	run(&c, &p);
}

static void test_becomes_the_program(void **state)
{
	needs_root();
	int status = child_status(becomes_the_program);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGPIPE);
}

static void run_exec_errors(void)
{
	struct step_ctx c = exec_rootfs_enter(exec_rootfs());
	struct spec_process p = {.cwd = "/", .args = STRINGS("/bin/no-interpreter")};

	run(&c, &p);
	CHECK_MSG("exec /bin/no-interpreter: " NO_SUCH_FILE ": the file is there, but its "
		  "interpreter");
	p.args = (struct spec_strings)STRINGS("no-format");
	run(&c, &p);
	CHECK_MSG("exec /bin/no-format: exec format error");
	/*
	 * The test removes the program between two moments: after the search has found the program,
	 * and before the process executes it.
	 */
	p.args = (struct spec_strings)STRINGS("/bin/prog");
	struct step s = {.process = &p};
	CHECK(find_program(&c, &p) == 0 && unlink("/bin/prog") == 0);
	CHECK(step_exec(&c, &s) == -ENOENT);
	CHECK(streq(err_msg(), "exec /bin/prog: " NO_SUCH_FILE));
}

/*
 * Checks a program that PATH names twice, of which root may execute only the first file and the
 * user only the second: the user's own rights must decide.
 */
static void user_searches_again(void)
{
	struct step_ctx c = exec_rootfs_enter("/");
	char path[PATH_MAX];
	struct step s;

	snprintf(path, sizeof(path), "PATH=%s/roots:%s/users", exec_rootfs(), exec_rootfs());
	struct spec_process p = {
		.cwd = "/", .user = {1000, 1000}, .args = STRINGS("pick"), .env = STRINGS(path)};
	s = (struct step){.process = &p};
	CHECK(find_program(&c, &p) == 0 && strstr(c.exe, "/roots/pick"));
	CHECK(setgid(1000) == 0 && setuid(1000) == 0);
	/*
	 * the test closes the descriptor of the root, as the step WAIT_START does before the
	 * program runs
	 */
	fd_close(&c.root);
	CHECK(step_exec(&c, &s) < 0);
}

static void run_user_may_not(void)
{
	struct step_ctx c = exec_rootfs_enter("/");
	char program[PATH_MAX];

	snprintf(program, sizeof(program), "%s/roots/pick", exec_rootfs());
	struct spec_process p = {.cwd = "/", .user = {1000, 1000}, .args = STRINGS(program)};
	struct step s = {.process = &p};
	CHECK(find_program(&c, &p) == 0);
	CHECK(setgid(1000) == 0 && setuid(1000) == 0);
	CHECK(step_exec(&c, &s) == -EPERM || step_exec(&c, &s) == -EACCES);
	CHECK_MSG("/roots/pick\": permission denied");
}

/*
 * Makes a process object for ./pick, a program in a directory that only the user 1000 may search.
 */
static struct spec_process private_pick(uint32_t id)
{
	static char cwd[PATH_MAX];
	static const char *const args[] = {"./pick", NULL};

	snprintf(cwd, sizeof(cwd), "%s/private", exec_rootfs());
	return (struct spec_process){.cwd = cwd, .user = {id, id}, .args = {args, 1}};
}

/*
 * Checks that caisson-init searches for the program again when it is about to run it. The process
 * that searches first may have fewer rights than the one that runs the program, as root has on NFS.
 */
static void looked_up_later(void)
{
	struct step_ctx c = exec_rootfs_enter("/");
	struct spec_process p = private_pick(1000);
	struct step s = {.process = &p};
	CHECK(setegid(2000) == 0 && seteuid(2000) == 0);
	CHECK(find_program(&c, &p) == 0 && !c.exe);
	CHECK(seteuid(0) == 0 && setresgid(1000, 1000, 1000) == 0);
	CHECK(setresuid(1000, 1000, 1000) == 0);
	fd_close(&c.root);
	CHECK(step_exec(&c, &s) < 0);
}

static void run_not_even_later(void)
{
	struct step_ctx c = exec_rootfs_enter("/");
	struct spec_process p = private_pick(2000);
	struct step s = {.process = &p};
	CHECK(setresgid(2000, 2000, 2000) == 0 && setresuid(2000, 2000, 2000) == 0);
	CHECK(find_program(&c, &p) == 0 && !c.exe);
	CHECK(step_exec(&c, &s) == -EACCES);
	CHECK_MSG("set in config.json failed: permission denied");
}

static void test_user_searches_again(void **state)
{
	needs_root();
	int status = child_status(user_searches_again);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void test_looked_up_later(void **state)
{
	needs_root();
	int status = child_status(looked_up_later);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

ROOT_CHILD_TEST(programs)
ROOT_CHILD_TEST(directories)
ROOT_CHILD_TEST(magic_links)
ROOT_CHILD_TEST(exec_errors)
ROOT_CHILD_TEST(user_may_not)
ROOT_CHILD_TEST(not_even_later)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_magic_links),
		cmocka_unit_test(test_becomes_the_program),
		cmocka_unit_test(test_user_searches_again),
		cmocka_unit_test(test_user_may_not),
		cmocka_unit_test(test_looked_up_later),
		cmocka_unit_test(test_not_even_later),
		/*
		 * This test must be the last one, because it changes the root file system that all
		 * tests use.
		 */
		cmocka_unit_test(test_exec_errors),
	};

	return cmocka_run_group_tests(tests, make_rootfs, remove_rootfs);
}
