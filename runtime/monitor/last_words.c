/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explains why a machine failed: quotes the last lines of the guest's console, and says, if KVM has
 * run the machine, whether QEMU may work.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"
#include "vm/kvm.h"

#define WORDS_MAX 1024 /* how much of the console's output an error message quotes, in bytes */
/*
 * how many times in a row the monitor reads the console at most; the limit is there because a guest
 * may write without end
 */
#define READS_MAX 64
#define PANIC "Kernel panic - not syncing"

bool monitor_on_log(struct monitor *m)
{
	char text[1024];
	ssize_t n = read(m->guest_log, text, sizeof(text));

	if (n <= 0) {
		if (n == 0)
			fd_close(&m->guest_log);
		return false;
	}
	if (m->console_io.ring)
		console_add(&m->console_io, text, (size_t)n);
	size_t keep = sizeof(m->log) - (size_t)n;
	if (m->log_len > keep) {
		memmove(m->log, m->log + m->log_len - keep, keep);
		m->log_len = keep;
	}
	memcpy(m->log + m->log_len, text, (size_t)n);
	m->log_len += (size_t)n;
	return true;
}

bool monitor_saw_panic(const struct monitor *m)
{
	return memmem(m->log, m->log_len, PANIC, strlen(PANIC)) != NULL;
}

/*
 * Returns how many bytes of the console's output an error message quotes. If the kernel panicked,
 * the quotation ends with the first line of the panic, because only registers and addresses follow.
 */
static size_t words_len(const struct monitor *m)
{
	const char *panic = memmem(m->log, m->log_len, PANIC, strlen(PANIC));
	const char *end = panic ? memchr(panic, '\n', m->log_len - (size_t)(panic - m->log)) : NULL;

	return end ? (size_t)(end - m->log) : m->log_len;
}

int monitor_last_words(struct monitor *m, int r)
{
	char why[ERR_MAX - WORDS_MAX - 64], words[WORDS_MAX];

	for (size_t i = 0; i < READS_MAX && monitor_on_log(m); i++)
		;
	str_quote_end(words, sizeof(words), m->log, words_len(m));
	snprintf(why, sizeof(why), "%s", err_msg());
	return *words ? err_set(-r, "%s; the guest's last words: \"%s\"", why, words)
		      : err_set(-r, "%s; the guest said nothing", why);
}

int monitor_server_words(struct monitor *m, int r)
{
	char why[ERR_MAX - WORDS_MAX - 64], words[WORDS_MAX];
	const size_t before = m->log_len;

	for (size_t i = 0; i < READS_MAX && monitor_on_log(m); i++)
		;
	/*
	 * If the log had no room for the server's output, older output was dropped, and the
	 * server's output cannot be told from the rest of the log any more. The message then quotes
	 * the whole log.
	 */
	const size_t from = m->log_len > before ? before : 0;
	if (m->log_len == before)
		return r;
	str_quote_end(words, sizeof(words), m->log + from, m->log_len - from);
	snprintf(why, sizeof(why), "%s", err_msg());
	return err_set(-r, "%s: \"%s\"", why, words);
}

void monitor_tell_failure(struct monitor *m, const char *message)
{
	if (m->failed || m->a->failure < 0 || write(m->a->failure, message, strlen(message)) < 0)
		log_error(message);
	m->failed = true;
}

int monitor_name_other(const struct monitor *m, int r)
{
	if (m->phase >= PHASE_GREETED || r == -EPIPE || m->a->machine->hypervisor != HYPERVISOR_KVM)
		return r;
	/* The monitor is in its jail, so that it cannot remove the template itself. */
	if (m->template.step == TEMPLATE_USED)
		return err_set(-r,
			"%s; it started from a template: --template refresh boots, and "
			"makes a new one",
			err_msg());
	return err_set(-r, "%s; " VM_KVM_INSTEAD, err_msg());
}
