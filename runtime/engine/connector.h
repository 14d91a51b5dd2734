/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that connects to a Unix socket of the host again, for a monitor that has lost its
 * connection. The monitor can't do that itself, because it can open nothing by name in its jail
 * (jail/jail.h). The process knows only that one path, gets nothing that the guest writes, and ends
 * with the monitor.
 */
#pragma once
#include "base/err.h"

/*
 * Forks the process; to be called before the jail is entered, while there is one thread. Returns a
 * SOCK_SEQPACKET socket: a byte that is sent there asks for a connection, and the answer is a byte
 * with the connected socket. The process tries for `seconds`, then it answers with a byte and no
 * socket.
 */
int connector_start(const char *path, unsigned seconds) must_check;
