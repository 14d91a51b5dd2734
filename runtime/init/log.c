/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements base/log.h for caisson-init (INIT), the first process of a container: INIT sends each
 * line to the runtime, which writes the line to its own log, because INIT has neither the log file
 * nor the standard error of caisson.
 */
#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "init/init_log.h"
#include "ns/channel.h"

static struct {
	int channel;
	enum log_level level;
} out = {.channel = -EBADF};

void init_log_open(int channel, enum log_level level)
{
	out.channel = channel;
	out.level = level;
}

void init_log_close(void)
{
	out.channel = -EBADF;
}

void init_log_step(size_t index, uint64_t took_ns)
{
	char took[24];

	if (out.channel < 0)
		return;
	snprintf(took, sizeof(took), "%" PRIu64, took_ns);
	if (channel_write(out.channel, CHANNEL_STEP, (int)index, took) < 0)
		out.channel = -EBADF;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char msg[ERR_MAX];
	va_list ap;

	if (level > out.level || out.channel < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	/*
	 * The line is sent by channel_write(), because that function does not change this process's
	 * error message: the log line may be about a failure whose error message is still needed.
	 */
	if (channel_write(out.channel, CHANNEL_LOG, (int)level, msg) < 0)
		out.channel = -EBADF;
}
