/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"

#define LOG_FD_MIN 512

static struct {
	int fd; /* descriptor of the log file; -EBADF: the log goes to standard error */
	bool json;
	enum log_level level;
} out = {.fd = -EBADF, .level = LOG_WARN};

int log_open(const char *path, const char *format, enum log_level level)
{
	if (!streq(format, "text") && !streq(format, "json"))
		return err_set(EINVAL, "--log-format \"%s\": expected text or json", format);
	out.json = streq(format, "json");
	out.level = level;
	if (!path || !*path)
		return 0;
	/*
	 * O_NONBLOCK is set, so that neither opening a log file that is a FIFO nor writing to it
	 * waits for a reader. A line is lost if the FIFO is full, because no command may hang for
	 * the sake of its log.
	 */
	_cleanup_fd_ int fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	if (fd < 0 && errno == ENXIO)
		return err_set(
			ENXIO, "--log %s: it is a FIFO that nobody reads, or a socket", path);
	if (fd < 0)
		return err_sys("--log %s", path);
	/*
	 * The descriptor of the log file is moved above the numbers that --preserve-fds passes on,
	 * because the container must not get the log file.
	 */
	out.fd = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
	if (out.fd < 0)
		out.fd = take_fd(&fd);
	return 0;
}

enum log_level log_level(void)
{
	return out.level;
}

int log_fd(void)
{
	return out.fd;
}

static void write_line(int fd, bool json, enum log_level level, const char *msg)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	struct timespec now;
	struct tm tm;
	char when[64], clean[ERR_MAX];
	_cleanup_strbuf_ struct strbuf line = {0};
	const char *text;
	size_t len;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%09ldZ", now.tv_nsec);
	str_clean(clean, sizeof(clean), msg, strlen(msg));
	if (!json) {
		/*
		 * A line in a log file has the time and the level. On standard error a line has
		 * only the sentence, because people and not programs read it there.
		 */
		if (fd == STDERR_FILENO) {
			r = strbuf_addf(&line, "caisson: %s%s\n",
				level == LOG_WARN ? "warning: " : "", clean);
		} else {
			r = strbuf_addf(&line, "time=\"%s\" level=%s msg=", when, names[level]);
			if (r >= 0)
				r = str_quote(&line, msg);
			if (r >= 0)
				r = strbuf_add(&line, "\n", 1);
		}
		if (r >= 0)
			(void)!write(fd, line.s, line.len);
		return;
	}
	_cleanup_json_out_ struct json_out o = {0};
	if (json_out_init(&o, false) < 0)
		return;
	json_out_object(&o, NULL);
	json_out_str(&o, "level", names[level]);
	json_out_str(&o, "msg", clean);
	json_out_str(&o, "time", when);
	json_out_end_object(&o);
	if (json_out_text(&o, &text, &len) < 0 || strbuf_add(&line, text, len) < 0 ||
		strbuf_add(&line, "\n", 1) < 0)
		return;
	(void)!write(fd, line.s, line.len);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char msg[ERR_MAX];
	va_list ap;

	if (level > out.level)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	write_line(out.fd >= 0 ? out.fd : STDERR_FILENO, out.json, level, msg);
}

void log_notice(const char *fmt, ...)
{
	char msg[ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (out.fd >= 0)
		write_line(out.fd, out.json, LOG_INFO, msg);
	if (isatty(STDERR_FILENO))
		write_line(STDERR_FILENO, out.json && out.fd < 0, LOG_INFO, msg);
}

void log_error(const char *msg)
{
	if (out.fd >= 0)
		write_line(out.fd, out.json, LOG_ERROR, msg);
	write_line(STDERR_FILENO, out.json && out.fd < 0, LOG_ERROR, msg);
}
