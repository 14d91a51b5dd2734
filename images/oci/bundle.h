/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's configuration as config.json (image-spec, conversion.md). What the image says becomes
 * data of the container: its program, environment, user, directory. Nothing of it becomes a key
 * that a runtime takes for an option: see bundle_is_reserved().
 */
#pragma once
#include "images/oci/image.h"

struct bundle_options {
	const struct json *base; /* the config.json to start from */
	const char *const *args; /* in place of the image's Cmd; NULL: none */
	const char *entrypoint;  /* in place of the image's; NULL: none; "": no entrypoint */
	const char *user;        /* in place of the image's; NULL: none */
	const char *working_dir; /* in place of the image's; NULL: none */
	const char *const *env;  /* "NAME=VALUE", beside the image's; NULL: none */
	bool terminal, read_only;
	/* Called with each thing of the image that is left out. May be NULL. */
	void (*warn)(void *data, const char *text);
	void *data;
};

/*
 * Writes config.json for the image whose tree is beneath root, and makes its working directory
 * there.
 */
int bundle_config(struct json_out *o, const struct image *img, int root,
	const struct bundle_options *options) must_check;

/* Whether a label's name means something to a runtime or an engine, so that it is not passed on. */
bool bundle_is_reserved(const char *label);
