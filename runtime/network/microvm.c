/* SPDX-License-Identifier: Apache-2.0 */
#include "network/microvm.h"

#include <stdlib.h>
#include <sys/wait.h>

#include "base/helper.h"
#include "base/program.h"

#define SAID_MAX 65536

/*
 * Runs `caisson update OPTION INTERFACE ID`. Returns -ENODEV if the microVM has no interface to
 * remove. The function releases the lock of the networks' state meanwhile, because the guest
 * may take long, and other commands need not wait for the guest.
 */
static int run_update(struct host *h, const struct tool_globals *g, const char *const words[3])
{
	const char *program = getenv(MICROVM_PROGRAM);
	const char *const argv[] = {
		program, "--root", g->root, "update", words[0], words[1], words[2], NULL};
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	_cleanup_strbuf_ struct strbuf lines = {0};
	int status = 0;

	if (!program)
		return err_set(EOPNOTSUPP,
			"container \"%s\" is a microVM: expected to be executed by `caisson net`",
			words[2]);
	int r = helper_streams_open(&s, "", 0);
	if (r < 0)
		return r;
	host_pause(h);
	r = helper_run(&s, program, argv, &status);
	int resumed = host_resume(h);
	if (r >= 0)
		r = resumed;
	if (r >= 0)
		r = helper_read(&s, 2, &lines, SAID_MAX);
	if (r < 0)
		return r;
	if (status == 0)
		return 0;
	const char *said = helper_last_line(&lines);
	if (str_starts(said, "caisson: "))
		said += strlen("caisson: ");
	const bool not_attached =
		WIFEXITED(status) && WEXITSTATUS(status) == PROGRAM_EXIT_NOT_ATTACHED;
	return err_set(not_attached ? ENODEV : EIO, "%.500s", said);
}

int microvm_add(struct host *h, const struct tool_globals *g, const char *id, const char *interface)
{
	return run_update(h, g, (const char *const[]){"--add-net", interface, id});
}

int microvm_remove(
	struct host *h, const struct tool_globals *g, const char *id, const char *interface)
{
	int r = run_update(h, g, (const char *const[]){"--rm-net", interface, id});

	if (r != -ENODEV)
		return r;
	err_clear();
	return 0;
}
