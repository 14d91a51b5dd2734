/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hands over to the runtime's caller: the terminal and a pidfd through Unix sockets, and the pid in
 * a file.
 */
#pragma once
#include "launch/container.h"

/*
 * The texts of these error messages are the same as runc's, the name "runc" included, because
 * engines and scripts search for them.
 */
#define HANDOVER_NO_CONSOLE "cannot allocate tty if runc will detach without setting console socket"
#define HANDOVER_NO_TERMINAL "cannot use console socket if runc will not detach or allocate tty"

/*
 * Connects to the Unix stream socket at `path` and returns the connected socket. Error messages
 * name `field`, the option or property from which the path came.
 */
int handover_connect(const char *path, const char *field) must_check;

/* Sends the descriptor of the terminal's master to the Unix socket of --console-socket. */
int handover_console(const char *socket_path, int master) must_check;
/*
 * Sends the pidfd of the container's process to the Unix socket at socket_path. field is the name
 * of the option or annotation that gave the path, for error messages.
 */
int handover_pidfd(const char *socket_path, const char *field, int pidfd) must_check;
/* Writes the pid into the file of --pid-file. Does nothing if pid_file is NULL. */
int handover_pid(const char *pid_file, pid_t pid) must_check;
/*
 * Removes the file of --pid-file when a container that could not be made is undone. If the path is
 * not a regular file, such as a FIFO that the caller made, it stays.
 */
void handover_forget_pid(const char *pid_file);
