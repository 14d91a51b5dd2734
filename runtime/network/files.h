/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the files hosts and resolv.conf of a container, which caisson mounts in the container's
 * /etc.
 */
#pragma once
#include "network/tool.h"

struct container_files {
	/* directory of the files hosts and resolv.conf, which exist and are mounted already */
	const char *dir;
	/* host name of the container; NULL: the container has the host's name */
	const char *hostname;
	/*
	 * name server that the container gets; NULL: it gets the DNS server of its first network
	 * that has one, else the host's name servers
	 */
	const char *server;
	/* values of the options --dns ADDRESS and --add-host NAME:ADDRESS */
	struct option_list dns, hosts;
};

/*
 * Writes the container's hosts and resolv.conf, given its attachments to n networks. Overwrites the
 * files and does not replace them by rename(2), because the bind mounts in the container would then
 * go on showing the old files.
 */
int container_files_write(struct host *h, const struct container_files *f,
	const struct attachment *const *made, size_t n) must_check;
