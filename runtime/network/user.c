/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The program, pasta or slirp4netns, passes the packets of the container ID.
 * The directory STATE/ID/ has the file "record", which names the container's network namespace, and
 * the file "pid" with the pid of the program. The program holds the namespace open, so it does not
 * end with the container, and `leave` ends it. A pid counts only if the process has the namespace's
 * path in its command line. pasta goes to the background by itself. slirp4netns is started in the
 * background, and gets its ports over a socket.
 */
#include "network/user.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/helper.h"

#define PASTA "pasta"
#define SLIRP "slirp4netns"
#define SLIRP_SERVER "10.0.2.3"
#define READY_TIMEOUT_MS 10000
/* number of checks, one every 10 ms, whether pasta or slirp4netns has ended after SIGTERM */
#define END_STEPS 200
#define WORDS_MAX 600

struct words {
	const char *v[WORDS_MAX];
	size_t n;
};

static void add(struct words *w, const char *a, const char *b)
{
	w->v[w->n++] = a;
	if (b)
		w->v[w->n++] = b;
}

static int state_dir(
	struct arena *a, const struct tool_globals *g, const char *id, const char **ret)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (!g->host.state && !runtime)
		return err_set(EINVAL,
			"XDG_RUNTIME_DIR is not set: caisson keeps there what an ordinary user's "
			"container has of a network");
	*ret = g->host.state ? arena_printf(a, "%s/%s", g->host.state, id)
			     : arena_printf(a, "%s/caisson-net/%s", runtime, id);
	return *ret ? 0 : -ENOMEM;
}

static int find_program(struct arena *a, const char *name, const char **ret)
{
	const char *path = getenv("PATH");
	char *copy = arena_strdup(a, path ? path : "/usr/local/bin:/usr/bin:/bin"), *save;

	*ret = NULL;
	for (char *p = copy ? strtok_r(copy, ":", &save) : NULL; p;
		p = strtok_r(NULL, ":", &save)) {
		*ret = arena_printf(a, "%s/%s", p, name);
		if (!*ret || access(*ret, X_OK) == 0)
			return *ret ? 0 : -ENOMEM;
	}
	return err_set(ENOENT,
		"--network: an ordinary user's container needs pasta or slirp4netns: install the "
		"package passt or slirp4netns, or use --network none");
}

static int choose_program(struct arena *a, struct user_join *j, const char **ret)
{
	bool any = streq(j->program, JOIN_USER);

	if (!any && !streq(j->program, PASTA) && !streq(j->program, SLIRP))
		return err_set(EPERM,
			"%.100s: an ordinary user's container joins no network of the host: "
			"expected " JOIN_USER ", " PASTA ", " SLIRP " or none",
			j->program);
	bool slirp_first = j->microvm && j->ports->n;
	if (any)
		j->program = slirp_first ? SLIRP : PASTA;
	int r = find_program(a, j->program, ret);
	if (r != -ENOENT || !any)
		return r;
	err_clear();
	j->program = slirp_first ? PASTA : SLIRP;
	return find_program(a, j->program, ret);
}

/* --- the process of pasta or slirp4netns --- */

static int read_text(const char *dir, const char *name, struct strbuf *ret)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int r = fd_read_file(AT_FDCWD, path, ret, 4096);
	if (r < 0)
		err_clear();
	else if (ret->len)
		ret->s[strcspn(ret->s, "\n")] = '\0';
	return r;
}

/*
 * Returns the pid of the process of pasta or slirp4netns that serves the namespace `record`, or 0
 * if no such process runs.
 */
static pid_t find_process(const char *dir, const char *record)
{
	_cleanup_strbuf_ struct strbuf text = {0}, line = {0};
	char path[64];
	uint64_t pid;

	if (read_text(dir, "pid", &text) < 0 || str_to_u64(strbuf_str(&text), &pid) < 0 || !pid ||
		pid > INT_MAX)
		return 0;
	snprintf(path, sizeof(path), "/proc/%llu/cmdline", (unsigned long long)pid);
	if (fd_read_file(AT_FDCWD, path, &line, 65536) < 0)
		err_clear();
	return line.s && memmem(line.s, line.len + 1, record, strlen(record) + 1) ? (pid_t)pid : 0;
}

