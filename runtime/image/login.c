/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `caisson image login` and `caisson image logout`. */
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/registry_options.h"

#define PASSWORD_MAX 16384u

/* Reads the password from standard input, and removes the line end behind it. */
static int read_password(struct arena *a, const char **ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = fd_read_all(STDIN_FILENO, &text, PASSWORD_MAX, "the password");

	if (r < 0)
		return r;
	while (text.len > 0 && (text.s[text.len - 1] == '\n' || text.s[text.len - 1] == '\r'))
		text.len--;
	if (text.len == 0 || memchr(text.s, '\0', text.len))
		return err_set(EINVAL, "no password came on standard input");
	*ret = arena_strndup(a, text.s, text.len);
	return *ret ? 0 : -ENOMEM;
}

/* Asks for the password on the terminal, which does not show what is typed. */
static int ask_password(struct arena *a, const char *host, const char **ret)
{
	char line[1024];
	struct termios old, silent;
	_cleanup_fd_ int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (tty < 0 || tcgetattr(tty, &old) < 0)
		return err_set(EINVAL,
			"there is no terminal to ask for a password: give it by --password-stdin");
	silent = old;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	dprintf(tty, "password for %s: ", host);
	if (tcsetattr(tty, TCSAFLUSH, &silent) < 0)
		return err_sys("change the terminal");
	ssize_t n = read(tty, line, sizeof(line) - 1);
	tcsetattr(tty, TCSAFLUSH, &old);
	dprintf(tty, "\n");
	if (n <= 1)
		return err_set(EINVAL, "no password was given");
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	*ret = arena_strdup(a, line);
	return *ret ? 0 : -ENOMEM;
}

/*
 * Connects to the registry at `host`. The user's registries.conf may say that the registry is used
 * without TLS.
 */
static int open_registry(
	struct arena *a, const char *host, const struct registry_options *o, struct registry *g)
{
	const struct reference r = {.host = host, .repository = "login"};
	struct registries conf;
	struct endpoints endpoints;
	int rc = registries_load(a, &conf);

	if (rc >= 0)
		rc = registries_endpoints(&conf, a, &r, &endpoints);
	if (rc < 0)
		return rc;
	const struct endpoint e = {.host = host, .insecure = endpoints.v[endpoints.n - 1].insecure};
	rc = registry_open(g, &e, o);
	if (rc < 0)
		registry_close(g);
	return rc;
}

static int check(struct arena *a, const char *host, const struct registry_options *o)
{
	_cleanup_http_ struct http h = {0};
	struct registry g;
	int r = open_registry(a, host, o, &g);

	if (r < 0)
		return r;
	r = registry_handle(&g, &h);
	if (r >= 0)
		r = registry_check_login(&g, &h);
	registry_close(&g);
	return r;
}

static const char *clean_host(const char *host)
{
	if (str_starts(host, "https://"))
		host += strlen("https://");
	return streq(host, "index.docker.io") || streq(host, "registry-1.docker.io")
		       ? REFERENCE_DOCKER_HOST
		       : host;
}

int image_cmd_login(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct registry_arguments registry = {0};
	struct credentials c = {0};
	bool from_stdin = false;
	const struct option_def defs[] = {
		{"username", 'u', OPTION_STRING, &c.user, "USER", "the user (default: ask)"},
		{"password", 'p', OPTION_STRING, &c.password, "PASSWORD",
			"seen by all in the process list: rather use --password-stdin"},
		{"password-stdin", 0, OPTION_FLAG, &from_stdin, NULL,
			"read the password from standard input"},
		REGISTRY_OPTIONS(&registry),
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};
	struct registry_options o;
	const char *file;

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	const char *host = clean_host(args.v[0]);
	r = reference_check_host(host);
	if (r >= 0 && (!c.user || !*c.user || strchr(c.user, ':')))
		return err_set(
			EINVAL, "give the user's name by --username; it must not contain a colon");
	if (r >= 0 && from_stdin)
		r = read_password(&a, &c.password);
	else if (r >= 0 && !c.password)
		r = ask_password(&a, host, &c.password);
	if (r >= 0)
		r = registry_options_take(&registry, &a, &o);
	if (r < 0)
		return r;
	o.credentials = &c;
	r = check(&a, host, &o);
	if (r >= 0)
		r = auth_store(&a, registry.auth_file, host, &c, &file);
	if (r >= 0 && !g->quiet)
		fprintf(stderr, "logged in to %s; the password is kept by %s\n", host, file);
	return r < 0 ? r : 0;
}

int image_cmd_logout(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const char *file = NULL, *found;
	const struct option_def defs[] = {
		{"authfile", 0, OPTION_STRING, &file, "FILE",
			"credentials (default: podman's and docker's files)"},
		{0},
	};
	struct image_arguments args = {.min = 1, .max = 1};
	_cleanup_arena_ struct arena a = {0};

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	const char *host = clean_host(args.v[0]);
	r = reference_check_host(host);
	if (r >= 0)
		r = auth_store(&a, file, host, NULL, &found);
	if (r == -ENOENT)
		return err_set(ENOENT, "there are no credentials for %s in %s", host, found);
	return r < 0 ? r : 0;
}
