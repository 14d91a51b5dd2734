/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes config.json for an image from the image's configuration (image-spec, conversion.md). The
 * image determines the container's program, environment, user and working directory. The image's
 * labels become annotations, except those that a runtime takes for an option: see
 * bundle_is_reserved().
 */
#pragma once
#include "images/oci/image.h"
#include "images/oci/user.h"

/*
 * The capabilities of a container's program if the user names none: docker's list, with NULL at its
 * end.
 */
extern const char *const bundle_capabilities[];

struct bundle_options {
	/*
	 * the config.json from which the bundle's config.json is made; its annotations win over the
	 * image's labels
	 */
	const struct json *base;
	bool keep_limits; /* process.rlimits and noNewPrivileges of `base` are kept, too */
	/* capabilities of the program; NULL: bundle_capabilities */
	const char *const *capabilities;
	const char *const *args; /* arguments that replace the image's Cmd; NULL: keep Cmd */
	/*
	 * program that replaces the image's entrypoint; "": the container has no entrypoint; NULL:
	 * keep the image's entrypoint
	 */
	const char *entrypoint;
	/* user that replaces the image's user; NULL: keep the image's */
	const char *user;
	/*
	 * ids of the user and groups that `user` names; NULL: they are looked up in the image's
	 * passwd and group files
	 */
	const struct image_user *ids;
	/* working directory that replaces the image's working directory; NULL: keep the image's */
	const char *working_dir;
	/* variables "NAME=VALUE" that are added to the image's variables; NULL: none are added */
	const char *const *env;
	/*
	 * whether nothing is written to the container's root, because the runtime will make the
	 * working directory
	 */
	bool keep_root;
	/* writes those members of config.json that `base` does not have; may be NULL */
	int (*rest)(void *data, struct json_out *o);
	bool terminal, read_only;
	/*
	 * Called with a text for each part of the image's configuration that is left out. May be
	 * NULL.
	 */
	void (*warn)(void *data, const char *text);
	void *data;
};

/*
 * Writes config.json for the image whose tree is in directory `root`, and makes the image's working
 * directory in that tree.
 */
int bundle_config(struct json_out *o, const struct image *img, int root,
	const struct bundle_options *options) must_check;

/*
 * Returns whether the label's name means something to a runtime or an engine, so that it must not
 * become an annotation.
 */
bool bundle_is_reserved(const char *label);
