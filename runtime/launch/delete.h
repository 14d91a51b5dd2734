/* SPDX-License-Identifier: Apache-2.0 */
/* How a container ends. The container is locked in all of these unless said otherwise. */
#pragma once
#include "launch/container.h"

/* Kills all processes of the container. */
int launch_kill(struct container *c) must_check;

/*
 * Kills all processes, removes everything that was made for the container, and runs the poststop
 * hooks. s: NULL if the caller has not read config.json.
 */
int launch_cleanup(struct container *c, const struct spec *s) must_check;

/* The same for a container whose lock was given up: another command may have deleted it already. */
int launch_end(struct container *c, const struct spec *s) must_check;
