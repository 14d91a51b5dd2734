/* SPDX-License-Identifier: Apache-2.0 */
/* Tests hooks by running real ones, which are shell scripts in the arguments of sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/arena.h"
#include "base/fd.h"
#include "step/step.h"
#include "unit/rig/child.h"

static char dir[] = "/tmp/caisson-hook-XXXXXX";

/* The hook `sh -c SCRIPT`. In the script $1 is the test's directory. */
struct script {
	const char *args[6], *env[3];
	struct spec_hook hook;
};

static const struct spec_hook *script(struct script *s, const char *text)
{
	*s = (struct script){
		.args = {"sh", "-c", text, "sh", dir},
		.env = {"PATH=/usr/bin:/bin", "GREETING=hello world"},
	};
	s->hook = (struct spec_hook){
		.path = "/bin/sh", .args = {s->args, 5}, .env = {s->env, 2}, .has_env = true};
	return &s->hook;
}

static int run(const struct spec_hook *hooks, size_t n, const char *state, size_t len)
{
	const struct spec_hooks all = {hooks, n};

	err_clear();
	return hooks_run("createRuntime", &all, state, len, NULL);
}

static int run_script(const char *text)
{
	struct script s;

	return run(script(&s, text), 1, "{}", 2);
}

static char *content(const char *name)
{
	static struct strbuf b;
	char path[128];

	strbuf_release(&b);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(fd_read_file(AT_FDCWD, path, &b, 4 << 20), 0);
	return b.s ? b.s : (char *)"";
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test_state_and_env(void **state)
{
	const char text[] = "{\"ociVersion\":\"1.3.0\",\"id\":\"x\"}";
	struct script s;

	assert_int_equal(
		run(script(&s, "cat >$1/state; env >$1/env"), 1, text, sizeof(text) - 1), 0);
	assert_string_equal(content("state"), text);
	char *env = content("env");
	assert_non_null(strstr(env, "GREETING=hello world\n"));
	assert_null(strstr(env, "HOME="));
}

static void test_empty_env_and_args(void **state)
{
	static const char *const args[] = {"env", NULL};
	static const char *const none[] = {NULL};
	struct spec_hook hook = {
		.path = "/usr/bin/env", .args = {args, 1}, .env = {none, 0}, .has_env = true};

	assert_int_equal(setenv("CAISSON_SECRET", "1", 1), 0);
	/*
	 * The hook runs env(1), which must succeed. It prints nothing, because the hook's
	 * environment is empty.
	 */
	assert_int_equal(run(&hook, 1, "{}", 2), 0);
	struct script s;
	script(&s, "exec /usr/bin/env >$1/none");
	s.hook.env = (struct spec_strings){none, 0};
	assert_int_equal(run(&s.hook, 1, "{}", 2), 0);
	assert_null(strstr(content("none"), "CAISSON_SECRET"));
	/* Checks that a hook without `env` gets the caller's environment. */
	s.hook.has_env = false;
	assert_int_equal(run(&s.hook, 1, "{}", 2), 0);
	assert_non_null(strstr(content("none"), "CAISSON_SECRET=1\n"));
	/* Checks that a hook without `args` gets its path as argv[0]. */
	hook = (struct spec_hook){.path = "/bin/true"};
	assert_int_equal(run(&hook, 1, "{}", 2), 0);
}

static void test_exit_status(void **state)
{
	assert_int_equal(run_script("echo to stdout; echo no luck >&2; exit 3"), -ECANCELED);
	assert_string_equal(err_msg(), "hooks.createRuntime[0] (/bin/sh): exited with status 3: to "
				       "stdout no luck");
	assert_int_equal(run_script("exit 9"), -ECANCELED);
	assert_string_equal(err_msg(), "hooks.createRuntime[0] (/bin/sh): exited with status 9");
	assert_int_equal(run_script("kill -SEGV $$"), -ECANCELED);
	assert_string_equal(
		err_msg(), "hooks.createRuntime[0] (/bin/sh): was killed by signal 11 (SIGSEGV)");
}

static void test_last_output_is_kept(void **state)
{
	assert_int_equal(
		run_script(
			"i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 1"),
		-ECANCELED);
	const char *msg = err_msg();
	assert_true(strlen(msg) < 1200 && strlen(msg) > 1000);
	assert_non_null(strstr(msg, "line 19998 line 19999"));
	assert_null(strstr(msg, "line 1 "));
}

static void test_cannot_be_executed(void **state)
{
	struct spec_hook hook = {.path = "/no/such/hook"};

	assert_int_equal(run(&hook, 1, "{}", 2), -ENOENT);
	assert_string_equal(err_msg(),
		"hooks.createRuntime[0] (/no/such/hook): cannot be executed: "
		"the file, or its interpreter, was not found");
	hook.path = "/etc/passwd";
	assert_int_equal(run(&hook, 1, "{}", 2), -EACCES);
	assert_non_null(strstr(err_msg(), "(/etc/passwd): cannot be executed: Permission denied"));
}

static void test_first_failure_ends_it(void **state)
{
	struct script a, b, c;
	struct spec_hook hooks[] = {
		*script(&a, "echo a >>$1/order"),
		*script(&b, "echo b >>$1/order; exit 1"),
		*script(&c, "echo c >>$1/order"),
	};

	assert_int_equal(run(hooks, 3, "{}", 2), -ECANCELED);
	assert_non_null(strstr(err_msg(), "hooks.createRuntime[1] (/bin/sh): exited"));
	assert_string_equal(content("order"), "a\nb\n");
}

static void test_timeout_kills_the_group(void **state)
{
	struct script s;
	struct spec_hook hook = *script(&s, "sleep 60 & echo $! >$1/pid; echo waiting; sleep 60");

	hook.timeout = (struct opt_i64){true, 1};
	double start = now();
	assert_int_equal(run(&hook, 1, "{}", 2), -ETIMEDOUT);
	assert_string_equal(err_msg(), "hooks.createRuntime[0] (/bin/sh): did not end within its "
				       "timeout of 1 s and was killed: waiting");
	double took = now() - start;
	assert_true(took > 0.9 && took < 10);
	/*
	 * Checks that the process which the script has started in the background was killed too. It
	 * may still be a zombie, if init has not reaped it.
	 */
	pid_t pid = (pid_t)atoi(content("pid"));
	assert_true(pid > 1);
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (int i = 0; i < 100; i++) {
		struct strbuf b = {0};
		if (fd_read_file(AT_FDCWD, path, &b, 4096) < 0 || strstr(b.s, ") Z ")) {
			strbuf_release(&b);
			return;
		}
		strbuf_release(&b);
		usleep(20000);
	}
	fail_msg("process %d outlived the hook that timed out", pid);
}

static void test_timeout_not_reached(void **state)
{
	struct script s;
	struct spec_hook hook = *script(&s, "exit 0");

	hook.timeout = (struct opt_i64){true, INT64_MAX};
	assert_int_equal(run(&hook, 1, "{}", 2), 0);
}

/*
 * Checks hooks that get a container's state far larger than a pipe's buffer. One hook reads the
 * state late, one does not read it, one closes its input, and one reads 10 bytes and fails. None of
 * them may block the runtime.
 */
static void test_large_state(void **state)
{
	size_t len = 1 << 20;
	char *text = malloc(len);
	struct script s;

	assert_non_null(text);
	memset(text, 'j', len);
	assert_int_equal(run(script(&s, "sleep 0.2; wc -c >$1/count"), 1, text, len), 0);
	assert_int_equal(atoi(content("count")), (int)len);
	assert_int_equal(run(script(&s, "exit 0"), 1, text, len), 0);
	assert_int_equal(run(script(&s, "exec <&-; sleep 0.1; exit 0"), 1, text, len), 0);
	assert_int_equal(
		run(script(&s, "head -c 10 >/dev/null; exit 4"), 1, text, len), -ECANCELED);
	free(text);
}

static void test_daemon_does_not_block(void **state)
{
	double start = now();

	assert_int_equal(run_script("sleep 20 & echo $! >$1/daemon; exit 0"), 0);
	assert_true(now() - start < 5);
	kill((pid_t)atoi(content("daemon")), SIGKILL);
}

static void test_descriptors(void **state)
{
	/* this descriptor has no O_CLOEXEC, so the runtime must close it before execve(2) */
	int extra = open("/dev/null", O_RDONLY);

	assert_true(extra >= 0);
	/*
	 * The hook must have the descriptors 0 to 2 only. ls itself opens descriptor 3, for the
	 * directory that it reads.
	 */
	assert_int_equal(run_script("ls /proc/self/fd >$1/fds"), 0);
	close(extra);
	assert_string_equal(content("fds"), "0\n1\n2\n3\n");
}

static void without_stdio(void)
{
	close(0);
	close(1);
	close(2);
	_exit(run_script("cat >$1/closed; echo out; exit 0") == 0 ? 0 : 1);
}

static void test_closed_stdio(void **state)
{
	in_child(without_stdio);
	assert_string_equal(content("closed"), "{}");
}

static void with_odd_signals(void)
{
	sigset_t set;

	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(run_script("exit 5") == -ECANCELED);
	CHECK_MSG("exited with status 5");
	CHECK(run_script("kill -PIPE $$; exit 0") == -ECANCELED);
	CHECK_MSG("signal 13 (SIGPIPE)");
	CHECK(run_script("kill -TERM $$; exit 0") == -ECANCELED);
	CHECK_MSG("signal 15 (SIGTERM)");
}

static void test_signals(void **state)
{
	in_child(with_odd_signals);
}

static void killed_runtime(void)
{
	(void)!run_script("echo $$ >$1/orphan; exec sleep 60");
}

static void test_hook_dies_with_runtime(void **state)
{
	char path[128];

	pid_t pid = fork();
	if (pid == 0) {
		killed_runtime();
		_exit(0);
	}
	snprintf(path, sizeof(path), "%s/orphan", dir);
	for (int i = 0; i < 200 && access(path, F_OK) < 0; i++)
		usleep(10000);
	usleep(50000);
	pid_t hook = (pid_t)atoi(content("orphan"));
	assert_true(hook > 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(path, sizeof(path), "/proc/%d/stat", hook);
	for (int i = 0; i < 100; i++) {
		struct strbuf b = {0};
		bool gone = fd_read_file(AT_FDCWD, path, &b, 4096) < 0 || strstr(b.s, ") Z ");
		strbuf_release(&b);
		if (gone)
			return;
		usleep(20000);
	}
	fail_msg("the hook %d outlived the runtime", hook);
}

static int state_json(void *data, const char *status, struct strbuf *ret)
{
	return strbuf_addf(ret, "{\"status\":\"%s\",\"n\":%d}", status, *(int *)data);
}

static void test_step(void **state)
{
	static char *const env[] = {"FROM=process", "PATH=/usr/bin:/bin", NULL};
	_cleanup_arena_ struct arena arena = {0};
	struct script s;
	int data = 42;
	struct step_ctx c = {
		.state_json = state_json, .state_data = &data, .env = env, .arena = &arena};
	struct spec_hook hook = *script(&s, "cat >$1/step; env >$1/step-env");

	hook.has_env = false;
	hook.env = (struct spec_strings){NULL, 0};
	struct step step = {
		.hooks = {.name = "startContainer", .status = "created", .hooks = {&hook, 1}}};
	assert_int_equal(step_hooks(&c, &step), 0);
	assert_string_equal(content("step"), "{\"status\":\"created\",\"n\":42}");
	assert_non_null(strstr(content("step-env"), "FROM=process"));
	/*
	 * Checks that only a startContainer hook gets the environment of the container's process.
	 */
	step.hooks.name = "createContainer";
	s.args[2] = "/usr/bin/cat >$1/step; /usr/bin/env >$1/step-env";
	assert_int_equal(step_hooks(&c, &step), 0);
	assert_null(strstr(content("step-env"), "FROM=process"));
}

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state_and_env),
		cmocka_unit_test(test_empty_env_and_args),
		cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_last_output_is_kept),
		cmocka_unit_test(test_cannot_be_executed),
		cmocka_unit_test(test_first_failure_ends_it),
		cmocka_unit_test(test_timeout_kills_the_group),
		cmocka_unit_test(test_timeout_not_reached),
		cmocka_unit_test(test_large_state),
		cmocka_unit_test(test_daemon_does_not_block),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_closed_stdio),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_hook_dies_with_runtime),
		cmocka_unit_test(test_step),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
