/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The step FIND_PROGRAM runs as root of the container, in the new root file
 * system, so that `create` can already report what is wrong with process.cwd and process.args. Root
 * may be denied what the container's user is allowed, for example in a directory on NFS, or in one
 * whose owner the user namespace does not map. Then FIND_PROGRAM leaves c->exe NULL, and the step
 * EXEC searches again with the user's rights.
 *
 * The directory and the program are looked up by path_open(), which follows no magic links, so that
 * neither of the two can be reached through /proc/self/fd/N or /proc/self/exe (CVE-2024-21626,
 * CVE-2019-5736). All descriptors of the runtime are close-on-exec.
 *
 * The error messages are the same as runc's and start in lower case, because engines parse them.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/path.h"
#include "step/step.h"

/* longest argument of a program in bytes: the kernel's MAX_ARG_STRLEN without the NUL */
#define ARG_LENGTH_MAX 131071

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PASSWD_MAX (1024 * 1024)

/*
 * Returns a descriptor of the container's root file system. Opens "/" if the step CLOSE has closed
 * the descriptor in c->root.
 */
static int open_root(struct step_ctx *c)
{
	if (c->root < 0)
		c->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return c->root < 0 ? err_sys("open the container's /") : c->root;
}

static int cwd_error(const char *cwd, int r)
{
	const char *why = strerror(-r);

	if (r == -ENOENT)
		why = "no such file or directory";
	else if (r == -EACCES)
		why = "permission denied";
	else if (r == -ENOTDIR)
		why = "not a directory";
	else if (r == -EROFS)
		why = "it is missing, and cannot be made in a read-only root file system";
	else if (r == -ELOOP)
		why = "it leads through a link of procfs, which could leave the container, or "
		      "through too many links";
	return err_set(-r, "chdir to cwd (\"%s\") set in config.json failed: %s", cwd, why);
}

/*
 * Changes into the directory process.cwd. If the directory is missing, it is made as root for a new
 * container, and is an error for an exec, as with runc.
 */
static int enter_cwd(struct step_ctx *c, const struct spec_process *p)
{
	char path[PATH_MAX];
	int root = open_root(c);

	if (root < 0)
		return root;
	_cleanup_fd_ int fd = path_open(root, p->cwd, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT && c->plan && !c->plan->exec)
		fd = path_mkdirs(root, p->cwd);
	if (fd < 0)
		return cwd_error(p->cwd, fd);
	if (fchdir(fd) < 0)
		return cwd_error(p->cwd, -errno);
	/*
	 * If the working directory is outside of the root, the kernel reports a path that begins
	 * with "(unreachable)", for which getcwd(3) fails with ENOENT.
	 */
	if (!getcwd(path, sizeof(path)) || path[0] != '/')
		return err_set(EPERM,
			"process.cwd \"%s\": the working directory is outside of the container's "
			"root file system: possible container breakout, refused",
			p->cwd);
	return 0;
}

/* Returns the value of the environment variable `name`, or NULL if `env` does not have it. */
static const char *env_get(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; env && *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

/*
 * Returns the home directory (sixth field) in the line of the user `uid` in `text`, the content of
 * /etc/passwd, or NULL if there is no such line. `text` comes from the container and may contain
 * anything.
 */
static const char *passwd_home(struct arena *a, const char *text, uint32_t uid)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *field[7], *p = line;
		size_t len[7], n = 0;
		char number[16];
		uint64_t found;

		for (; n < ARRAY_SIZE(field); n++) {
			field[n] = p;
			len[n] = strcspn(p, ":\n");
			p += len[n];
			if (*p != ':') {
				n++;
				break;
			}
			p++;
		}
		if (n < 6 || len[2] == 0 || len[2] >= sizeof(number))
			continue;
		memcpy(number, field[2], len[2]);
		number[len[2]] = '\0';
		if (str_to_u64(number, &found) == 0 && found == uid)
			return len[5] ? arena_strndup(a, field[5], len[5]) : NULL;
	}
	return NULL;
}

