/* SPDX-License-Identifier: Apache-2.0 */
/* run_prepare.c: makes the bundle of a container from an image. */
#pragma once
#include "image/run.h"

struct run_bundle {
	const char *dir;    /* absolute path */
	const char *layers; /* value for --root-layers; NULL: rootfs is a copy of the image */
};

/*
 * Unpacks the image's layers if the store does not have them yet, and makes the container's
 * directory. `maker` is the pid of the process that will become caisson. If it fails, it undoes
 * everything.
 */
int run_prepare(const struct image_globals *g, const struct run_options *o, const char *name,
	pid_t maker) must_check;

/*
 * Reads from the store what run_prepare() has made, because another process may have called that
 * function.
 */
int run_find_bundle(const struct image_globals *g, struct arena *a, const char *name,
	struct run_bundle *ret) must_check;

/* Removes the bundle of a container that could not be started. */
void run_remove_bundle(const struct image_globals *g, const char *name);
