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
 * Writes the container's hosts and resolv.conf, given its attachments to n networks. The files are
 * overwritten and not replaced, because the container's bind mount would go on showing the old file
 * after a rename.
 */
int container_files_write(struct host *h, const struct container_files *f,
	const struct attachment *const *made, size_t n) must_check;
