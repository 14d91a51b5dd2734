/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cmd/cmd.h"
#include "cmd/ps_table.h"

/*
 * Finds the processes of a container that has no cgroup: all processes in the pid namespace of its
 * first process.
 */
static int pids_of_namespace(struct container *c, pid_t **ret, size_t *ret_n)
{
	char path[300];
	struct stat want, st;
	struct dirent *e;
	size_t cap = 0;

	*ret_n = 0;
	*ret = NULL;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", c->pid);
	if (stat(path, &want) < 0)
		return err_set(ESRCH, "container not running");
	DIR *proc = opendir("/proc");
	if (!proc)
		return err_sys("open /proc");
	int r = 0;
	while (r == 0 && (e = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/ns/pid", e->d_name);
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || stat(path, &st) < 0 ||
			st.st_ino != want.st_ino)
			continue;
		if (*ret_n == cap) {
			cap = cap ? 2 * cap : 64;
			pid_t *more = arena_array(&c->arena, cap, sizeof(*more));
			if (!more) {
				r = -ENOMEM;
				break;
			}
			if (*ret_n)
				memcpy(more, *ret, *ret_n * sizeof(*more));
			*ret = more;
		}
		(*ret)[(*ret_n)++] = (pid_t)atoi(e->d_name);
	}
	closedir(proc);
	return r;
}

static int print_json(const pid_t *pids, size_t n)
{
	_cleanup_json_out_ struct json_out o = {0};

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (size_t i = 0; i < n; i++)
		json_out_i64(&o, NULL, pids[i]);
	json_out_end_array(&o);
	return program_print_json(&o);
}

static bool is_among(const pid_t *pids, size_t n, long pid)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static long read_column(const char *line, size_t want)
{
	for (size_t i = 0;; i++) {
		line += strspn(line, " \t");
		if (i == want)
			return strtol(line, NULL, 10);
		if (!*line)
			return -1;
		line += strcspn(line, " \t");
	}
}

static int print_lines_of_pids(FILE *in, const pid_t *pids, size_t n)
{
	_cleanup_free_ char *line = NULL;
	size_t cap = 0, pid_column = 0;
	bool found = false;

	if (getline(&line, &cap, in) < 0)
		return err_set(EIO, "ps printed nothing");
	for (char *save, *copy = strdup(line), *w = copy ? strtok_r(copy, " \t\n", &save) : NULL;;
		w = strtok_r(NULL, " \t\n", &save), pid_column += !found) {
		found = w && streq(w, "PID");
		if (!w || found) {
			free(copy);
			break;
		}
	}
	if (!found)
		return err_set(EINVAL, "the ps options give no column PID");
	int r = program_print(line, strlen(line));
	while (r >= 0 && getline(&line, &cap, in) >= 0)
		if (is_among(pids, n, read_column(line, pid_column)))
			r = program_print(line, strlen(line));
	return r;
}

static int compare_pids(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int print_table(pid_t *pids, size_t n)
{
	_cleanup_user_names_ struct user_names names = {0};
	_cleanup_strbuf_ struct strbuf out = {0};
	int r = ps_table_head(&out);

	if (n)
		qsort(pids, n, sizeof(*pids), compare_pids);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = ps_table_add_process(&out, &names, pids[i]);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

/*
 * Runs the host's ps(1), because the user gave options for ps. ps prints all processes of the host,
 * so this function prints only those lines that belong to processes of the container.
 */
static int print_by_ps(const pid_t *pids, size_t n, int argc, char **argv)
{
	int fds[2], status;
	char *ps[64] = {"ps"};

	if (argc > (int)ARRAY_SIZE(ps) - 2)
		return err_set(E2BIG, "too many ps options");
	memcpy(ps + 1, argv, (size_t)argc * sizeof(*argv));
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys("make a pipe");
	pid_t child = fork();
	if (child < 0)
		return err_sys("fork");
	if (child == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execvp(ps[0], ps);
		_exit(127);
	}
	close(fds[1]);
	FILE *in = fdopen(fds[0], "r");
	int r = in ? print_lines_of_pids(in, pids, n) : err_sys("read from ps");
	if (in)
		fclose(in);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(ENOENT,
			"ps: the host has no ps (package procps), which options after the ID "
			"need; `caisson ps ID` works without it");
	return r;
}

int cmd_ps(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *format = "table";
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &format, "table|json",
			"a table as by ps -ef (default), or [pid, ...]"},
		{0},
	};
	struct arguments args = {.min = 1, .max = -1, .stop_at_first = true};
	_cleanup_container_ struct container c = CONTAINER_INIT;
	enum container_status status;
	pid_t *pids;
	size_t n;

	/* `caisson ps` without arguments lists the containers, as `docker ps` does. */
	if (argc == 0)
		return cmd_list(self, g, argc, argv);
	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	/*
	 * The words after the container's ID are parsed for options a second time, because engines
	 * also put options there.
	 */
	bool help;
	int left = options_parse(defs, args.n - 1, args.v + 1, true, &help);
	if (left < 0)
		left = args.n - 1;
	if (!streq(format, "table") && !streq(format, "json"))
		return err_set(EINVAL, "invalid format option: --format %s: expected table or json",
			format);
	r = cmd_open(g, args.v[0], false, &c);
	if (r >= 0 && (c.vm || !c.cgroup.path))
		r = container_status(&c, &status);
	if (r >= 0 && c.vm) {
		if (left > 0)
			return err_set(ENOTSUP,
				"ps options: the host's ps cannot see the processes of a microVM");
		return cmd_ps_of_vm(&c, streq(format, "json"));
	}
	if (r >= 0 && !c.cgroup.path && status == CONTAINER_STOPPED)
		r = err_set(ESRCH, "container not running");
	if (r >= 0)
		r = c.cgroup.path ? cg_pids(&c.arena, &c.cgroup, &pids, &n)
				  : pids_of_namespace(&c, &pids, &n);
	if (r < 0)
		return r;
	if (streq(format, "json"))
		return print_json(pids, n);
	return left > 0 ? print_by_ps(pids, n, left, args.v + 1) : print_table(pids, n);
}
