/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that speak with registries. caisson-image executes caisson-registry for them,
 * because loading libcurl takes longer than all that the other commands load, and `run --image`
 * should not wait for it.
 */
#pragma once
#include "image/image.h"

#define REGISTRY_PROGRAM "caisson-registry"

/*
 * Lists the commands, and ends in an entry without a name. In caisson-image the member `run` is
 * NULL.
 */
extern const struct image_command image_registry_commands[];

int image_cmd_pull(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_push(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_login(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_logout(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
int image_cmd_referrers(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv);
