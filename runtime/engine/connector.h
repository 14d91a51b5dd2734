/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that reconnects to a Unix socket of the host when the monitor has lost its connection
 * to that socket. The monitor cannot reconnect itself, because it cannot open anything by name in
 * its jail (jail/jail.h). The process knows only the path of the socket, gets no data from the
 * guest, and ends with the monitor.
 */
#pragma once
#include "base/err.h"

/*
 * Forks the process that connects. The caller must call this function before it enters the jail,
 * while it has only one thread. Returns a SOCK_SEQPACKET socket to the process. The caller asks for
 * a connection by a byte on this socket. The process tries to connect for up to `seconds`. It
 * answers with a byte and the connected socket, or, if it could not connect in that time, with a
 * byte alone.
 */
int connector_start(const char *path, unsigned seconds) must_check;
