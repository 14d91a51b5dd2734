/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the messages between caisson and caisson-systemd, and how each of the two programs handles
 * a partner that is missing, dies, or sends nonsense. The helpers here are shell scripts; the last
 * tests send broken requests to the real caisson-systemd. tests/host/test_cgroups_systemd.c runs
 * caisson-systemd with a real systemd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/libexec.h"
#include "cgroups/cg_internal.h"
#include "cgroups/systemd/protocol.h"

static const char *real_helper;
static char dir[] = "/tmp/caisson-helper.XXXXXX";

static const struct cgroup scope = {.manager = CG_SYSTEMD,
	.mount = "/sys/fs/cgroup",
	.path = "/system.slice/caisson-a.scope",
	.scope = "caisson-a.scope",
	.slice = "system.slice"};

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const void *data, size_t len, mode_t mode)
{
	assert_true(fd_replace_file(AT_FDCWD, path_of(name), data, len, mode) >= 0);
}

static void set_script(const char *text)
{
	char script[1024];

	snprintf(script, sizeof(script), "#!/bin/sh\ncd %s\n%s\n", dir, text);
	write_file(SYSTEMD_HELPER, script, strlen(script), 0755);
}

static void set_reply(int error, const char *message)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	const struct systemd_reply reply = {.error = error, .message = message};

	assert_true(pack_write(&systemd_reply_type, &reply, &bytes) >= 0);
	write_file("reply", bytes.s, bytes.len, 0644);
}

static int make_dir(void **state)
{
	return mkdtemp(dir) && setenv(LIBEXEC_VARIABLE, dir, 1) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {SYSTEMD_HELPER, "reply", "request", "environment"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)unlink(path_of(names[i]));
	return rmdir(dir);
}

static void assert_fails(int code, const char *text)
{
	err_clear();
	assert_int_equal(cg_systemd_attach(&scope, 1), -code);
	if (!strstr(err_msg(), text))
		fail_msg("\"%s\" does not mention \"%s\"", err_msg(), text);
}

static void test_missing(void **state)
{
	assert_fails(ENOENT, "needs the program");
	assert_fails(ENOENT, "--cgroup-manager cgroupfs");
	assert_fails(ENOENT, path_of(SYSTEMD_HELPER));
	write_file(SYSTEMD_HELPER, "", 0, 0644);
	assert_fails(EACCES, "needs the program");
	write_file(SYSTEMD_HELPER, "no program", 10, 0755);
	assert_fails(EIO, "execute it");
}

static void test_dies(void **state)
{
	set_reply(0, "");
	set_script("echo one >&2; echo 'the reason' >&2; cat reply; exit 3");
	assert_fails(EIO, "exit code 3: the reason");
	set_script("cat reply; kill -9 $$");
	assert_fails(EIO, "killed by signal 9");
}

static void test_nonsense(void **state)
{
	_cleanup_strbuf_ struct strbuf whole = {0};

	set_script("exit 0");
	assert_fails(EPROTO, "of the same build");
	set_script("echo nonsense; exit 0");
	assert_fails(EPROTO, "of the same build");
	set_reply(EIO, "a message");
	assert_true(fd_read_file(AT_FDCWD, path_of("reply"), &whole, 4096) >= 0);
	set_script("cat reply");
	for (size_t n = 0; n < whole.len; n++) {
		write_file("reply", whole.s, n, 0644);
		assert_fails(EPROTO, "of the same build");
	}
	set_reply(-5, "a message");
	assert_fails(EPROTO, "error number -5");
	set_reply(100000, "a message");
	assert_fails(EPROTO, "error number 100000");
	set_script("head -c 5000000 /dev/zero");
	assert_fails(EFBIG, "output");
}

static void test_answers(void **state)
{
	set_script("echo 'caisson: warning: seen' >&2; cat reply");
	set_reply(ESRCH, "the unit is gone");
	assert_fails(ESRCH, "the unit is gone");
	set_reply(0, "");
	assert_int_equal(cg_systemd_attach(&scope, 1), 0);
	assert_int_equal(cg_systemd_stop(&scope), 0);
	assert_int_equal(cg_systemd_update(&scope), 0);
}

