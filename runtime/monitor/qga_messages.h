/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests to qemu-guest-agent that the monitor makes, and the agent's answers, which are
 * hostile. QEMU's qga/qapi-schema.json describes them. Each qga_write_...() appends a line to *ret,
 * and each qga_read_...() reads the member "return" of the agent's answer.
 */
#pragma once
#include "base/json.h"

struct qga_info {
	bool exec;        /* the agent runs commands: its configuration does not disable that */
	char version[64]; /* the agent's version, "?" if it does not say */
};

/* A command that the agent is to run as root. */
struct qga_command {
	/* the program and its arguments, and its whole environment: arrays of strings */
	const struct json *args, *env;
	/* standard input; without any it is /dev/null */
	const void *input;
	size_t input_len;
	bool capture; /* the agent keeps the command's output, else the output is dropped */
};

struct qga_status {
	bool exited;
	int status;             /* of a command that has ended, as waitpid(2) returns it */
	struct strbuf out, err; /* the captured output of a command that has ended */
	/* the command has written more to standard output, or error, than the agent has kept */
	bool out_truncated, err_truncated;
};

int qga_write_info(struct strbuf *ret) must_check;
int qga_write_shutdown(struct strbuf *ret) must_check;
/* Returns -EINVAL if there are no args, or args or env are no arrays of strings. */
int qga_write_exec(const struct qga_command *command, struct strbuf *ret) must_check;
int qga_write_status(int64_t pid, struct strbuf *ret) must_check;

int qga_read_info(const struct json *answer, struct qga_info *ret) must_check;
int qga_read_exec(const struct json *answer, int64_t *ret_pid) must_check;
/* Also releases the output that *ret has had before. */
int qga_read_status(const struct json *answer, struct qga_status *ret) must_check;
void qga_status_release(struct qga_status *s);
