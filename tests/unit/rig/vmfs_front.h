/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fake front end of the virtio-fs server, for tests. The server runs in a child process without
 * its jail, so that the sanitizers can work there. front_end() returns how the server ended.
 */
#pragma once
#include <linux/fuse.h>
#include <stdbool.h>

#include "unit/rig/vhost_front.h"

void front_begin_with(
	struct front *f, bool read_only, uint32_t max_nodes, uint32_t max_descriptors);
void front_begin(struct front *f, bool read_only, uint32_t max_nodes);
/* Starts a server that may watch for the guest's next request so long (struct vmfs_config). */
void front_begin_watching(struct front *f, uint32_t watch_us);

/*
 * Hangs up and waits until the server has ended. Returns the server's exit code: 0, or 3 if the
 * server refused a message. Any other code is a crash.
 */
int front_end(struct front *f);

/*
 * Sends a FUSE request: a fixed part, then names or data. Returns the error in the answer (0 or
 * -errno), or INT_MIN if the server wrote no answer. front_reply() then returns what follows the
 * header of the answer.
 */
int front_fuse(struct front *f, uint32_t opcode, uint64_t node, const void *args, size_t len,
	const void *more, size_t more_len);
const void *front_reply(const struct front *f);
void front_fuse_init(struct front *f);

/* Sends a FUSE request whose only argument is a name. */
int front_name(struct front *f, uint32_t opcode, uint64_t dir, const char *name);

/* Returns the node number in the last reply of the server. */
uint64_t front_entry(const struct front *f);
