/* SPDX-License-Identifier: Apache-2.0 */
/* run_prepare.c: makes the bundle of a container from an image. */
#pragma once
#include "image/run.h"

struct run_bundle {
	const char *dir;    /* absolute */
	const char *layers; /* what --root-layers takes; NULL: rootfs is a copy of the image */
};

/*
 * Unpacks the image's layers if that is still to be done, and makes the container's directory.
 * maker: the process that is going to be caisson. What was made is removed after a failure.
 */
int run_prepare(const struct image_globals *g, const struct run_options *o, const char *name,
	pid_t maker) must_check;

/* What run_prepare() has made, read from the store, so that another process may have called it. */
int run_find_bundle(const struct image_globals *g, struct arena *a, const char *name,
	struct run_bundle *ret) must_check;

/* Removes it, for a container that could not be started. */
void run_remove_bundle(const struct image_globals *g, const char *name);