static const char *home_of(struct step_ctx *c, uint32_t uid)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct stat st;
	int root = open_root(c);

	if (root < 0)
		return "/";
	/*
	 * O_NONBLOCK is set because the container's /etc/passwd could be a FIFO, and open(2) of a
	 * FIFO would wait for a writer.
	 */
	_cleanup_fd_ int fd = path_open(root, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return "/";
	if (fd_read_all(fd, &text, PASSWD_MAX, "/etc/passwd of the container") < 0) {
		log_debug("%s: HOME is set to /", err_msg());
		return "/";
	}
	const char *home = passwd_home(c->arena, strbuf_str(&text), uid);
	return home ? home : "/";
}

static size_t name_hash(const char *entry, size_t len)
{
	size_t h = 5381;

	while (len--)
		h = h * 33 ^ (unsigned char)*entry++;
	return h;
}

/*
 * Copies the environment, except for a variable HOME that is empty. If a name occurs more than
 * once, only the last entry with that name is copied, because programs disagree: getenv(3) finds
 * the first entry and shells use the last. A hash table makes the search fast, because Kubernetes
 * passes thousands of variables.
 */
static int copy_env(struct arena *a, char *const *env, size_t n, char **out, size_t *ret_n)
{
	size_t slots = 16, kept = 0;

	while (slots < 2 * n)
		slots *= 2;
	char *const **table = arena_array(a, slots, sizeof(*table));
	bool *keep = arena_array(a, n + 1, sizeof(*keep));
	if (!table || !keep)
		return -ENOMEM;
	for (size_t i = n; i-- > 0;) {
		size_t len = strcspn(env[i], "=");
		if (len == 0 || !env[i][len])
			return err_set(EINVAL,
				"process.env[%zu]: \"%.64s\": expected NAME=VALUE with a name", i,
				env[i]);
		size_t at = name_hash(env[i], len) & (slots - 1);
		while (table[at] && strncmp(*table[at], env[i], len + 1) != 0)
			at = (at + 1) & (slots - 1);
		if (table[at])
			continue;
		table[at] = &env[i];
		keep[i] = !streq(env[i], "HOME=");
	}
	for (size_t i = 0; i < n; i++)
		if (keep[i])
			out[kept++] = env[i];
	*ret_n = kept;
	return 0;
}

/*
 * Makes the program's environment from process.env or, if the runtime has added LISTEN_FDS or
 * NOTIFY_SOCKET, from the runtime's copy of process.env. If HOME is missing, its value is read from
 * the container's /etc/passwd, as in runc. TERM is not added, because neither runc nor crun adds
 * it.
 */
static int make_env(struct step_ctx *c, const struct spec_process *p)
{
	char *const *base = c->env ? c->env : (char *const *)p->env.v;
	size_t n = 0, kept = 0;

	while (base && base[n])
		n++;
	char **env = arena_array(c->arena, n + 2, sizeof(*env));
	if (!env)
		return -ENOMEM;
	int r = copy_env(c->arena, base, n, env, &kept);
	if (r < 0)
		return r;
	if (!env_get(env, "HOME")) {
		env[kept] = arena_printf(c->arena, "HOME=%s", home_of(c, p->user.uid));
		if (!env[kept])
			return -ENOMEM;
	}
	c->env = env;
	return 0;
}

/*
 * Returns 0 if the program at `path` can be executed, -ENOEXEC if the file is not executable, and
 * -EACCES if this process lacks the rights to look the file up.
 */
static int check_program(int root, const char *cwd, const char *path)
{
	char absolute[PATH_MAX];
	struct stat st;

	if (path[0] != '/') {
		if (snprintf(absolute, sizeof(absolute), "%s/%s", cwd, path) >=
			(int)sizeof(absolute))
			return -ENAMETOOLONG;
		path = absolute;
	}
	_cleanup_fd_ int fd = path_open(root, path, O_PATH);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) || faccessat(fd, "", X_OK, AT_EACCESS | AT_EMPTY_PATH) < 0)
		return -ENOEXEC;
	return 0;
}

