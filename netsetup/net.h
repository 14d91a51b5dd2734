/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network set-up over rtnetlink(7), on libmnl. Each call opens its own socket, acts in the network
 * namespace it is told and returns; nothing is kept. Errors: -errno with a message that names the
 * interface.
 */
#pragma once
#include <net/if.h>

#include "base/err.h"

/* Brings the loopback interface of the calling thread's network namespace up. */
int net_loopback_up(void) must_check;

/*
 * Moves a host interface into the network namespace netns_fd as new_name (NULL: the same name; one
 * "%d" in it: the kernel puts a free number there) and sets it up there, as runtime-spec 1.3 asks
 * (config-linux.md "Network Devices"). It keeps its permanent addresses of global scope, its MAC
 * address and its MTU; routes other than those that its addresses imply are not moved. All or
 * nothing: after a failure it is where and what it was. -EEXIST if the name is taken there, -ENODEV
 * if there is no such interface.
 */
int net_move_device(const char *name, const char *new_name, int netns_fd) must_check;

/*
 * The name that a template such as "eth%d" stands for in that namespace at present, for who must
 * write down the new name before the move; a name that is no template is copied.
 */
int net_pick_name(const char *template, int netns_fd, char ret[IFNAMSIZ]) must_check;

/*
 * Undo of net_move_device(), for a container that could not be created: brings it back to the
 * caller's namespace under its old name, with its addresses, up if it is up. new_name is no
 * template. 0 if it is gone; -EEXIST if the old name has been taken in the meantime: then it stays
 * where it is.
 */
int net_return_device(const char *new_name, const char *name, int netns_fd) must_check;
