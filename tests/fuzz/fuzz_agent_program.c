/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of the program of an exec for the agent of a machine. The input is the blob. If
 * the reader accepts it, writing the program must give a blob that the reader accepts too, and that
 * gives the same blob again.
 */
#include <stdlib.h>

#include "agent/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf once = {0}, again = {0};
	_cleanup_arena_ struct arena a = {0};
	struct spec_process first, second;

	if (agent_program_unpack(&a, data, size, &first) < 0)
		return 0;
	if (!first.args.n || first.args.v[first.args.n] || first.env.v[first.env.n] ||
		first.cwd[0] != '/')
		abort();
	if (agent_program_pack(&first, &once) < 0 ||
		agent_program_unpack(&a, once.s, once.len, &second) < 0 ||
		agent_program_pack(&second, &again) < 0)
		abort();
	if (once.len != again.len || memcmp(once.s, again.s, once.len) != 0)
		abort();
	return 0;
}