static int program_error(const char *path, int r)
{
	switch (-r) {
	case ENOENT:
		return err_set(
			ENOENT, "exec: \"%s\": stat %s: no such file or directory", path, path);
	case EACCES:
		return err_set(EACCES, "exec: \"%s\": stat %s: permission denied", path, path);
	case ENOTDIR:
		return err_set(ENOTDIR, "exec: \"%s\": stat %s: not a directory", path, path);
	case EISDIR:
		return err_set(EISDIR, "exec: \"%s\": is a directory: permission denied", path);
	/*
	 * For a file that is not executable the error is not EACCES, because after EACCES the step
	 * EXEC searches once more with the user's rights, and no user's rights make a file
	 * executable.
	 */
	case ENOEXEC:
		return err_set(EPERM, "exec: \"%s\": permission denied", path);
	case ELOOP:
		return err_set(ELOOP,
			"exec: \"%s\": refused: it leads through a link of procfs (such as "
			"/proc/self/exe), or through too many links",
			path);
	default:
		return err_set(-r, "exec: \"%s\": %s", path, strerror(-r));
	}
}

/*
 * Searches the directories of PATH for the program as execvp(3) does: an empty element means the
 * working directory, and a file that cannot be executed is skipped.
 */
static int search_path(struct step_ctx *c, const struct spec_process *p, const char **ret)
{
	const char *name = p->args.v[0], *path = env_get(c->env, "PATH");
	bool denied = false;

	for (const char *dir = path ? path : DEFAULT_PATH;; dir++) {
		size_t len = strcspn(dir, ":");
		char *full = arena_printf(
			c->arena, "%.*s/%s", len ? (int)len : 1, len ? dir : ".", name);
		if (!full)
			return -ENOMEM;
		int r = check_program(c->root, p->cwd, full);
		if (r >= 0) {
			*ret = full;
			return 0;
		}
		denied |= r == -EACCES;
		dir += len;
		if (!*dir)
			break;
	}
	/*
	 * The texts of these two error messages must not change, because engines recognise by them
	 * that the program is missing.
	 */
	return err_set(denied ? EACCES : ENOENT,
		"exec: \"%s\": executable file not found in $PATH: %s", name,
		denied ? "permission denied" : "no such file or directory");
}

/*
 * Finds the program that process.args names. Returns -EACCES if this process lacks the rights to
 * look the program up.
 */
static int find_program(struct step_ctx *c, const struct spec_process *p, const char **ret)
{
	const char *name = p->args.n ? p->args.v[0] : "";
	int root = open_root(c);

	if (root < 0)
		return root;
	if (!*name)
		return err_set(EINVAL,
			"process.args: expected a program's name as first element, "
			"found %s",
			p->args.n ? "an empty string" : "nothing");
	if (!strchr(name, '/'))
		return search_path(c, p, ret);
	int r = check_program(root, p->cwd, name);
	if (r < 0)
		return program_error(name, r);
	*ret = name;
	return 0;
}

static void exit_as_killed(int sig)
{
	_exit(128 + sig);
}

/*
 * Says whether INIT, the container's first process, needs a handler for the signal `sig`. INIT is
 * the first process of a pid namespace, and the kernel drops a signal to such a process if the
 * signal's action is the default one (pid_namespaces(7)). People use SIGHUP, SIGINT, SIGQUIT and
 * SIGTERM to stop a container whose INIT still waits for `start`. execve(2) removes the handlers.
 */
static bool needs_handler(int sig, bool first)
{
	return first && (sig == SIGHUP || sig == SIGINT || sig == SIGQUIT || sig == SIGTERM);
}

/*
 * Resets all signals, so that the program starts with no signal ignored and no signal blocked.
 * Callers of caisson ignore some: conmon and Go programs ignore SIGPIPE, and a shell's background
 * job ignores SIGINT. The step FIND_PROGRAM resets the signals, and not the step EXEC, because EXEC
 * runs under the seccomp filter.
 */
