/* SPDX-License-Identifier: Apache-2.0 */
/* What the runtime hands over to its caller: descriptors by Unix sockets, the pid by a file. */
#pragma once
#include "launch/container.h"

/* These are runc's words, the name "runc" included, because engines and scripts look for them. */
#define HANDOVER_NO_CONSOLE "cannot allocate tty if runc will detach without setting console socket"
#define HANDOVER_NO_TERMINAL "cannot use console socket if runc will not detach or allocate tty"

/* Connects to a Unix stream socket; errors name the field that the path came from. */
int handover_connect(const char *path, const char *field) must_check;

int handover_console(const char *socket_path, int master) must_check; /* --console-socket */
int handover_pidfd(const char *socket_path, int pidfd) must_check;    /* --pidfd-socket */
int handover_pid(const char *pid_file, pid_t pid) must_check; /* --pid-file, NULL: not given */
/* Removes the file again, unless it is a device or anything else that was there before. */
void handover_forget_pid(const char *pid_file);
