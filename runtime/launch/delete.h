/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a container ends. All functions expect the container to be locked, unless they say otherwise.
 */
#pragma once
#include "launch/container.h"

/* Kills all processes of the container. */
int launch_kill(struct container *c) must_check;

/*
 * Kills all processes, removes everything that was made for the container, and runs the poststop
 * hooks. s: NULL if the caller has not read config.json.
 */
int launch_cleanup(struct container *c, const struct spec *s) must_check;

/*
 * Does the same for a container whose lock was given up. Another command may have deleted it
 * already.
 */
int launch_end(struct container *c, const struct spec *s) must_check;