static void remove_state(const char *dir)
{
	static const char *const files[] = {"pid", "socket", "record"};
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
	snprintf(path, sizeof(path), "%.*s", (int)(strrchr(dir, '/') - dir), dir);
	(void)rmdir(path);
}

static void end_process(const char *dir, const char *record)
{
	const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
	pid_t pid = find_process(dir, record);

	if (!pid || kill(pid, SIGTERM) < 0)
		return;
	for (int i = 0; i < END_STEPS && find_process(dir, record); i++)
		nanosleep(&moment, NULL);
	if (find_process(dir, record))
		(void)kill(pid, SIGKILL);
}

int user_leave(const struct tool_globals *g, const char *id, const char *record)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *dir;
	int r = state_dir(&a, g, id, &dir);

	if (r < 0)
		return r;
	/* If the directory has no file "record", neither pasta nor slirp4netns was started. */
	if (read_text(dir, "record", &text) < 0)
		remove_state(dir);
	else if (!record || streq(record, strbuf_str(&text))) {
		end_process(dir, strbuf_str(&text));
		remove_state(dir);
	}
	return 0;
}

/* --- reading the values of -p --- */

static int parse_ports(struct arena *a, const struct option_list *texts, struct port **ret)
{
	int r = 0;

	*ret = arena_array(a, texts->n + 1, sizeof(**ret));
	for (size_t i = 0; *ret && r >= 0 && i < texts->n; i++) {
		r = port_parse(texts->v[i], &(*ret)[i]);
		if (r >= 0 && streq(port_protocol((*ret)[i].protocol), "sctp"))
			r = err_set(EPROTONOSUPPORT,
				"-p %.100s: an ordinary user's container can publish tcp and udp "
				"only",
				texts->v[i]);
	}
	return *ret ? r : -ENOMEM;
}

/* Adds pasta's argument that publishes a port: HOST/FIRST-LAST:FIRST-LAST. */
static int add_pasta_port(struct arena *a, struct words *w, const struct port *p)
{
	char host[IP_TEXT] = "";

	if (p->host.family)
		ip_text(&p->host, host);
	const char *spec = arena_printf(a, "%s%s%u-%u:%u-%u", host, host[0] ? "/" : "",
		p->host_port, p->host_port + p->count - 1, p->port, p->port + p->count - 1);
	if (!spec)
		return -ENOMEM;
	add(w, streq(port_protocol(p->protocol), "udp") ? "-u" : "-t", spec);
	return 0;
}

/*
 * Adds the argument "none" for a protocol of which no ports are published, because pasta would
 * otherwise publish all ports of the protocol.
 */
static void add_none(struct words *w, const struct port *ports, size_t n, const char *protocol)
{
	for (size_t i = 0; i < n; i++)
		if (streq(port_protocol(ports[i].protocol), protocol))
			return;
	add(w, streq(protocol, "udp") ? "-u" : "-t", "none");
}

/* --- starting pasta --- */

