/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for a child process, and reads when a process was started and by which parent. */
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
 * Reads the start time of a process, field 22 of /proc/PID/stat, which tells the process from a
 * later process with the same pid. Returns -ESRCH if there is no such process or if the process is
 * a zombie.
 */
int process_start_time(pid_t pid, uint64_t *ret) must_check;

/* Reads the pid of a process's parent. Returns -ESRCH as process_start_time() does. */
int process_parent(pid_t pid, pid_t *ret) must_check;
