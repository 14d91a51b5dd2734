/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remembers, for an overlay that caisson made, the directory in which its backing files may be. The
 * directory is stored in an extended attribute of the overlay's file, and not in the image, because
 * an image may come from anyone.
 */
#pragma once

/*
 * Returns the directory that was stored for the overlay at `path`, as a string that the caller
 * frees. Returns NULL if none was stored, or if caisson cannot be sure that it stored it itself.
 */
char *remember_get(const char *path);

/*
 * Stores the absolute path `directory` for the overlay at `path`. A failure is no error: the user
 * then has to give the option --backing each time.
 */
void remember_set(const char *path, const char *directory);
