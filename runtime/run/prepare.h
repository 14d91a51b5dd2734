/* SPDX-License-Identifier: Apache-2.0 */
/* prepare.c: makes the bundle of a container from an image. */
#pragma once
#include "run/run.h"

struct run_bundle {
	const char *dir;    /* absolute */
	const char *layers; /* what --root-layers takes; NULL: rootfs is a copy of the image */
};

/*
 * Unpacks the image's layers if that is still to be done, and makes the container's directory.
 * maker: the process that is going to make the container. What was made is removed after a failure.
 * The texts of *ret live in the arena. Returns 1 after a failure that caisson-image has printed.
 */
int run_prepare(const struct run_options *o, struct arena *a, const char *name, pid_t maker,
	struct run_bundle *ret) must_check;

/* What run_prepare() has made, read from the store, because another process may have called it. */
int run_find_bundle(const struct run_options *o, struct arena *a, const char *name,
	struct run_bundle *ret) must_check;

/* Removes it, for a container that could not be started. */
void run_remove_bundle(const struct run_options *o, const char *name);

/*
 * resolve.c: has caisson-image do what needs its libraries, and waits for it. Returns 1 if
 * caisson-image failed; it has printed why on standard error.
 */
int run_helper_resolve(const struct run_options *o, const struct store *s) must_check;
/* Copies the image of that tag into the empty directory. */
int run_helper_unpack(const struct run_options *o, const struct store *s, const char *tag,
	const char *directory) must_check;
