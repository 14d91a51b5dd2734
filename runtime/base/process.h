/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for a child process, or kills it. Reads when a process was started, and by which parent. */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "base/err.h"

/*
 * Waits until the child process has ended. *ret_status is the status that waitpid(2) returns.
 * `what` names the child in the message of a failure.
 */
int process_wait(pid_t pid, const char *what, int *ret_status) must_check;

/*
 * Kills the child process with SIGKILL and waits for its end. Returns the status that waitpid(2)
 * returns, or 0 if another part of the caller has waited for the child before. The signal is sent
 * again until the child has ended, because a child that still runs as root, and is only about to
 * take the user of its jailed parent, cannot be killed by that parent yet.
 */
int process_kill(pid_t pid);

/*
 * Reads the start time of a process, field 22 of /proc/PID/stat, which tells the process from a
 * later process with the same pid. Returns -ESRCH if there is no such process or if the process is
 * a zombie.
 */
int process_start_time(pid_t pid, uint64_t *ret) must_check;

/* Reads the pid of a process's parent. Returns -ESRCH as process_start_time() does. */
int process_parent(pid_t pid, pid_t *ret) must_check;
