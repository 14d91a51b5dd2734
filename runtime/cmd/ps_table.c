/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/ps_table.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "base/fd.h"

/*
 * clock ticks per second in /proc/PID/stat: the kernel's USER_HZ, which is the same on all machines
 */
#define TICKS 100
#define USER_WIDTH 8
#define COMMAND_MAX ((size_t)4 << 20)
#define DAY 86400

/*
 * Major device number of virtual consoles and serial ports. The pseudo-terminals have eight major
 * numbers, of which MAJOR_PTS is the first.
 */
#define MAJOR_TTY 4
#define MAJOR_PTS 136
#define PTS_MAJORS 8
#define FIRST_SERIAL 64 /* minor device number of ttyS0 */
#define MINORS (1U << 20)

int ps_table_head(struct strbuf *out)
{
	return strbuf_addf(out, "%-8s %7s %7s  C %5s %-8s %8s CMD\n", "UID", "PID", "PPID", "STIME",
		"TTY", "TIME");
}

/*
 * Formats a process's start time: the time of day if the process started today, else the date or
 * the year.
 */
static void format_start(time_t t, char *ret, size_t size)
{
	time_t now = time(NULL);
	struct tm tm, today;

	localtime_r(&now, &today);
	localtime_r(&t, &tm);
	strftime(ret, size,
		tm.tm_year != today.tm_year   ? "%Y"
		: tm.tm_yday != today.tm_yday ? "%b%d"
					      : "%H:%M",
		&tm);
}

int ps_table_add(struct strbuf *out, const struct ps_row *row)
{
	char when[16], user[16], days[32] = "";
	uint64_t s = row->seconds;

	format_start(row->start, when, sizeof(when));
	snprintf(user, sizeof(user), "%s", row->user);
	if (strlen(row->user) > USER_WIDTH && !isdigit((unsigned char)*row->user))
		snprintf(user, sizeof(user), "%.*s+", USER_WIDTH - 1, row->user);
	if (s >= DAY)
		snprintf(days, sizeof(days), "%" PRIu64 "-", s / DAY);
	return strbuf_addf(out,
		"%-8s %7d %7d %2u %5s %-8s %s%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " %s\n", user,
		row->pid, row->ppid, row->cpu, when, row->tty, days, s % DAY / 3600, s / 60 % 60,
		s % 60, row->command);
}

/*
 * Returns the name of the terminal with this device number. If the name contains a number, the name
 * is written into ret.
 */
static const char *name_tty(unsigned device, char *ret, size_t size)
{
	unsigned major = major(device), minor = minor(device);
	char path[64], target[256];

	if (!device)
		return "?";
	if (major >= MAJOR_PTS && major < MAJOR_PTS + PTS_MAJORS) {
		snprintf(ret, size, "pts/%u", (major - MAJOR_PTS) * MINORS + minor);
		return ret;
	}
	if (major == MAJOR_TTY) {
		bool serial = minor >= FIRST_SERIAL;
		snprintf(ret, size, serial ? "ttyS%u" : "tty%u",
			serial ? minor - FIRST_SERIAL : minor);
		return ret;
	}
	/*
	 * For a device that is neither a pseudo-terminal nor a known terminal, sysfs has a link
	 * whose target ends in the device's name.
	 */
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major, minor);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return "?";
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(ret, size, "%.63s", slash ? slash + 1 : target);
	return ret;
}

int ps_parse_stat(char *text, const struct ps_clock *clock, struct ps_row *row, char **ret_name,
	char *ret_state)
{
	/*
	 * In /proc/PID/stat the process's name is in parentheses and may contain any character,
	 * even ")". So the name ends at the last ")".
	 */
	char *name = strchr(text, '('), *end = strrchr(text, ')');
	unsigned long used, system;
	unsigned long long start;
	int device;

	if (!name || !end || end < name)
		return -EINVAL;
	*end = '\0';
	*ret_name = name + 1;
	if (sscanf(end + 1,
		    " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d "
		    "%llu",
		    ret_state, &row->ppid, &device, &used, &system, &start) != 6)
		return -EINVAL;
	int64_t age = clock->up - (int64_t)start;
	uint64_t percent = age >= TICKS ? (used + system) / (uint64_t)(age / TICKS) : 0;
	row->pid = (pid_t)strtol(text, NULL, 10);
	row->cpu = percent > 99 ? 99 : (unsigned)percent;
	row->start = (time_t)((clock->now - age) / TICKS);
	row->tty = name_tty((unsigned)device, row->tty_name, sizeof(row->tty_name));
	row->seconds = (used + system) / TICKS;
	return 0;
}

static int64_t read_clock(clockid_t id)
{
	struct timespec t = {0};

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * TICKS + t.tv_nsec / (1000000000 / TICKS);
}

static bool read_file(const char *dir, const char *name, struct strbuf *ret)
{
	char path[64];

	strbuf_reset(ret);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (fd_read_file(AT_FDCWD, path, ret, COMMAND_MAX) >= 0 && ret->len)
		return true;
	err_clear();
	return false;
}

/*
 * Turns the arguments of a process, each of which ends with a NUL, into one line. Control
 * characters are replaced, as ps(1) does, because a terminal may act on them. If the process has no
 * arguments, such as a kernel thread or a zombie, the line is its name in brackets.
 */
static int format_command(struct strbuf *command, const char *name, char state)
{
	while (command->len && command->s[command->len - 1] == '\0')
		command->s[--command->len] = '\0';
	for (size_t i = 0; i < command->len; i++)
		if (command->s[i] == '\0' || command->s[i] == '\n')
			command->s[i] = ' ';
	if (command->len) {
		str_clean(command->s, command->cap, command->s, command->len);
		return 0;
	}
	return strbuf_addf(command, "[%s]%s", name, state == 'Z' ? " <defunct>" : "");
}

static bool read_uid(const char *status, unsigned *ret)
{
	const char *line = strstr(status, "\nUid:");
	unsigned real;

	return line && sscanf(line, "\nUid: %u %u", &real, ret) == 2;
}

int ps_table_add_process(struct strbuf *out, struct user_names *names, pid_t pid)
{
	_cleanup_strbuf_ struct strbuf stat = {0}, status = {0}, command = {0};
	const struct ps_clock clock = {
		.now = read_clock(CLOCK_REALTIME), .up = read_clock(CLOCK_BOOTTIME)};
	struct ps_row row;
	unsigned uid;
	char dir[32], *name, state;

	snprintf(dir, sizeof(dir), "/proc/%d", pid);
	if (!read_file(dir, "stat", &stat) || !read_file(dir, "status", &status) ||
		!read_uid(status.s, &uid) || ps_parse_stat(stat.s, &clock, &row, &name, &state) < 0)
		return 0;
	(void)read_file(dir, "cmdline", &command);
	int r = format_command(&command, name, state);
	if (r < 0)
		return r;
	row.user = user_name_or_number(names, uid);
	row.command = command.s;
	return ps_table_add(out, &row);
}
