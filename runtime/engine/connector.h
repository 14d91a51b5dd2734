/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that reconnects to a Unix socket of the host when the monitor has lost its connection.
 * The monitor cannot reconnect itself, because it cannot open anything by name in its jail
 * (jail/jail.h). The process knows only the path of the socket, gets no data from the guest, and
 * ends with the monitor.
 */
#pragma once
#include "base/err.h"

/*
 * Forks the connecting process. Must be called before the jail is entered, while there is only one
 * thread. Returns a SOCK_SEQPACKET socket. A byte that the caller sends there asks for a
 * connection, and the answer is a byte with the connected socket. The process tries to connect for
 * `seconds`. If it cannot connect in that time, it answers with a byte and no socket.
 */
int connector_start(const char *path, unsigned seconds) must_check;
