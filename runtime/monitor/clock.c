/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the guest's clock right. The guest gets the host's time of day with the message "create",
 * and again when the guest's clock may differ from the host's: after the host's clock was set,
 * after a suspend of the host, during which the guest's clock stands still, and after the monitor
 * was stopped by a signal.
 */
#include <signal.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "monitor/monitor_internal.h"

/*
 * latest time in seconds since 1970 that still fits into 64 bits as nanoseconds, which is how the
 * kernel stores it
 */
#define LATEST (INT64_MAX / 1000000000)

int clock_watch(int *ret)
{
	const struct itimerspec never = {.it_value.tv_sec = LATEST};

	/*
	 * The timer never expires, but the kernel cancels it when the host's clock is set and when
	 * the host resumes. The descriptor is then readable, and read(2) fails with ECANCELED and
	 * arms the timer again.
	 */
	*ret = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (*ret < 0)
		return err_sys("make a timer");
	return timerfd_settime(*ret, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0
		       ? err_sys("set a timer")
		       : 0;
}

void clock_write(struct json_out *o)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_out_u64(o, "time", (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
}

void clock_tell(struct monitor *m)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	/*
	 * No message may go to the guest before the agent has sent "hello". No time is missed by
	 * that, because the message "create", which the monitor sends after "hello", contains the
	 * time.
	 */
	if (m->agent < 0 || m->phase < PHASE_GREETED)
		return;
	int r = agent_begin(&w, "clock");
	if (r >= 0) {
		clock_write(&w.json);
		r = agent_send(&w, m->agent, NULL, 0);
	}
	if (r < 0)
		log_debug("set the guest's clock: %s", err_msg());
}

void clock_on_signal(struct monitor *m, int sig)
{
	if (sig == SIGCONT)
		clock_tell(m);
}

void clock_changed(struct monitor *m)
{
	uint64_t times;

	(void)!read(m->clock, &times, sizeof(times));
	clock_tell(m);
}
