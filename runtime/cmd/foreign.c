/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the commands for a machine with an operating system of its own: `run --disk`,
 * `console`, `machine`, and `exec` by ssh, which is used if no agent in the machine answers.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "launch/vm_client.h"

#define CONSOLE_LEAVE 0x1d /* Ctrl-], which leaves `caisson console` */
#define BUFFER 4096
#define NO_AGENT \
	"no agent of caisson answers (`caisson machine install-agent` puts it into a " \
	"disk) and no qemu-guest-agent"
#define SSH_USER "io.caisson.vm.ssh.user"
#define SSH_KEY "io.caisson.vm.ssh.key"

int cmd_run_disk(const struct command *self, const struct globals *g, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	char **words = arena_array(&a, (size_t)argc + 4, sizeof(*words));
	int r = cmd_set_runtime(g), n = 1;

	if (r < 0 || !words)
		return r < 0 ? r : -ENOMEM;
	words[n++] = (char *)"--machine";
	/* The name caisson-vm stands for --isolation vm. */
	if (g->vm)
		words[n++] = (char *)"--isolation=vm";
	for (int i = 0; i < argc; i++)
		words[n++] = argv[i];
	return cmd_execute("caisson-inside", "libarchive", words);
}

int cmd_machine(const struct command *self, const struct globals *g, int argc, char **argv)
{
	if (argc == 0 || streq(argv[0], "--help") || streq(argv[0], "-h") ||
		streq(argv[0], "help")) {
		printf("Usage: caisson %s %s\n\n%s\n\n%s\n\nCommands:\n"
		       "  install-agent  Put caisson's agent into the operating system of a "
		       "disk.\n\n"
		       "`caisson machine COMMAND --help` says more; caisson-machine(7) says all.\n",
			self->name, self->usage, self->summary, self->text);
		return 0;
	}
	if (!streq(argv[0], "install-agent"))
		return err_set(EINVAL,
			"unknown command \"machine %.100s\": `caisson machine --help` lists them",
			argv[0]);
	int r = cmd_set_runtime(g);
	/*
	 * argv[-1] is the word "machine", which cmd_execute() replaces, and the list ends in NULL,
	 * as that of main() does.
	 */
	return r < 0 ? r : cmd_execute("caisson-inside", "libarchive", argv - 1);
}

bool cmd_is_foreign(const struct container *c)
{
	const char *guest = json_get_str(c->annotations, SPEC_GUEST);

	return c->vm && guest && streq(guest, "foreign");
}

/* --- caisson console --- */

struct session {
	int sock;   /* socket that is connected to the machine's console */
	bool typed; /* whether standard input is still read */
	bool left;  /* whether the user has typed Ctrl-], which ends the session */
};

static int set_raw(struct termios *ret_before)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, ret_before) < 0)
		return err_sys("read the terminal's attributes");
	raw = *ret_before;
	cfmakeraw(&raw);
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0 ? err_sys("make the terminal raw") : 0;
}

/*
 * Sends the user's input to the console. The socket does not block, so the function waits until the
 * machine takes the input.
 */
