/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c: the directory, the environment, the program, and the words for what is wrong with them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/path.h"
#include "step/step.h"
#include "unit/rig/child.h"

#define STRINGS(...) \
	{ \
		(const char *const[]){__VA_ARGS__, NULL}, \
			sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) \
	}
#define NO_SUCH_FILE "no such file or directory"

/* A root file system for looking things up; exec tests of real programs use the machine's own. */
static char rootfs[] = "/tmp/caisson-exec-XXXXXX";

static void put(const char *path, const char *text, mode_t mode)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", rootfs, path);
	_cleanup_fd_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	CHECK(fd >= 0 && fd_write_all(fd, text, strlen(text)) == 0 && fchmod(fd, mode) == 0);
}

static struct arena arena; /* of the child; it ends with it */
static const struct plan plan_of_create, plan_of_exec = {.exec = true};

/* The context of a child that is in the root file system. */
static struct step_ctx enter(const char *root)
{
	CHECK(chroot(root) == 0 && chdir("/") == 0);
	return (struct step_ctx){
		.plan = &plan_of_create,
		.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.proc = -EBADF,
		.console = -EBADF,
		.arena = &arena,
	};
}

static int find(struct step_ctx *c, const struct spec_process *p)
{
	struct step s = {.process = p};

	c->exe = NULL;
	c->env = NULL;
	err_clear();
	return step_find_program(c, &s);
}

static const char *env_of(const struct step_ctx *c, const char *name)
{
	const char *found = NULL;

	for (char *const *e = c->env; *e; e++)
		if (strncmp(*e, name, strlen(name)) == 0 && (*e)[strlen(name)] == '=') {
			CHECK(!found); /* once */
			found = *e + strlen(name) + 1;
		}
	return found;
}

static void programs(void)
{
	struct step_ctx c = enter(rootfs);
	struct spec_process p = {
		.cwd = "/", .args = STRINGS("prog"), .env = STRINGS("PATH=/nope:/usr/bin:/bin")};

	CHECK(find(&c, &p) == 0);
	CHECK(streq(c.exe, "/bin/prog"));
	p.args = (struct spec_strings)STRINGS("missing");
	CHECK(find(&c, &p) == -ENOENT);
	CHECK_MSG("exec: \"missing\": executable file not found in $PATH");
	p.args = (struct spec_strings)STRINGS("/nope/x");
	CHECK(find(&c, &p) == -ENOENT);
	CHECK(streq(err_msg(), "exec: \"/nope/x\": stat /nope/x: " NO_SUCH_FILE));
	p.args = (struct spec_strings)STRINGS("/etc/passwd");
	CHECK(find(&c, &p) == -EPERM);
	CHECK(streq(err_msg(), "exec: \"/etc/passwd\": permission denied"));
	/* Nobody's rights would change that: it is said at create for an ordinary user too. */
	p.user.uid = 1000;
	CHECK(find(&c, &p) == -EPERM);
	p.user.uid = 0;
	p.args = (struct spec_strings)STRINGS("/bin");
	CHECK(find(&c, &p) == -EISDIR);
	CHECK_MSG("exec: \"/bin\": is a directory");
	p.args = (struct spec_strings)STRINGS("/etc/passwd/x");
	CHECK(find(&c, &p) == -ENOTDIR);
	p.args = (struct spec_strings)STRINGS("/bin/fifo");
	CHECK(find(&c, &p) == -EPERM);
	p.args = (struct spec_strings)STRINGS("/bin/loop");
	CHECK(find(&c, &p) == -ELOOP);
	p.args = (struct spec_strings)STRINGS("");
	CHECK(find(&c, &p) == -EINVAL);
	CHECK_MSG("process.args");
	p.args = (struct spec_strings){0};
	CHECK(find(&c, &p) == -EINVAL);
	/* Not executable in one directory of PATH: the next. */
	p.args = (struct spec_strings)STRINGS("twice");
	CHECK(find(&c, &p) == 0 && streq(c.exe, "/bin/twice"));
	/* Absolute links are the container's. */
	p.args = (struct spec_strings)STRINGS("/bin/link");
	CHECK(find(&c, &p) == 0);
	/* Relative to cwd, by name and along PATH. */
	p.cwd = "/bin";
	p.args = (struct spec_strings)STRINGS("./prog");
	CHECK(find(&c, &p) == 0 && streq(c.exe, "./prog"));
	p.args = (struct spec_strings)STRINGS("../bin/prog");
	CHECK(find(&c, &p) == 0);
	p.args = (struct spec_strings)STRINGS("prog");
	p.env = (struct spec_strings)STRINGS("PATH=/nope:");
	CHECK(find(&c, &p) == 0 && streq(c.exe, "./prog"));
	/* Without PATH in the environment the usual one is searched, but not put there. */
	p.cwd = "/";
	p.env = (struct spec_strings){0};
	CHECK(find(&c, &p) == 0 && streq(c.exe, "/bin/prog"));
	CHECK(!env_of(&c, "PATH"));
}

