/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that launch_start() and launch_run() share. */
#pragma once
#include "launch/container.h"

/* Sends "start" through the channel to the container's first process, which waits for it. */
int launch_say_start(int channel) must_check;

/* Runs the poststart hooks of config.json. */
int launch_poststart(struct container *c, const struct spec *s) must_check;
