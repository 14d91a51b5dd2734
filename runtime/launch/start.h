/* SPDX-License-Identifier: Apache-2.0 */
/* What launch_start() and launch_run() share. */
#pragma once
#include "launch/container.h"

/* Sends "start" to INIT, which waits for it at its end of the channel. */
int launch_say_start(int channel) must_check;

/* Runs the poststart hooks. */
int launch_poststart(struct container *c, const struct spec *s) must_check;