/*
 * Checks that the program caisson-systemd gets none of caisson's descriptors, but gets caisson's
 * environment, because sd-bus needs it.
 */
static void test_inherits(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int leak = open("/dev/null", O_RDONLY);

	assert_true(leak > 2 && setenv("CAISSON_TEST", "here", 1) == 0);
	set_reply(0, "");
	/*
	 * The script counts the shell's descriptors of /dev/null, of which the shell must have
	 * inherited none.
	 */
	set_script("(env; ls -l /proc/$$/fd | grep -c /dev/null) > environment; cat reply");
	assert_int_equal(cg_systemd_stop(&scope), 0);
	fd_close(&leak);
	assert_true(fd_read_file(AT_FDCWD, path_of("environment"), &text, 65536) >= 0);
	assert_non_null(strstr(text.s, "CAISSON_TEST=here\n"));
	assert_non_null(strstr(text.s, "\n0\n"));
}

static const struct systemd_request *sent(struct strbuf *bytes)
{
	void *q;

	strbuf_reset(bytes);
	assert_true(fd_read_file(AT_FDCWD, path_of("request"), bytes, 65536) >= 0);
	if (pack_read(&systemd_request_type, bytes->s, bytes->len, &q) < 0)
		fail_msg("%s", err_msg());
	return q;
}

/*
 * Checks that a start request has the unit, the annotations, and the limits that become properties.
 * Nothing else of linux.resources may be sent, because its pointers would mean nothing to
 * caisson-systemd.
 */
static void test_start_is_sent_whole(void **state)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	const struct cg_unified properties[] = {{"TimeoutStopSec", "5"}, {"KillMode", "'mixed'"}};
	const struct cg_device_rule rule = {.type = 'a', .access = "rwm"};
	const struct cg_options opt = {.manager = CG_SYSTEMD,
		.id = "a",
		.cgroups_path = "system.slice:caisson:a",
		.systemd_properties = properties,
		.nsystemd_properties = 2};
	struct cg_resources res = {.devices = &rule,
		.ndevices = 1,
		.unified = properties,
		.nunified = 2,
		.pids_limit = {true, 7}};
	struct cgroup cg = scope;
	_cleanup_arena_ struct arena a = {0};

	cg.path = NULL;
	cg.refused = "no reason";
	res.memory.limit = (struct opt_i64){true, -1};
	res.memory.reservation = (struct opt_i64){true, 2};
	res.memory.swap = (struct opt_i64){true, 3};
	res.cpu.shares = (struct opt_u64){true, 4};
	res.cpu.period = (struct opt_u64){true, 5};
	res.cpu.quota = (struct opt_i64){true, 6};
	res.cpu.idle = (struct opt_i64){true, 1};
	res.cpu.cpus = "0-3";
	res.cpu.mems = "1";
	set_reply(EIO, "this far");
	set_script("cat > request; cat reply");
	assert_int_equal(cg_attach(&a, &cg, &opt, &res, 42), -EIO);
	const struct systemd_request *q = sent(&bytes);
	assert_int_equal(q->op, SYSTEMD_START);
	assert_int_equal(q->pid, 42);
	assert_true(q->has_limits && !q->cg.path && !q->cg.refused && !q->opt.cgroups_path);
	assert_string_equal(q->cg.scope, "caisson-a.scope");
	assert_string_equal(q->cg.slice, "system.slice");
	assert_string_equal(q->opt.id, "a");
	assert_int_equal(q->opt.nsystemd_properties, 2);
	assert_string_equal(q->opt.systemd_properties[1].file, "KillMode");
	assert_string_equal(q->opt.systemd_properties[1].value, "'mixed'");
	const struct cg_resources *l = &q->limits;
	assert_true(!l->devices && !l->ndevices && !l->unified && !l->nunified);
	assert_true(l->pids_limit.set && l->pids_limit.v == 7 && l->memory.limit.v == -1);
	assert_true(l->memory.reservation.v == 2 && l->memory.swap.v == 3);
	assert_true(l->cpu.shares.v == 4 && l->cpu.period.v == 5 && l->cpu.quota.v == 6);
	assert_true(l->cpu.idle.set && l->cpu.idle.v == 1);
	assert_string_equal(l->cpu.cpus, "0-3");
	assert_string_equal(l->cpu.mems, "1");
	assert_int_equal(cg_attach(&a, &cg, &opt, NULL, 42), -EIO);
	assert_false(sent(&bytes)->has_limits);
}

