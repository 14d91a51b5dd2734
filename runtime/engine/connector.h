/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects to a Unix socket of the host's, again, for a monitor that has lost its connection and
 * can open nothing by name any more (jail.h): a process of its own, which knows one path and
 * nothing of the guest's. It ends with the monitor.
 */
#pragma once
#include "base/err.h"

/*
 * Forks it; to be called before the jail, with one thread. Returns the socket to ask it by
 * (SOCK_SEQPACKET): a byte is the question, the answer a byte with the connected socket. It tries
 * for `seconds`; then the answer is a byte alone.
 */
int connector_start(const char *path, unsigned seconds) must_check;
