/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets up network interfaces over rtnetlink(7), with libmnl. Each call opens its own socket and
 * acts in the network namespace that its arguments name; no state is kept between calls. Errors are
 * -errno with a message that names the interface.
 */
#pragma once
#include <net/if.h>

#include "base/err.h"

/* Sets the interface lo of the calling thread's network namespace up. */
int net_loopback_up(void) must_check;

/*
 * Moves a host interface into the network namespace netns_fd and sets it up there, as runtime-spec
 * 1.3 asks (config-linux.md "Network Devices"). If new_name is NULL, the interface keeps its name.
 * The kernel replaces one "%d" in new_name with a free number.
 *
 * The interface keeps its permanent addresses of global scope, its MAC address and its MTU; routes
 * are not moved, except those that its addresses imply. After a failure the interface is back in
 * its old namespace, unchanged. Returns -EEXIST if the name is taken in the namespace netns_fd, and
 * -ENODEV if there is no such interface.
 */
int net_move_device(const char *name, const char *new_name, int netns_fd) must_check;

/*
 * Finds the name that the kernel would now give to a template such as "eth%d" in the namespace
 * netns_fd, because the caller must record the new name before the move. A name that is no template
 * is copied.
 */
int net_pick_name(const char *template, int netns_fd, char ret[IFNAMSIZ]) must_check;

/*
 * Undoes net_move_device() for a container that could not be created: moves the interface back to
 * the caller's namespace under its old name, with its addresses, and sets it up if it was up.
 * new_name must not be a template. Returns 0 if the interface no longer exists. Returns -EEXIST if
 * another interface has taken the old name since then; the interface then stays in the container's
 * namespace.
 */
int net_return_device(const char *new_name, const char *name, int netns_fd) must_check;