static int send_typed(struct session *s, const char *text, size_t len)
{
	while (len > 0) {
		struct pollfd p = {.fd = s->sock, .events = POLLOUT};
		ssize_t n = send(s->sock, text, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			n = poll(&p, 1, -1) < 0 && errno != EINTR ? -1 : 0;
		if (n < 0 && errno != EINTR)
			return errno == EPIPE ? 0 : err_sys("write to the console");
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int on_typed(struct session *s)
{
	char text[BUFFER];
	ssize_t n = read(STDIN_FILENO, text, sizeof(text));

	if (n <= 0) {
		s->typed = n < 0 && errno == EINTR;
		return 0;
	}
	const char *leave = memchr(text, CONSOLE_LEAVE, (size_t)n);
	s->left = leave != NULL;
	return send_typed(s, text, leave ? (size_t)(leave - text) : (size_t)n);
}

/*
 * Copies output of the console to standard output. Returns 0 at the end of the console, when the
 * machine has ended, and 1 before.
 */
static int on_output(const struct session *s)
{
	char text[BUFFER];
	ssize_t n = read(s->sock, text, sizeof(text));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : 0;
	if (n == 0)
		return 0;
	int r = fd_write_all(STDOUT_FILENO, text, (size_t)n);
	return r < 0 ? err_set(-r, "write to standard output: %s", err_text(-r)) : 1;
}

static int show_console(struct session *s)
{
	for (;;) {
		struct pollfd p[] = {{.fd = s->sock, .events = POLLIN},
			{.fd = s->typed ? STDIN_FILENO : -1, .events = POLLIN}};
		if (poll(p, ARRAY_SIZE(p), -1) < 0) {
			if (errno == EINTR)
				continue;
			return err_sys("wait for the console");
		}
		int r = p[0].revents ? on_output(s) : 1;
		if (r <= 0)
			return r;
		r = p[1].revents ? on_typed(s) : 0;
		if (r < 0 || s->left)
			return r;
	}
}

static int attach_console(struct container *c, struct session *s)
{
	int socks[2];

	if (!cmd_is_foreign(c))
		return err_set(ENOTSUP,
			"container \"%s\" has no serial console: only machines that `run --disk` "
			"started have one",
			c->id);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int theirs = socks[1];
	s->sock = socks[0];
	return vm_attach_console(c, theirs);
}

int cmd_console(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *vnc = NULL;
	const struct option_def defs[] = {
		{"vnc", 0, OPTION_STRING, &vnc, "PORT|SOCKET",
			"let VNC viewers see the screen, at this port of the host or Unix socket"},
		{0}};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;
	struct session s = {.sock = -EBADF, .typed = true};
	struct termios before;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], false, &c);
	if (r >= 0 && vnc)
		return cmd_serve_viewers(&c, vnc);
	if (r >= 0)
		r = attach_console(&c, &s);
	_cleanup_fd_ int sock = s.sock;
	if (r < 0)
		return r;
	bool terminal = isatty(STDIN_FILENO);
	if (terminal)
		r = set_raw(&before);
	if (r >= 0)
		r = show_console(&s);
	if (terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	return r;
}

/* --- caisson exec in a machine --- */

/*
 * Finds the address by which ssh reaches the machine: the first address of its network interfaces.
 */
static int find_address(struct container *c, const char **ret)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	int r = vm_ask(c, "address", &reply);

	if (r < 0)
		return r;
	const struct json *list = json_get(json_get(reply.json, "net"), "interfaces");
	for (const struct json *i = list ? list->first : NULL; i; i = i->next) {
		const struct json *addresses = json_get(i, "addresses");
		const char *local = addresses && addresses->first
					    ? json_get_str(addresses->first, "local")
					    : NULL;
		if (!local)
			continue;
		*ret = arena_strdup(&c->arena, local);
		return *ret ? 0 : -ENOMEM;
	}
	return err_set(ENOTSUP,
		"exec: container \"%s\" is a machine with an operating system of its own, in "
		"which " NO_AGENT ", so commands go by ssh, and it has no network: start it with "
		"--network, or log in with `caisson console %s`",
		c->id, c->id);
}

/*
 * Quotes the command's words, because the shell that sshd starts in the machine would split and
 * expand them.
 */
static int quote_words(int argc, char **argv, struct strbuf *ret)
{
	int r = 0;

	for (int i = 0; i < argc && r >= 0; i++) {
		r = strbuf_addf(ret, "%s'", i ? " " : "");
		for (const char *p = argv[i]; *p && r >= 0; p++)
			r = *p == '\'' ? strbuf_addf(ret, "'\\''") : strbuf_add(ret, p, 1);
		if (r >= 0)
			r = strbuf_addf(ret, "'");
	}
	return r;
}

bool cmd_has_ssh(const struct container *c)
{
	return json_get_str(c->annotations, SSH_USER) != NULL;
}

int cmd_exec_foreign(struct container *c, int argc, char **argv, bool tty)
{
	const char *user = json_get_str(c->annotations, SSH_USER), *address = NULL;
	const char *key = json_get_str(c->annotations, SSH_KEY);
	_cleanup_strbuf_ struct strbuf command = {0};
	const char *words[32];
	size_t n = 0;

	if (!user)
		return err_set(ENOTSUP,
			"exec: container \"%s\" is a machine with an operating system of its own, "
			"in which " NO_AGENT ", so commands go by ssh: start it with --ssh-key, or "
			"log in with `caisson console %s`",
			c->id, c->id);
	int r = find_address(c, &address);
	if (r >= 0)
		r = quote_words(argc, argv, &command);
	const char *hosts = arena_printf(&c->arena, "UserKnownHostsFile=%s/known_hosts", c->bundle);
	if (r < 0 || !hosts)
		return r < 0 ? r : -ENOMEM;
	/*
	 * ssh accepts the first host key that it sees of the machine (accept-new), because the
	 * machine makes its host key at its first boot.
	 */
	const char *const fixed[] = {"ssh", "-o", hosts, "-o", "StrictHostKeyChecking=accept-new",
		"-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR", "-l", user, tty ? "-t" : "-T"};
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		words[n++] = fixed[i];
	if (key) {
		words[n++] = "-o";
		words[n++] = "IdentitiesOnly=yes";
		words[n++] = "-i";
		words[n++] = key;
	}
	words[n++] = "--";
	words[n++] = address;
	words[n++] = strbuf_str(&command);
	words[n] = NULL;
	execvp(words[0], (char *const *)words);
	return err_sys(
		"exec: execute ssh, by which commands go into a machine (Debian: apt install "
		"openssh-client)");
}
