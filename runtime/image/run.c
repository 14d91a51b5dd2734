/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. caisson executes this program for `run --image` and `create --image`. This
 * program makes the bundle and then becomes caisson again by execve(2), with the same pid, so that
 * signals, the terminal and the exit code are those of an ordinary `caisson run`. Two cases need a
 * process in between:
 *  - An ordinary user's layers are written by a child, the root of a user namespace, because this
 *    process could not leave that namespace.
 *  - For `create` and `run --detach` this process waits for caisson, because it prints the name.
 *    With --rm a child waits for the container's end and deletes it.
 */
#include "image/run.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "image/run_prepare.h"

#define ARGS_MAX 64
#define LISTS_MAX 9 /* runtime_options, and two words each for the four options of networks */
#define LOG_TAIL 4096

/* Holds the arguments of a command for execve(2). */
struct words {
	const char *v[ARGS_MAX + LISTS_MAX * ARRAY_SIZE(((struct option_list *)0)->v)];
	size_t n;
};

static void add(struct words *w, const char *word)
{
	w->v[w->n++] = word;
}

static void add_all(struct words *w, const char *option, const struct option_list *values)
{
	for (size_t i = 0; i < values->n; i++) {
		add(w, option);
		add(w, values->v[i]);
	}
}

static void begin(struct words *w, const struct run_options *o, const char *command)
{
	w->n = 0;
	add(w, o->runtime);
	for (size_t i = 0; i < o->runtime_options.n; i++)
		add(w, o->runtime_options.v[i]);
	add(w, command);
}

static void build_run(struct words *w, const struct run_options *o, const char *command,
	const struct run_bundle *b, const char *name)
{
	begin(w, o, command);
	add(w, "--bundle");
	add(w, b->dir);
	if (b->layers) {
		add(w, "--root-layers");
		add(w, b->layers);
	}
	add(w, "--remove-bundle");
	if (o->isolation) {
		add(w, "--isolation");
		add(w, o->isolation);
	}
	if (o->hypervisor) {
		add(w, "--hypervisor");
		add(w, o->hypervisor);
	}
	if (run_joins(o)) {
		add_all(w, "--network", &o->network);
		add_all(w, "--publish", &o->publish);
		add_all(w, "--dns", &o->dns);
		add_all(w, "--add-host", &o->add_host);
	}
	if (o->detach && streq(command, "run"))
		add(w, "--detach");
	else if (!o->rm && streq(command, "run"))
		add(w, "--keep");
	add(w, name);
	add(w, NULL);
}

static int execute(const struct words *w)
{
	execv(w->v[0], (char *const *)w->v);
	return err_sys("execute %s", w->v[0]);
}

/* Runs the command, waits for it, and returns its exit code. */
static int run_and_wait(const struct words *w)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execv(w->v[0], (char *const *)w->v);
		_exit(127);
	}
	if (pid < 0)
		return err_sys("make a process");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys("wait for caisson");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Prepares the bundle in a child that may become root of a user namespace. */
static int prepare_in_child(
	const struct image_globals *g, const struct run_options *o, const char *name)
{
	pid_t self = getpid();
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0) {
		int r = run_prepare(g, o, name, self);
		if (r < 0)
			log_error(err_msg());
		fflush(stderr);
		_exit(r < 0 ? 1 : 0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys("wait for the layers");
	return status ? 1 : 0;
}

/* Makes a random name of 12 hexadecimal digits. */
static int random_name(struct arena *a, const char **ret)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return err_sys("get random bytes");
	*ret = arena_printf(a, "%012" PRIx64, random & UINT64_C(0xffffffffffff));
	return *ret ? 0 : -ENOMEM;
}

/*
 * Redirects the standard streams for a container that runs in the background: its input becomes
 * /dev/null, and its output and errors go to the file `log` in the bundle's directory.
 */
static int redirect_to_log(const struct run_bundle *b)
{
	_cleanup_fd_ int dir = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int log =
		dir < 0 ? -1 : openat(dir, "log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (log < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
		dup2(log, STDERR_FILENO) < 0)
		return err_sys("open %s/log", b->dir);
	return 0;
}

static int drop_input(void)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	return null < 0 || dup2(null, STDIN_FILENO) < 0 ? err_sys("open /dev/null") : 0;
}

/*
 * Copies the log to standard error, because it holds caisson's error. The file is open as standard
 * output, although the container's directory has been removed with it.
 */
static void report_log(int err)
{
	char text[LOG_TAIL];
	ssize_t n = pread(STDOUT_FILENO, text, sizeof(text), 0);

	if (n > 0)
		(void)!fd_write_all(err, text, (size_t)n);
}