static int reset_signals(void)
{
	const bool first = getpid() == 1;
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		/*
		 * signal() fails for SIGKILL, SIGSTOP and the two signals that glibc keeps for
		 * itself. The failure is ignored, because nothing has to be reset for these
		 * signals.
		 */
		(void)signal(sig, needs_handler(sig, first) ? exit_as_killed : SIG_DFL);
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return err_sys("unblock signals");
	return 0;
}

int step_find_program(struct step_ctx *c, const struct step *s)
{
	const struct spec_process *p = s->process;

	int r = reset_signals();
	if (r >= 0)
		r = make_env(c, p);
	if (r >= 0)
		r = enter_cwd(c, p);
	if (r >= 0)
		r = find_program(c, p, &c->exe);
	if (r == -EACCES && p->user.uid != 0 && !c->exe) {
		err_clear();
		return 0;
	}
	return r;
}

/*
 * Returns the name of the array, process.args or process.env, that contains the longest string.
 * *ret_len is the length of that string.
 */
static const char *longest_string(const struct spec_process *p, char *const *env, size_t *ret_len)
{
	const char *name = "process.args";

	*ret_len = 0;
	for (size_t i = 0; i < p->args.n; i++)
		if (strlen(p->args.v[i]) > *ret_len)
			*ret_len = strlen(p->args.v[i]);
	for (; env && *env; env++)
		if (strlen(*env) > *ret_len) {
			*ret_len = strlen(*env);
			name = "process.env";
		}
	return name;
}

static int exec_error(struct step_ctx *c, const struct spec_process *p)
{
	int code = errno;
	const char *what;
	size_t len;

	switch (code) {
	case ENOENT:
		if (check_program(open_root(c), p->cwd, c->exe) == 0)
			return err_set(code,
				"exec %s: no such file or directory: the file is there, but its "
				"interpreter (the #! line, or the ELF loader) is not",
				c->exe);
		return err_set(code, "exec %s: no such file or directory", c->exe);
	case EACCES:
		return err_set(code, "exec: \"%s\": permission denied", p->args.v[0]);
	case ENOEXEC:
		return err_set(code,
			"exec %s: exec format error: the file is neither a program of this "
			"machine's architecture nor a script with a #! line",
			c->exe);
	case E2BIG:
		what = longest_string(p, c->env, &len);
		if (len > ARG_LENGTH_MAX)
			return err_set(code,
				"exec %s: argument list too long: expected at most %d bytes in "
				"each "
				"string of process.args and process.env, the kernel's limit, found "
				"%zu in one of %s",
				c->exe, ARG_LENGTH_MAX, len, what);
		return err_set(code,
			"exec %s: argument list too long: process.args and process.env do not fit "
			"into a quarter of RLIMIT_STACK",
			c->exe);
	case EAGAIN:
		return err_set(code,
			"exec %s: the user has more processes than process.rlimits (RLIMIT_NPROC) "
			"allows",
			c->exe);
	default:
		return err_sys("exec %s", c->exe);
	}
}

int step_exec(struct step_ctx *c, const struct step *s)
{
	const struct spec_process *p = s->process;
	char *const *args = (char *const *)p->args.v;
	int r = 0;

	if (!c->exe) {
		r = enter_cwd(c, p);
		if (r >= 0)
			r = find_program(c, p, &c->exe);
	}
	if (r >= 0)
		r = seccomp_load_late(c);
	if (r < 0)
		return r;
	execve(c->exe, args, c->env);
	if (errno != EACCES)
		return exec_error(c, p);
	/*
	 * The step FIND_PROGRAM found c->exe as root, but the user may not execute that file.
	 * Further along PATH there may be a program of the same name that the user may execute.
	 */
	const char *other = NULL;
	if (find_program(c, p, &other) >= 0 && !streq(other, c->exe)) {
		c->exe = other;
		execve(c->exe, args, c->env);
		return exec_error(c, p);
	}
	errno = EACCES;
	return exec_error(c, p);
}
