/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the files hosts and resolv.conf of a container, which caisson mounts in its /etc. */
#pragma once
#include "network/tool.h"

struct container_files {
	const char *dir;      /* directory of the files, which exist and are mounted already */
	const char *hostname; /* NULL: the container has the host's name */
	const char *server;   /* a name server of the network; NULL: names_served() decides */
	struct option_list dns, hosts; /* --dns ADDRESS, --add-host NAME:ADDRESS */
};

/*
 * Writes both files, given the container's attachments to n networks. They are written in place,
 * because a mount shows the file that it was made of and none that is renamed over it.
 */
int container_files_write(struct host *h, const struct container_files *f,
	const struct attachment *const *made, size_t n) must_check;
