/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network set-up over rtnetlink(7), on libmnl. Each call opens its own socket, acts in the network namespace
 * it is told and returns; nothing is kept. Errors: -errno with a message that names the interface.
 */
#pragma once
#include "err.h"

/* Brings the loopback interface of the calling thread's network namespace up. */
int net_loopback_up(void) must_check;

/*
 * Moves a host interface into the network namespace netns_fd as new_name (NULL: the same name), keeping its
 * global addresses, MAC, MTU and routes' source, as runtime-spec 1.3 asks (config-linux.md "Network devices"),
 * and sets it up there. Fails with -EEXIST if the name is taken and -ENODEV if there is no such interface.
 */
int net_move_device(const char *name, const char *new_name, int netns_fd) must_check;

/* Undo of net_move_device(): brings it back to the caller's namespace under its old name. 0 if it is gone. */
int net_return_device(const char *new_name, const char *name, int netns_fd) must_check;