/*
 * Runs the real caisson-systemd with this request. Its standard output goes to the file "reply",
 * its standard error to the file "request".
 */
static int run_real(const void *request, size_t len)
{
	int status;

	write_file("environment", request, len, 0644);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char *const argv[] = {(char *)SYSTEMD_HELPER, NULL};
		int in = open(path_of("environment"), O_RDONLY),
		    out = open(path_of("reply"), O_WRONLY | O_CREAT | O_TRUNC, 0644),
		    err = open(path_of("request"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
		alarm(20);
		if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2)
			execv(real_helper, argv);
		_exit(126);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		fail_msg("caisson-systemd was killed by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static off_t size_of(const char *name)
{
	struct stat st;

	assert_int_equal(stat(path_of(name), &st), 0);
	return st.st_size;
}

static void assert_refused(const void *request, size_t len)
{
	assert_int_equal(run_real(request, len), 1);
	assert_int_equal(size_of("reply"), 0);
	assert_true(size_of("request") > 1);
}

static void test_broken_requests(void **state)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct systemd_request q = {.op = SYSTEMD_STOP, .cg = scope, .opt = {.id = "a"}};

	assert_true(pack_write(&systemd_request_type, &q, &bytes) >= 0);
	for (size_t n = 0; n < bytes.len; n += 9)
		assert_refused(bytes.s, n);
	/* changes the hash of the request's layout, which differs in a program of another build */
	bytes.s[8] ^= 1;
	assert_refused(bytes.s, bytes.len);
}

static void assert_request_refused(const struct systemd_request *q)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};

	assert_true(pack_write(&systemd_request_type, q, &bytes) >= 0);
	assert_refused(bytes.s, bytes.len);
}

/* Checks that caisson-systemd refuses a request that lacks what its operation needs. */
static void test_incomplete_requests(void **state)
{
	struct systemd_request q = {.op = SYSTEMD_START, .cg = scope, .opt = {.id = "a"}};

	assert_request_refused(&q); /* a request to start a scope needs a process */
	q.pid = 1;
	q.opt.id = NULL;
	assert_request_refused(&q);
	q.opt.id = "a";
	q.cg.slice = NULL;
	assert_request_refused(&q);
	q.op = SYSTEMD_ATTACH;
	q.cg.path = NULL;
	assert_request_refused(&q);
	q.op = SYSTEMD_UPDATE;
	assert_request_refused(&q);
	q.op = SYSTEMD_OPS;
	assert_request_refused(&q);
	q.op = SYSTEMD_STOP;
	q.cg.scope = NULL;
	assert_request_refused(&q);
}

/*
 * Checks that the real caisson-systemd sends a valid reply to a complete request, whatever this
 * machine's init is.
 */
static void test_real_reply(void **state)
{
	_cleanup_strbuf_ struct strbuf bytes = {0}, answer = {0};
	struct systemd_request q = {.op = SYSTEMD_ATTACH, .cg = scope, .pid = 1};
	void *reply;

	q.cg.scope = "caisson-no-such-unit.scope";
	q.cg.path = "/caisson-no-such-unit.scope";
	assert_true(pack_write(&systemd_request_type, &q, &bytes) >= 0);
	assert_int_equal(run_real(bytes.s, bytes.len), 0);
	assert_true(fd_read_file(AT_FDCWD, path_of("reply"), &answer, 65536) >= 0);
	assert_true(pack_read(&systemd_reply_type, answer.s, answer.len, &reply) >= 0);
	const struct systemd_reply *p = reply;
	assert_true(p->error > 0);
	assert_non_null(strstr(p->message, "systemd"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_dies),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_inherits),
		cmocka_unit_test(test_start_is_sent_whole),
		cmocka_unit_test(test_broken_requests),
		cmocka_unit_test(test_incomplete_requests),
		cmocka_unit_test(test_real_reply),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s PATH-OF-CAISSON-SYSTEMD\n", argv[0]);
		return 2;
	}
	real_helper = argv[1];
	return cmocka_run_group_tests_name("systemd_helper", tests, make_dir, remove_dir);
}
