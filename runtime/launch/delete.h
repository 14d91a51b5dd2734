/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the functions that end a container. All of these functions expect that the caller has
 * locked the container, unless their comments say otherwise.
 */
#pragma once
#include "launch/container.h"

/* Kills all processes of the container. */
int launch_kill(struct container *c) must_check;

/*
 * Kills all processes of the container, removes everything that was made for the container, and
 * runs the poststop hooks. s is the parsed config.json, or NULL if the caller has not parsed it.
 */
int launch_cleanup(struct container *c, const struct spec *s) must_check;

/*
 * Locks a container that is open but not locked, and then does what launch_cleanup() does. Does
 * nothing if another command has deleted the container in the meantime.
 */
int launch_end(struct container *c, const struct spec *s) must_check;

/*
 * Removes the directory of a bundle that was made for one container (launch_options.remove_bundle).
 * `path` is the directory's path.
 */
int launch_remove_bundle(struct arena *a, const char *path) must_check;
