/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and makes the directory in which caisson stores what a user keeps across reboots. */
#pragma once
#include <stddef.h>

#include "base/err.h"

/*
 * Writes the path of the directory to buf: /var/lib/caisson for root, otherwise
 * $XDG_DATA_HOME/caisson or $HOME/.local/share/caisson. Returns an error if the environment names
 * no directory.
 */
int data_dir_find(char *buf, size_t size) must_check;
/* The same for an ordinary user, also if the process is root of a user namespace of that user. */
int data_dir_of_user(char *buf, size_t size) must_check;

/* Makes the directory and those above it that do not exist. Nobody else can look into a new one. */
int data_dir_make(const char *path) must_check;
