/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `ps` for a machine in which only qemu-guest-agent answers. The agent has no request
 * that lists processes, so it runs the guest's own ps(1).
 */
#include <stdio.h>
#include <sys/wait.h>

#include "cmd/exec.h"
#include "cmd/ps_table.h"
#include "launch/qga_client.h"

/* the output of the guest's ps(1) */
struct listing {
	struct strbuf out, err;
};

static int keep_output(void *data, int fd, const void *piece, size_t len)
{
	struct listing *l = data;

	return strbuf_add(fd == STDOUT_FILENO ? &l->out : &l->err, piece, len);
}

/* Cuts the next word out of the line. Returns an empty text at the line's end. */
static char *next_word(char **line)
{
	char *word = *line + strspn(*line, " "), *end = word + strcspn(word, " ");

	*line = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

/* Reads processor time as ps(1) prints it, [DD-]HH:MM:SS, in seconds. */
static int read_time(const char *text, uint64_t *ret)
{
	unsigned days = 0, hours, minutes, seconds;
	int used = 0;

	if (sscanf(text, "%6u-%2u:%2u:%2u%n", &days, &hours, &minutes, &seconds, &used) != 4) {
		days = 0;
		if (sscanf(text, "%6u:%2u:%2u%n", &hours, &minutes, &seconds, &used) != 3)
			return -EINVAL;
	}
	*ret = ((days * 24ull + hours) * 60 + minutes) * 60 + seconds;
	return text[used] ? -EINVAL : 0;
}

/* Replaces what a terminal does not simply display. */
static void clean(char *text)
{
	const size_t len = strlen(text);

	str_clean(text, len + 1, text, len);
}

/* Reads a line with the columns of ps_args. */
static int read_line(char *line, time_t now, struct ps_row *ret)
{
	uint64_t uid, pid, ppid, age;
	char *user = next_word(&line);

	if (str_to_u64(user, &uid) < 0 || str_to_u64(next_word(&line), &pid) < 0 ||
		str_to_u64(next_word(&line), &ppid) < 0 || pid > INT32_MAX || ppid > INT32_MAX)
		return -EINVAL;
	char *tty = next_word(&line);
	if (str_to_u64(next_word(&line), &age) < 0 || age > (uint64_t)now)
		return -EINVAL;
	uint64_t used = 0;
	int r = read_time(next_word(&line), &used);
	char *command = line + strspn(line, " ");
	clean(tty);
	clean(command);
	*ret = (struct ps_row){.user = user,
		.pid = (pid_t)pid,
		.ppid = (pid_t)ppid,
		.start = now - (time_t)age,
		.tty = tty,
		.seconds = used,
		.command = command};
	return r;
}

static const char *const ps_args[] = {"ps", "-e", "-ww", "-o", "uid=", "-o", "pid=", "-o",
	"ppid=", "-o", "tname=", "-o", "etimes=", "-o", "time=", "-o", "args=", NULL};
static const char *const ps_env[] = {EXEC_PATH, "LC_ALL=C", NULL};

/* Adds the processes to a table, or to a list of pids in JSON, without the process of ps(1). */
static int print_lines(struct listing *l, pid_t self, struct strbuf *table, struct json_out *json)
{
	const time_t now = time(NULL);
	char *rest = l->out.s;
	int r = 0;

	while (rest && *rest && r >= 0) {
		struct ps_row row;
		char *line = strsep(&rest, "\n");
		if (read_line(line, now, &row) < 0)
			return err_set(EPROTO, "ps: unexpected line from the machine's ps(1)");
		if (row.pid == self)
			continue;
		if (json)
			json_out_i64(json, NULL, row.pid);
		else
			r = ps_table_add(table, &row);
	}
	return r;
}

static int print_listing(struct listing *l, pid_t self, bool as_json)
{
	_cleanup_json_out_ struct json_out json = {0};
	_cleanup_strbuf_ struct strbuf table = {0};

	int r = as_json ? json_out_init(&json, false) : ps_table_head(&table);
	if (r < 0)
		return r;
	if (as_json)
		json_out_array(&json, NULL);
	r = print_lines(l, self, &table, as_json ? &json : NULL);
	if (r < 0)
		return r;
	if (!as_json)
		return program_print(strbuf_str(&table), table.len);
	json_out_end_array(&json);
	return program_print_json(&json);
}

int cmd_ps_by_qga(struct container *c, bool json)
{
	struct listing l = {0};
	struct strbuf input = {0};
	const struct qga_program p = {
		.args = {.v = ps_args, .n = ARRAY_SIZE(ps_args) - 1},
		.env = {.v = ps_env, .n = ARRAY_SIZE(ps_env) - 1},
		.input = &input,
		.output = keep_output,
		.data = &l,
	};
	struct qga_end end;

	int r = qga_check(c);
	if (r >= 0)
		r = qga_run(c, &p, &end);
	if (r >= 0 && (end.status != 0 || end.truncated))
		r = err_set(EIO, "the machine's ps(1) failed%s%s", l.err.len ? ": " : "",
			strbuf_str(&l.err));
	r = r < 0 ? err_ctx(r, "ps") : print_listing(&l, (pid_t)end.pid, json);
	strbuf_release(&l.out);
	strbuf_release(&l.err);
	return r;
}