static int start_pasta(struct arena *a, const struct user_join *j, const char *path,
	const char *dir, const struct port *ports)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf lines = {0};
	struct words w = {0};
	int status, r = 0;
	const char *pid = arena_printf(a, "%s/pid", dir);
	const char *userns =
		arena_printf(a, "%.*s/user", (int)(strrchr(j->record, '/') - j->record), j->record);

	if (!pid || !userns)
		return -ENOMEM;
	add(&w, PASTA, "--config-net");
	add(&w, "--quiet", "--no-map-gw");
	add(&w, "--ns-ifname", "eth0");
	add(&w, "--pid", pid);
	add(&w, "-T", "none");
	add(&w, "-U", "none");
	add_none(&w, ports, j->ports->n, "tcp");
	add_none(&w, ports, j->ports->n, "udp");
	for (size_t i = 0; r >= 0 && i < j->ports->n; i++)
		r = add_pasta_port(a, &w, &ports[i]);
	add(&w, "--userns", userns);
	add(&w, "--netns", j->record);
	if (r >= 0)
		r = helper_streams_open(&s, "", 0);
	if (r >= 0)
		r = helper_run(&s, path, w.v, &status);
	if (r < 0 || status == 0)
		return r;
	r = helper_read(&s, 2, &lines, 65536);
	return r < 0 ? r : err_set(EIO, "pasta: %.300s", helper_last_line(&lines));
}

/* --- starting slirp4netns --- */

static int connect_slirp(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(ENAMETOOLONG, "%s is too long for a socket's path", path);
	memcpy(addr.sun_path, path, strlen(path));
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_sys("connect to %s", path);
	return take_fd(&fd);
}

/*
 * Asks slirp4netns to publish one port and reads its answer. Each request has a connection of its
 * own, as slirp4netns(1) demands.
 */
static int publish_one(const char *socket, const struct port *p, unsigned i)
{
	char host[IP_TEXT] = "0.0.0.0", text[512], answer[512];
	_cleanup_fd_ int fd = connect_slirp(socket);
	ssize_t n;

	if (fd < 0)
		return fd;
	if (p->host.family)
		ip_text(&p->host, host);
	int len = snprintf(text, sizeof(text),
		"{\"execute\": \"add_hostfwd\", \"arguments\": {\"proto\": \"%s\", \"host_addr\": "
		"\"%s\", \"host_port\": %u, \"guest_port\": %u}}",
		port_protocol(p->protocol), host, p->host_port + i, p->port + i);
	int r = fd_write_all(fd, text, (size_t)len);
	if (r < 0 || shutdown(fd, SHUT_WR) < 0)
		return err_sys("ask slirp4netns for port %u", p->host_port + i);
	n = read(fd, answer, sizeof(answer) - 1);
	if (n < 0)
		return err_sys("hear of slirp4netns about port %u", p->host_port + i);
	answer[n] = '\0';
	if (strstr(answer, "\"return\"") && !strstr(answer, "\"error\""))
		return 0;
	return err_set(EADDRINUSE, "-p: slirp4netns cannot publish port %u/%s of %s: %.200s",
		p->host_port + i, port_protocol(p->protocol), host, answer);
}

static int publish(const char *socket, const struct port *ports, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (ports[i].host.family == AF_INET6)
			return err_set(EAFNOSUPPORT,
				"-p: slirp4netns publishes addresses of IPv4 only: install passt");
		for (unsigned k = 0; k < ports[i].count; k++) {
			int r = publish_one(socket, &ports[i], k);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static _Noreturn void become_slirp(const char *path, const char *const *words, int ready)
{
	setsid();
	if (fd_set_streams(-EBADF, -EBADF, -EBADF) >= 0 && dup2(ready, 3) == 3)
		execv(path, (char *const *)words);
	_exit(127);
}

static int await_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;

	if (poll(&p, 1, READY_TIMEOUT_MS) > 0 && read(fd, &byte, 1) == 1 && byte == '1')
		return 0;
	return err_set(EIO, "slirp4netns does not start: see `slirp4netns --configure` by hand");
}

static int write_text(const char *dir, const char *name, const char *text)
{
	_cleanup_fd_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys("open %s", dir);
	return fd_replace_file(fd, name, text, strlen(text), 0600);
}

static int start_slirp(struct arena *a, const struct user_join *j, const char *path,
	const char *dir, const struct port *ports)
{
	const char *socket = arena_printf(a, "%s/socket", dir);
	const char *userns = arena_printf(a, "--userns-path=%.*s/user",
		(int)(strrchr(j->record, '/') - j->record), j->record);
	const char *const words[] = {SLIRP, "--configure", "--mtu=65520", "--enable-ipv6",
		"--disable-host-loopback", "--enable-seccomp", "--ready-fd=3", "--api-socket",
		socket, "--netns-type=path", userns, j->record, "eth0", NULL};
	char pid[16];
	int ends[2];

	if (!socket || !userns)
		return -ENOMEM;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	_cleanup_fd_ int in = ends[0], out = ends[1];
	pid_t child = fork();
	if (child == 0)
		become_slirp(path, words, out);
	if (child < 0)
		return err_sys("fork");
	fd_close(&out);
	snprintf(pid, sizeof(pid), "%d", child);
	int r = write_text(dir, "pid", pid);
	if (r >= 0)
		r = await_ready(in);
	if (r >= 0)
		r = publish(socket, ports, j->ports->n);
	if (r < 0)
		(void)kill(child, SIGKILL);
	return r;
}

/* --- attaching the container to the network by pasta or slirp4netns --- */

static int make_dir(const char *dir)
{
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(dir, '/') - dir), dir);
	if ((mkdir(parent, 0700) < 0 && errno != EEXIST) ||
		(mkdir(dir, 0700) < 0 && errno != EEXIST))
		return err_sys("make the directory %s", dir);
	return 0;
}

