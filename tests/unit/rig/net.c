/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/net.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

static int this_namespace(void)
{
	return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

int net_namespace_new(void)
{
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	int fd = this_namespace();
	assert_true(fd >= 0);
	return fd;
}

void net_namespace_enter(int net)
{
	assert_int_equal(setns(net, CLONE_NEWNET), 0);
}

struct nets *nets_new(void)
{
	struct nets *n = geteuid() == 0 ? calloc(1, sizeof(*n)) : NULL;

	if (n)
		*n = (struct nets){this_namespace(), -1, -1, -1, -1};
	return n;
}

void nets_release(struct nets *n)
{
	if (!n)
		return;
	const int all[] = {n->before, n->box, n->host, n->guest, n->peer};
	net_namespace_enter(n->before);
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (all[i] >= 0)
			close(all[i]);
	free(n);
}

int nets_setup(void **state)
{
	struct nets *n = nets_new();

	if (n) {
		n->box = net_namespace_new();
		n->host = net_namespace_new();
	}
	*state = n;
	return 0;
}

int nets_teardown(void **state)
{
	nets_release(*state);
	return 0;
}

struct nets *nets_of(void **state)
{
	if (!*state) {
		print_message("skipped: network namespaces can be made by root only\n");
		skip();
	}
	return *state;
}

void run_shell(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s: failed", command);
}

const char *shell_output(const char *command, char *buf, size_t size)
{
	FILE *f = popen(command, "r");

	assert_non_null(f);
	size_t n = fread(buf, 1, size - 1, f);
	buf[n] = '\0';
	assert_int_equal(pclose(f), 0);
	return buf;
}

void assert_ok(int r)
{
	if (r != 0)
		fail_msg("%d: %s", r, err_msg());
}

void assert_error(int r, int want, const char *words)
{
	if (r != want || !strstr(err_msg(), words))
		fail_msg("got %d \"%s\", expected %d with \"%s\"", r, err_msg(), want, words);
}
