/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands that speak with registries. caisson-image executes caisson-registry for these
 * subcommands, because loading libcurl takes longer than loading all other libraries of
 * caisson-image, and `caisson run --image` should not wait for libcurl.
 */
#pragma once
#include "image/image.h"

#define REGISTRY_PROGRAM "caisson-registry"

/*
 * Lists the subcommands that speak with registries, and ends in an entry without a name. In
 * caisson-image the member `run` of each is NULL.
 */
extern const struct image_command image_registry_commands[];

int image_cmd_pull(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_push(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_fetch(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_login(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_logout(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_referrers(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