/* Opens a pidfd of the container's first process. `create` has written its pid to the bundle. */
static int open_container(const struct run_bundle *b)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	_cleanup_fd_ int dir = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	uint64_t pid;
	int r = dir < 0 ? -errno : fd_read_file(dir, "pid", &text, 64);

	if (r < 0 || str_to_u64(strbuf_str(&text), &pid) < 0 || pid == 0 || pid > INT_MAX)
		return -EINVAL;
	return pidfd_open((pid_t)pid, 0);
}

/* Waits, in a session of its own, until the container ends, and then becomes `caisson delete`. */
static _Noreturn void delete_later(
	const struct run_options *o, const struct run_bundle *b, const char *name)
{
	struct words w;
	int pidfd = open_container(b);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	setsid();
	(void)!chdir("/");
	/*
	 * Closes the caller's output, because whoever reads it until its end would otherwise wait
	 * for the container's end.
	 */
	int null = open("/dev/null", O_RDWR);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	while (pidfd >= 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	begin(&w, o, "delete");
	add(&w, "--force");
	add(&w, name);
	add(&w, NULL);
	(void)!execute(&w);
	_exit(1);
}

/* Runs `run --detach` or `create`, and prints the container's name. */
static int run_detached(const struct run_options *o, const char *command,
	const struct run_bundle *b, const char *name)
{
	_cleanup_fd_ int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	_cleanup_fd_ int err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	char pid_file[PATH_MAX];
	struct words w;

	build_run(&w, o, command, b, name);
	snprintf(pid_file, sizeof(pid_file), "%s/pid", b->dir);
	w.n -= 2;
	add(&w, "--pid-file");
	add(&w, pid_file);
	add(&w, name);
	add(&w, NULL);
	int r = out < 0 || err < 0 ? err_sys("duplicate a descriptor") : redirect_to_log(b);
	if (r >= 0)
		r = run_and_wait(&w);
	if (r > 0)
		report_log(err);
	if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
		return err_sys("duplicate a descriptor");
	if (r != 0)
		return r;
	if (o->rm) {
		pid_t pid = fork();
		if (pid == 0)
			delete_later(o, b, name);
		if (pid < 0)
			return err_sys("make a process that deletes the container");
	}
	printf("%s\n", name);
	return fflush(stdout) == 0 ? 0 : err_sys("write to standard output");
}

static int start(const struct image_globals *g, const struct run_options *o, const char *command,
	const char *name)
{
	_cleanup_arena_ struct arena a = {0};
	struct run_bundle b;
	struct words w;
	int r = run_find_bundle(g, &a, name, &b);

	if (r < 0)
		return r;
	if (o->detach || streq(command, "create"))
		return run_detached(o, command, &b, name);
	if (!o->interactive && !o->tty)
		r = drop_input();
	build_run(&w, o, command, &b, name);
	return r < 0 ? r : execute(&w);
}

static int check_options(const struct run_options *o, const char *command)
{
	if (!o->image)
		return err_set(EINVAL, "--image is missing: it names the image to run");
	if (!o->runtime || !o->state_root)
		return err_set(EINVAL, "this command is executed by `caisson %s --image`", command);
	if (o->tty && (o->detach || streq(command, "create")))
		return err_set(EINVAL,
			"--tty: a container in the background has no terminal: leave out --tty or "
			"--detach");
	if (o->isolation && !streq(o->isolation, "ns") && !streq(o->isolation, "vm"))
		return err_set(EINVAL, "--isolation %.100s: expected ns or vm", o->isolation);
	return 0;
}

static int run_image(const struct image_globals *g, struct run_options *o, const char *command)
{
	_cleanup_arena_ struct arena a = {0};
	const char *name = o->name;
	int r = check_options(o, command);

	if (r >= 0)
		r = run_choose_network(&a, o);
	if (r >= 0 && !name)
		r = random_name(&a, &name);
	if (r < 0)
		return r;
	if (geteuid() == 0)
		r = run_prepare(g, o, name, getpid());
	else
		r = prepare_in_child(g, o, name);
	if (r != 0)
		return r;
	r = start(g, o, command, name);
	if (r != 0) {
		char message[ERR_MAX];
		snprintf(message, sizeof(message), "%s", err_msg());
		run_remove_bundle(g, name);
		if (r < 0)
			return err_set(-r, "%s", message);
	}
	return r;
}

int image_cmd_run(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	struct run_options o = {0};
	struct image_globals own = *g;
	const struct option_def defs[] = {
		{"image", 0, OPTION_STRING, &o.image, "IMAGE",
			"the image, by its name in the store"},
		{"name", 0, OPTION_STRING, &o.name, "NAME", "the container's ID (default: random)"},
		{"detach", 'd', OPTION_FLAG, &o.detach, NULL,
			"return once it runs, and print its name; `caisson logs` has its output"},
		{"rm", 0, OPTION_FLAG, &o.rm, NULL, "delete the container when it ends"},
		{"interactive", 'i', OPTION_FLAG, &o.interactive, NULL,
			"the program reads this command's standard input"},
		{"tty", 't', OPTION_FLAG, &o.tty, NULL, "the program gets a terminal"},
		{"env", 'e', OPTION_LIST, &o.env, "NAME[=VALUE]",
			"set a variable (without a value: the caller's)"},
		{"env-file", 0, OPTION_LIST, &o.env_file, "FILE", "read variables, one a line"},
		{"volume", 'v', OPTION_LIST, &o.volume, "[DIR:]PATH[:OPTIONS]",
			"mount a directory or file of the host on PATH (ro: read-only)"},
		{"mount", 0, OPTION_LIST, &o.mount, "type=TYPE,...",
			"the same in words: type=bind|tmpfs,source=,target=,readonly"},
		{"tmpfs", 0, OPTION_LIST, &o.tmpfs, "PATH[:OPTIONS]", "mount a tmpfs"},
		{"workdir", 'w', OPTION_STRING, &o.workdir, "DIR", "in place of the image's"},
		{"user", 'u', OPTION_STRING, &o.user, "USER[:GROUP]", "in place of the image's"},
		{"entrypoint", 0, OPTION_LIST, &o.entrypoint, "PROGRAM",
			"in place of the image's, whose Cmd is left out too; \"\": none"},
		{"hostname", 0, OPTION_STRING, &o.hostname, "NAME", "(default: the container's)"},
		{"label", 'l', OPTION_LIST, &o.label, "NAME=VALUE",
			"an annotation of the container"},
		{"network", 0, OPTION_LIST, &o.network, "NETWORK",
			"none, host, ns:PATH, or a network of `caisson net`: "
			"NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (default: caisson)"},
		{"dns", 0, OPTION_LIST, &o.dns, "ADDRESS",
			"a name server, in place of the network's or the host's"},
		{"add-host", 0, OPTION_LIST, &o.add_host, "NAME:ADDRESS",
			"a line of /etc/hosts; the address host-gateway is the host's"},
		{"publish", 'p', OPTION_LIST, &o.publish, "PORTS",
			"let ports of the host lead to it: [HOST:]PORT:PORT[/tcp|udp|sctp]"},
		{"read-only", 0, OPTION_FLAG, &o.read_only, NULL,
			"the root file system is read-only"},
		{"memory", 'm', OPTION_STRING, &o.memory, "SIZE", "limit, such as 512m"},
		{"cpus", 0, OPTION_STRING, &o.cpus, "NUMBER", "limit, such as 1.5"},
		{"pids-limit", 0, OPTION_STRING, &o.pids_limit, "NUMBER", "limit; -1: none"},
		{"ulimit", 0, OPTION_LIST, &o.ulimit, "NAME=SOFT[:HARD]", "limit of each process"},
		{"cap-add", 0, OPTION_LIST, &o.cap_add, "CAP", "one more capability, or ALL"},
		{"cap-drop", 0, OPTION_LIST, &o.cap_drop, "CAP", "one capability less, or ALL"},
		{"security-opt", 0, OPTION_LIST, &o.security_opt, "OPTION",
			"no-new-privileges, seccomp=unconfined|FILE, apparmor=PROFILE, "
			"label=CONTEXT, systempaths=unconfined"},
		{"device", 0, OPTION_LIST, &o.device, "HOST[:PATH][:rwm]", "a device of the host"},
		{"stop-signal", 0, OPTION_STRING, &o.stop_signal, "SIGNAL",
			"what `caisson stop` sends (default: the image's, else TERM)"},
		{"cgroup-parent", 0, OPTION_STRING, &o.cgroup_parent, "PATH",
			"the cgroup that the container's is made in; a slice with systemd"},
		{"platform", 0, OPTION_STRING, &o.platform, "OS/ARCH[/VARIANT]",
			"of an image for several (default: this machine's)"},
		{"isolation", 0, OPTION_STRING, &o.isolation, "ns|vm",
			"namespaces (default), or a microVM"},
		{"hypervisor", 0, OPTION_STRING, &o.hypervisor, "kvm|qemu|auto",
			"what runs the microVM (default: auto)"},
		{"kernel", 0, OPTION_STRING, &o.kernel, "FILE",
			"the microVM's kernel (default: the installed one)"},
		{"store", 0, OPTION_STRING, &own.store, "DIR",
			"the store (default: that of `caisson image`)"},
		{"quiet", 'q', OPTION_FLAG, &own.quiet, NULL, "no progress, no warnings"},
		{"runtime", 0, OPTION_STRING, &o.runtime, "PATH", NULL},
		{"state-root", 0, OPTION_STRING, &o.state_root, "DIR", NULL},
		{"runtime-option", 0, OPTION_LIST, &o.runtime_options, "WORD", NULL},
		{0},
	};
	struct image_arguments args = {.max = -1, .stop_at_first = true};

	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	o.command = args.v;
	return run_image(&own, &o, self->name);
}