static void directories(void)
{
	char path[PATH_MAX];
	struct stat st;
	int outside = open("/", O_PATH | O_DIRECTORY);
	struct step_ctx c = enter(rootfs);
	struct spec_process p = {.cwd = "/new/deep", .args = STRINGS("/bin/prog")};

	CHECK(find(&c, &p) == 0);
	CHECK(getcwd(path, sizeof(path)) && streq(path, "/new/deep"));
	CHECK(stat("/new/deep", &st) == 0 && (st.st_mode & 07777) == 0755);
	/* An exec makes none. */
	c.plan = &plan_of_exec;
	p.cwd = "/not/there";
	CHECK(find(&c, &p) == -ENOENT);
	CHECK(streq(err_msg(),
		"chdir to cwd (\"/not/there\") set in config.json failed: " NO_SUCH_FILE));
	CHECK(access("/not", F_OK) < 0);
	p.cwd = "/etc/passwd";
	CHECK(find(&c, &p) == -ENOTDIR);
	/* A link to the outside leads to the inside. */
	p.cwd = "/up";
	CHECK(find(&c, &p) == 0);
	CHECK(getcwd(path, sizeof(path)) && streq(path, "/etc"));
	/* A root descriptor of another tree: what it reaches is not reachable. */
	c.root = outside;
	p.cwd = "/etc";
	CHECK(find(&c, &p) == -EPERM);
	CHECK_MSG("possible container breakout");
	/* An exec's context without a descriptor. */
	c.root = -EBADF;
	CHECK(find(&c, &p) == 0);
	CHECK(getcwd(path, sizeof(path)) && streq(path, "/etc"));
}

/*
 * CVE-2024-21626: by the number of a descriptor, or through a link to one. CVE-2019-5736: by
 * /proc/self/exe.
 */
static void magic_links(void)
{
	struct step_ctx c = enter("/");
	struct spec_process p = {.args = STRINGS("/bin/true")};
	char cwd[64], link[64];

	for (int fd = 3; fd <= 20; fd++) {
		snprintf(cwd, sizeof(cwd), "/proc/self/fd/%d", fd);
		CHECK(dup2(c.root, fd) == fd);
		c.root = fd;
		p.cwd = cwd;
		CHECK(find(&c, &p) == -ELOOP);
		CHECK_MSG("set in config.json failed: it leads through a link of procfs");
	}
	snprintf(link, sizeof(link), "%s/fd-link", rootfs);
	CHECK(symlink("/proc/self/fd/7/etc", link) == 0);
	p.cwd = link;
	CHECK(find(&c, &p) == -ELOOP);
	p.cwd = "/";
	p.args = (struct spec_strings)STRINGS("/proc/self/exe");
	CHECK(find(&c, &p) == -ELOOP);
	CHECK_MSG("exec: \"/proc/self/exe\": refused");
}

static void environment(void)
{
	struct step_ctx c = enter(rootfs);
	struct spec_process p = {
		.cwd = "/",
		.args = STRINGS("/bin/prog"),
		.env = STRINGS("A=1", "B=x=y", "A=2", "AA=3", "EMPTY=", "HOME=/there", "A=4"),
	};

	CHECK(find(&c, &p) == 0);
	CHECK(streq(env_of(&c, "A"), "4") && streq(env_of(&c, "B"), "x=y"));
	CHECK(streq(env_of(&c, "AA"), "3") && streq(env_of(&c, "EMPTY"), ""));
	CHECK(streq(env_of(&c, "HOME"), "/there"));
	CHECK(streq(c.env[0], "B=x=y") && streq(c.env[4], "A=4") && !c.env[5]);
	/*
	 * HOME of the container's user; an empty one counts as none, even behind one that is not.
	 */
	p.env = (struct spec_strings)STRINGS("HOME=/there", "HOME=");
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/root"));
	p.user.uid = 33;
	p.env = (struct spec_strings){0};
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/var/www"));
	p.user.uid = 34; /* its line has no home */
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	p.user.uid = 5; /* its line is cut */
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	p.user.uid = 4000; /* nobody */
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	p.user.uid = 77; /* the last line, without a line feed */
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/last"));
	p.env = (struct spec_strings)STRINGS("A=1", "NOVALUE");
	CHECK(find(&c, &p) == -EINVAL);
	CHECK_MSG("process.env[1]: \"NOVALUE\": expected NAME=VALUE");
	p.env = (struct spec_strings)STRINGS("=x");
	CHECK(find(&c, &p) == -EINVAL);
	/* What launch put in place of process.env. */
	struct step s = {.process = &p};
	c.env = (char *const[]){"LISTEN_FDS=1", NULL};
	CHECK(step_find_program(&c, &s) == 0);
	CHECK(streq(env_of(&c, "LISTEN_FDS"), "1") && !env_of(&c, "A"));
}

