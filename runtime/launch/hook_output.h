/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the standard output and error of hooks go: to the files that crun's annotations
 * run.oci.hooks.stdout and run.oci.hooks.stderr name, if config.json has them.
 */
#pragma once
#include "spec/spec.h"

struct hook_output {
	int fd[2]; /* standard output, standard error; -EBADF: kept for the error's message */
};

#define HOOK_OUTPUT_INIT \
	{ \
		.fd = { -EBADF, -EBADF } \
	}

int hook_output_open(struct hook_output *o, const struct spec *s) must_check;
void hook_output_close(struct hook_output *o);
#define _cleanup_hook_output_ __attribute__((cleanup(hook_output_close), unused))
