/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs credential helpers: programs docker-credential-NAME, which read and write JSON on standard
 * streams.
 */
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "images/oci/auth_internal.h"
#include "images/oci/fields.h"

#define OUTPUT_MAX (64u << 10)
/*
 * How long a helper may run. A helper may ask its user for a passphrase, but a helper that hangs
 * must not hang this program.
 */
#define HELPER_SECONDS 60

extern char **environ;

/*
 * Refuses the name of a credential helper that has a slash, because the program would then be
 * searched in another directory than those of $PATH.
 */
static int check_helper(const char *helper)
{
	if (!*helper || strlen(helper) > 200 || strchr(helper, '/'))
		return err_set(EINVAL, "\"%.200s\" is no name of a credential helper", helper);
	return 0;
}

/*
 * Waits until the descriptor is readable. Returns -ETIMEDOUT if the descriptor is not readable at
 * the time `until`.
 */
static int wait_readable(int fd, int64_t until, const char *program)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		int64_t left = until - clock_ms();
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (n > 0)
			return 0;
		if (n == 0)
			return err_set(ETIMEDOUT, "%s has not answered within %d seconds", program,
				HELPER_SECONDS);
		if (errno != EINTR)
			return err_sys("wait for %s", program);
	}
}

static int read_output(int fd, int64_t until, struct strbuf *output, const char *program)
{
	char buf[4096];

	for (;;) {
		int r = wait_readable(fd, until, program);
		if (r < 0)
			return r;
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read what %s prints", program);
		if (n == 0)
			return 0;
		if (output->len + (size_t)n > OUTPUT_MAX)
			return err_set(EFBIG, "%s prints more than %u bytes", program, OUTPUT_MAX);
		r = strbuf_add(output, buf, (size_t)n);
		if (r < 0)
			return r;
	}
}

/* Waits until the helper has ended, because a helper that has closed its output may still run. */
static int wait_for_end(pid_t pid, int64_t until, const char *program)
{
	_cleanup_fd_ int pidfd = pidfd_open(pid, 0);

	if (pidfd < 0)
		return err_sys("open the process of %s", program);
	return wait_readable(pidfd, until, program);
}

static int reap(pid_t pid, const char *program)
{
	int status;

	int r = process_wait(pid, program, &status);
	if (r < 0)
		return r;
	if (WIFSIGNALED(status))
		return err_set(EIO, "%s was killed by signal %d", program, WTERMSIG(status));
	return WEXITSTATUS(status);
}

static int start(const char *program, const char *verb, int in, int out, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	char *const argv[] = {(char *)program, (char *)verb, NULL};

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	int e = posix_spawnp(ret, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return e ? err_set(e, "execute the credential helper %s: %s", program, err_text(e)) : 0;
}

/*
 * Runs the credential helper with `text` as its standard input, and returns its exit code. The text
 * fits into a pipe's buffer, so this process cannot block while writing it, even if the helper does
 * not read before it has written its own output.
 */
static int run(const char *helper, const char *verb, const char *text, struct strbuf *output)
{
	char program[256];
	int in[2], out[2];
	pid_t pid;
	int r = check_helper(helper);

	if (r < 0)
		return r;
	snprintf(program, sizeof(program), "docker-credential-%s", helper);
	if (strlen(text) > 4096)
		return err_set(E2BIG, "credentials are too long for %s", program);
	if (pipe2(in, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int in_read = in[0], in_write = in[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int out_read = out[0], out_write = out[1];
	r = fd_write_all(in_write, text, strlen(text));
	if (r < 0)
		return err_set(-r, "write to %s: %s", program, err_text(-r));
	fd_close(&in_write);
	r = start(program, verb, in_read, out_write, &pid);
	if (r < 0)
		return r;
	fd_close(&out_write);
	int64_t until = clock_ms() + HELPER_SECONDS * 1000;
	r = read_output(out_read, until, output, program);
	fd_close(&out_read);
	if (r >= 0)
		r = wait_for_end(pid, until, program);
	if (r < 0) {
		char message[ERR_MAX];
		snprintf(message, sizeof(message), "%s", err_msg());
		kill(pid, SIGKILL);
		(void)!reap(pid, program);
		return err_set(-r, "%s", message);
	}
	return reap(pid, program);
}

/* Returns the key under which credential helpers store the credentials of the host. */
static const char *key_of(const char *host)
{
	return streq(host, "docker.io") ? AUTH_DOCKER_KEY : host;
}

static bool says_none(const struct strbuf *output)
{
	return strstr(strbuf_str(output), "not found") != NULL;
}

static int failed(const char *helper, int code, const struct strbuf *output)
{
	char line[200];

	str_clean(line, sizeof(line), strbuf_str(output), output->len);
	return err_set(EIO, "docker-credential-%.100s: exit code %d: %s", helper, code, line);
}

int helper_get(struct arena *a, const char *helper, const char *host, struct credentials *ret)
{
	_cleanup_strbuf_ struct strbuf output = {0};
	const char *user, *secret;
	const struct json *root;
	char what[256];
	int r = run(helper, "get", key_of(host), &output);

	if (r < 0)
		return r;
	if (r > 0)
		return says_none(&output) ? 0 : failed(helper, r, &output);
	snprintf(what, sizeof(what), "the answer of docker-credential-%s", helper);
	r = fields_parse(a, &output, what, &root);
	if (r >= 0)
		r = field_string(&(struct field){root, what, "Username"}, &user);
	if (r >= 0)
		r = field_string(&(struct field){root, what, "Secret"}, &secret);
	if (r < 0)
		return r;
	if (!user || !secret || !*secret)
		return 0;
	*ret = streq(user, "<token>") ? (struct credentials){.identity_token = secret}
				      : (struct credentials){.user = user, .password = secret};
	return 1;
}

int helper_store(const char *helper, const char *host, const struct credentials *c)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf output = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "ServerURL", key_of(host));
	json_out_str(&o, "Username", c->user);
	json_out_str(&o, "Secret", c->password);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	if (r >= 0)
		r = run(helper, "store", text, &output);
	return r > 0 ? failed(helper, r, &output) : r;
}

int helper_erase(const char *helper, const char *host)
{
	_cleanup_strbuf_ struct strbuf output = {0};
	int r = run(helper, "erase", key_of(host), &output);

	if (r > 0)
		return says_none(&output) ? -ENOENT : failed(helper, r, &output);
	return r;
}