/* /etc/passwd is the container's: whatever it is, finding the program neither fails nor hangs. */
static void hostile_passwd(void)
{
	struct step_ctx c = enter(rootfs);
	struct spec_process p = {.cwd = "/", .args = STRINGS("/bin/prog")};
	static char block[1 << 16];

	CHECK(unlink("/etc/passwd") == 0 && mkfifo("/etc/passwd", 0666) == 0);
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	CHECK(unlink("/etc/passwd") == 0 && mkdir("/etc/passwd", 0755) == 0);
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	CHECK(rmdir("/etc/passwd") == 0 && symlink("/etc/passwd", "/etc/passwd") == 0);
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	CHECK(unlink("/etc/passwd") == 0);
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	/* Larger than what is read. */
	int fd = open("/etc/passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	memset(block, ':', sizeof(block));
	for (int i = 0; i < 17; i++)
		CHECK(write(fd, block, sizeof(block)) == sizeof(block));
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
	/* Odd lines, NULs, numbers that are not, a good one behind them. */
	static const char odd[] =
		"\n:\n::::::\nx:x:0x0:0::/hex:\nx:x:99999999999999999999:0::/big:\n"
		"x:x:-0:0::/minus:\nx:x: 0:0::/blank:\nroot:x:0:0::/good:/bin/sh";
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, odd, sizeof(odd) - 1, 0) > 0);
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/good"));
	CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, "\0root:x:0:0::/nul:\n", 19, 0) == 19);
	CHECK(find(&c, &p) == 0 && streq(env_of(&c, "HOME"), "/"));
}

static void many_variables(void)
{
	enum { N = 20000 };
	struct step_ctx c = enter(rootfs);
	const char **env = calloc(N + 1, sizeof(*env));
	size_t n = 0;

	for (int i = 0; i < N; i++) {
		char *e = NULL;
		CHECK(asprintf(&e, "V%d=%d", i % (N / 2), i) > 0);
		env[i] = e;
	}
	struct spec_process p = {.cwd = "/", .args = STRINGS("/bin/prog"), .env = {env, N}};
	CHECK(find(&c, &p) == 0);
	while (c.env[n])
		n++;
	CHECK(n == N / 2 + 1);
	CHECK(streq(c.env[0], "V0=10000") && streq(c.env[N / 2 - 1], "V9999=19999"));
}

static void run(struct step_ctx *c, const struct spec_process *p)
{
	struct step s = {.process = p};

	CHECK(find(c, p) == 0);
	CHECK(step_exec(c, &s) < 0);
}