static int start(struct arena *a, const struct user_join *j, const char *path, const char *dir,
	const struct port *ports)
{
	return streq(j->program, PASTA) ? start_pasta(a, j, path, dir, ports)
					: start_slirp(a, j, path, dir, ports);
}

/* Returns whether slirp4netns is installed. If it is not, keeps the error message that is set. */
static bool has_slirp(struct arena *a, const char **ret)
{
	_cleanup_free_ char *message = strdup(err_msg());

	if (find_program(a, SLIRP, ret) >= 0) {
		err_clear();
		return true;
	}
	err_set(EIO, "%s", message ? message : "no memory");
	return false;
}

/*
 * Refuses a container whose ID another container below another --root has, if pasta or slirp4netns
 * serves the other container, because both would have the directory `dir`.
 */
static int refuse_twin(const char *dir, const struct user_join *j)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (read_text(dir, "record", &text) < 0 || streq(strbuf_str(&text), j->record) ||
		!find_process(dir, strbuf_str(&text)))
		return 0;
	return err_set(EEXIST,
		"--network: a container \"%.100s\" below another --root has a network already: "
		"expected another ID",
		j->id);
}

int user_join(const struct tool_globals *g, const struct user_join *args)
{
	_cleanup_arena_ struct arena a = {0};
	struct user_join j = *args;
	struct container_files files = *args->files;
	const char *path, *dir;
	struct port *ports;

	int r = choose_program(&a, &j, &path);
	if (r >= 0)
		r = parse_ports(&a, j.ports, &ports);
	if (r >= 0)
		r = state_dir(&a, g, j.id, &dir);
	if (r >= 0)
		r = refuse_twin(dir, &j);
	if (r >= 0)
		r = make_dir(dir);
	if (r < 0)
		return r;
	r = write_text(dir, "record", j.record);
	if (r >= 0)
		r = start(&a, &j, path, dir, ports);
	/*
	 * If pasta has failed, slirp4netns is tried, because pasta needs a default route on the
	 * host and slirp4netns does not.
	 */
	if (r < 0 && streq(args->program, JOIN_USER) && streq(j.program, PASTA) &&
		has_slirp(&a, &path)) {
		j.program = SLIRP;
		r = start(&a, &j, path, dir, ports);
	}
	files.server = streq(j.program, SLIRP) ? SLIRP_SERVER : NULL;
	if (r >= 0 && files.dir)
		r = container_files_write(NULL, &files, NULL, 0);
	if (r >= 0)
		return 0;
	_cleanup_free_ char *message = strdup(err_msg());
	end_process(dir, j.record);
	remove_state(dir);
	return err_set(-r, "%s", message ? message : "no memory");
}
