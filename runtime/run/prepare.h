/* SPDX-License-Identifier: Apache-2.0 */
/* prepare.c: makes the bundle of a container from an image. */
#pragma once
#include "run/run.h"

struct run_bundle {
	const char *dir; /* absolute path of the bundle */
	/* value of the option --root-layers; NULL: the bundle's rootfs is a copy of the image */
	const char *layers;
};

/*
 * Unpacks the image's layers if they are not unpacked yet, and makes the container's directory,
 * which it removes again after a failure. `maker` is the pid of the process that is going to make
 * the container. The texts of *ret live in the arena. Returns 1 if caisson-image has failed and has
 * printed why.
 */
int run_prepare(const struct run_options *o, struct arena *a, const char *name, pid_t maker,
	struct run_bundle *ret) must_check;

/*
 * Says in *ret_has whether the image contains a disk to boot in a machine, and no program. Pulls
 * the image if that is needed. Returns 1 if caisson-image has failed and has printed why.
 */
int run_has_disk(const struct run_options *o, struct arena *a, bool *ret_has) must_check;

/*
 * Reads from the store what an earlier run_prepare() has made for the container `name`, because
 * another process may have called it.
 */
int run_find_bundle(const struct run_options *o, struct arena *a, const char *name,
	struct run_bundle *ret) must_check;

/* Removes what run_prepare() has made for the container `name`, which could not be started. */
void run_remove_bundle(const struct run_options *o, const char *name);

/*
 * resolve.c: executes caisson-image, which pulls and unpacks the image if that is needed, and waits
 * for its end. Returns 1 if caisson-image failed; it has printed why on standard error.
 */
int run_helper_resolve(const struct run_options *o, const struct store *s) must_check;
/*
 * Executes caisson-image, which copies the files of the image `tag` into the empty directory, and
 * waits for its end.
 */
int run_helper_unpack(const struct run_options *o, const struct store *s, const char *tag,
	const char *directory) must_check;