static void becomes_the_program(void)
{
	struct step_ctx c = enter("/");
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

static void exec_errors(void)
{
	struct step_ctx c = enter(rootfs);
	struct spec_process p = {.cwd = "/", .args = STRINGS("/bin/no-interpreter")};

	run(&c, &p);
	CHECK_MSG("exec /bin/no-interpreter: " NO_SUCH_FILE ": the file is there, but its "
		  "interpreter");
	p.args = (struct spec_strings)STRINGS("no-format");
	run(&c, &p);
	CHECK_MSG("exec /bin/no-format: exec format error");
	/* Removed in between. */
	p.args = (struct spec_strings)STRINGS("/bin/prog");
	struct step s = {.process = &p};
	CHECK(find(&c, &p) == 0 && unlink("/bin/prog") == 0);
	CHECK(step_exec(&c, &s) == -ENOENT);
	CHECK(streq(err_msg(), "exec /bin/prog: " NO_SUCH_FILE));
}

/* Root may execute the first, the user only the second. */
static void user_searches_again(void)
{
	struct step_ctx c = enter("/");
	char path[PATH_MAX];
	struct step s;

	snprintf(path, sizeof(path), "PATH=%s/roots:%s/users", rootfs, rootfs);
	struct spec_process p = {
		.cwd = "/", .user = {1000, 1000}, .args = STRINGS("pick"), .env = STRINGS(path)};
	s = (struct step){.process = &p};
	CHECK(find(&c, &p) == 0 && strstr(c.exe, "/roots/pick"));
	CHECK(setgid(1000) == 0 && setuid(1000) == 0);
	fd_close(&c.root); /* as WAIT_START does */
	CHECK(step_exec(&c, &s) < 0);
}

static void user_may_not(void)
{
	struct step_ctx c = enter("/");
	char program[PATH_MAX];

	snprintf(program, sizeof(program), "%s/roots/pick", rootfs);
	struct spec_process p = {.cwd = "/", .user = {1000, 1000}, .args = STRINGS(program)};
	struct step s = {.process = &p};
	CHECK(find(&c, &p) == 0);
	CHECK(setgid(1000) == 0 && setuid(1000) == 0);
	CHECK(step_exec(&c, &s) == -EPERM || step_exec(&c, &s) == -EACCES);
	CHECK_MSG("/roots/pick\": permission denied");
}

/* Who looks has fewer rights than who runs, as root on NFS: looked up again at EXEC. */
static void looked_up_later(void)
{
	struct step_ctx c = enter("/");
	char cwd[PATH_MAX];

	snprintf(cwd, sizeof(cwd), "%s/private", rootfs);
	struct spec_process p = {.cwd = cwd, .user = {1000, 1000}, .args = STRINGS("./pick")};
	struct step s = {.process = &p};
	CHECK(setegid(2000) == 0 && seteuid(2000) == 0);
	CHECK(find(&c, &p) == 0 && !c.exe);
	CHECK(seteuid(0) == 0 && setresgid(1000, 1000, 1000) == 0);
	CHECK(setresuid(1000, 1000, 1000) == 0);
	fd_close(&c.root);
	CHECK(step_exec(&c, &s) < 0);
}

static void not_even_later(void)
{
	struct step_ctx c = enter("/");
	char cwd[PATH_MAX];

	snprintf(cwd, sizeof(cwd), "%s/private", rootfs);
	struct spec_process p = {.cwd = cwd, .user = {2000, 2000}, .args = STRINGS("./pick")};
	struct step s = {.process = &p};
	CHECK(setresgid(2000, 2000, 2000) == 0 && setresuid(2000, 2000, 2000) == 0);
	CHECK(find(&c, &p) == 0 && !c.exe);
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

#define CHILD_TEST(name) \
	static void test_##name(void **state) \
	{ \
		needs_root(); \
		in_child(name); \
	}

CHILD_TEST(programs)
CHILD_TEST(directories)
CHILD_TEST(magic_links)
CHILD_TEST(environment)
CHILD_TEST(hostile_passwd)
CHILD_TEST(many_variables)
CHILD_TEST(exec_errors)
CHILD_TEST(user_may_not)
CHILD_TEST(not_even_later)

static int fill_rootfs(void)
{
	char command[512];

	snprintf(command, sizeof(command),
		"cd %s && chmod 755 . && mkdir -p etc bin usr/bin roots users private && "
		"ln -s loop bin/loop && ln -s /bin/prog bin/link && mkfifo -m 777 bin/fifo && "
		"ln -s ../../../../../etc up",
		rootfs);
	if (system(command) != 0)
		return -1;
	put("etc/passwd",
		"root:x:0:0:root:/root:/bin/sh\ncut:x:5:5\nwww:x:33:33:www:/var/www:/bin/false\n"
		"nohome:x:34:34:::/bin/sh\nlast:x:77:77::/last:/bin/sh",
		0644);
	put("bin/prog", "#!/bin/sh\n", 0755);
	put("usr/bin/twice", "#!/bin/sh\n", 0644);
	put("bin/twice", "#!/bin/sh\n", 0755);
	put("bin/no-interpreter", "#!/no/interpreter\n", 0755);
	put("bin/no-format",
		"\x7f"
		"not an ELF file",
		0755);
	put("roots/pick", "#!/bin/sh\nexit 41\n", 0700);
	put("users/pick", "#!/bin/sh\nexit 42\n", 0755);
	put("private/pick", "#!/bin/sh\nexit 42\n", 0755);
	snprintf(command, sizeof(command), "cd %s && chown 1000:1000 private && chmod 700 private",
		rootfs);
	return geteuid() == 0 ? system(command) : 0;
}

static int make_rootfs(void **state)
{
	return mkdtemp(rootfs) ? fill_rootfs() : -1;
}

static int remove_rootfs(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", rootfs);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_magic_links),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_many_variables),
		cmocka_unit_test(test_becomes_the_program),
		cmocka_unit_test(test_user_searches_again),
		cmocka_unit_test(test_user_may_not),
		cmocka_unit_test(test_looked_up_later),
		cmocka_unit_test(test_not_even_later),
		/* These change the root file system. */
		cmocka_unit_test(test_hostile_passwd),
		cmocka_unit_test(test_exec_errors),
	};

	return cmocka_run_group_tests(tests, make_rootfs, remove_rootfs);
}
