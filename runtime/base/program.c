/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

int program_print(const char *text, size_t len)
{
	int r = fd_write_all(STDOUT_FILENO, text, len);

	return r < 0 ? err_set(-r, "write to standard output: %s", err_text(-r)) : 0;
}

int program_print_json(struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf line = {0};
	const char *text;
	size_t len;
	int r = json_out_text(o, &text, &len);

	if (r >= 0)
		r = strbuf_add(&line, text, len);
	if (r >= 0 && (!len || text[len - 1] != '\n'))
		r = strbuf_add(&line, "\n", 1);
	return r < 0 ? r : program_print(strbuf_str(&line), line.len);
}

int program_fail(int r)
{
	log_error(*err_msg() ? err_msg() : strerror(-r));
	return 1;
}
