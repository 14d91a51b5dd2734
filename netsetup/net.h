/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network set-up over rtnetlink(7), on libmnl. Each call opens its own socket, acts in the network
 * namespace that it is told, and returns; nothing is kept between calls. Errors: -errno with a
 * message that names the interface.
 */
#pragma once
#include <net/if.h>

#include "base/err.h"

/* Sets the loopback interface of the calling thread's network namespace up. */
int net_loopback_up(void) must_check;

/*
 * Moves a host interface into the network namespace netns_fd and sets it up there, as runtime-spec
 * 1.3 asks (config-linux.md "Network Devices"). new_name NULL: the interface keeps its name. The
 * kernel replaces one "%d" in new_name with a free number.
 *
 * The interface keeps its permanent addresses of global scope, its MAC address and its MTU; routes
 * other than those that its addresses imply are not moved. After a failure the interface is where
 * and what it was before. -EEXIST: the name is taken in that namespace; -ENODEV: there is no such
 * interface.
 */
int net_move_device(const char *name, const char *new_name, int netns_fd) must_check;

/*
 * Finds the name that a template such as "eth%d" would give in that namespace now, because a caller
 * must write the new name down before the move. A name that is no template is copied.
 */
int net_pick_name(const char *template, int netns_fd, char ret[IFNAMSIZ]) must_check;

/*
 * Undoes net_move_device() for a container that could not be created: brings the interface back to
 * the caller's namespace under its old name, with its addresses, and sets it up if it was up.
 * new_name must not be a template. 0 if the interface is gone. -EEXIST: another interface has taken
 * the old name since, and this one stays where it is.
 */
int net_return_device(const char *new_name, const char *name, int netns_fd) must_check;
