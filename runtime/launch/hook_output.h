/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the files to which hooks write their standard output and error, if config.json names them
 * by crun's annotations run.oci.hooks.stdout and run.oci.hooks.stderr.
 */
#pragma once
#include "spec/spec.h"

struct hook_output {
	/*
	 * Files for the hooks' standard output and standard error. -EBADF: there is no such file,
	 * so caisson reads the output itself and quotes it in an error message.
	 */
	int fd[2];
};

#define HOOK_OUTPUT_INIT \
	{ \
		.fd = { -EBADF, -EBADF } \
	}

int hook_output_open(struct hook_output *o, const struct spec *s) must_check;
void hook_output_close(struct hook_output *o);
#define _cleanup_hook_output_ __attribute__((cleanup(hook_output_close), unused))
