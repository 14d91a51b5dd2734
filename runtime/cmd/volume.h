/* SPDX-License-Identifier: Apache-2.0 */
/* volume_attach.c: the subcommands of `caisson volume` that concern a running container. */
#pragma once
#include "cmd/cmd.h"

int volume_attach(const struct command *self, const struct globals *g, int argc, char **argv);
int volume_detach(const struct command *self, const struct globals *g, int argc, char **argv);
