/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache directory, which holds what caisson makes from a kernel to use it again: initramfs
 * files and templates of machines. The name of an entry is a prefix and the hash of the entry's
 * key, a text that describes everything from which the entry was made.
 *
 * An entry is used only if this user owns the entry and the directory, and nobody else may write to
 * them. So users never share entries.
 */
#pragma once
#include <sys/stat.h>

#include "base/str.h"

/* size of the buffer for the name of an entry */
#define CACHE_NAME_SIZE 80
/* what the name of an entry ends with until the entry is complete */
#define CACHE_TMP ".tmp"

/*
 * Appends to the key a line with `name` and with what identifies the file's contents: its device,
 * inode, size and times.
 */
int cache_key_stat(struct strbuf *key, const char *name, const struct stat *st) must_check;

/* Makes the name of the entry with this key. */
void cache_name(const char *prefix, const struct strbuf *key, char ret[static CACHE_NAME_SIZE]);

/*
 * Opens the cache directory, and makes it with mode 0700 if it is missing. Returns its descriptor,
 * or -EPERM with a message if others may write to it.
 */
int cache_open(const char *path) must_check;

/* Opens an entry for reading. Returns the descriptor, or -errno without a message. */
int cache_open_entry(int dir, const char *name) must_check;

/*
 * Takes a lock of the cache, the file `name` in the directory `dir`. The lock is held until the
 * returned descriptor is closed. Waits `wait_ms` at most, because the process that holds the lock
 * may be stopped. Returns -ETIMEDOUT with a message if another process still holds the lock.
 */
int cache_lock(int dir, const char *name, int wait_ms) must_check;

/*
 * Removes the oldest entries with this prefix until `kept` are left. The caller holds the lock of
 * the cache and makes no entry at this time, so a name that ends with CACHE_TMP is a file that a
 * killed process has left: it is removed too. A process that has opened a removed entry can still
 * read it.
 */
void cache_drop_old(int dir, const char *prefix, size_t kept);
