/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "base/err.h"

/*
 * Copies the content of the directory `from` into the directory `to`, recursively: files with their
 * holes, links, device nodes and FIFOs, with owner, mode, extended attributes and times. `from` may
 * be an O_PATH descriptor and may be hostile; no other process may change `to` meanwhile. An owner
 * that the user namespace does not map becomes the caller. Hard links become files of their own.
 */
int copy_tree(int from, int to) must_check;

/*
 * Copies the content of the directory `from` into the directory `to` as copy_tree() does. Also
 * gives the directory `to` itself the attributes of `from`. `from` must be open for reading.
 */
int copy_tree_with_root(int from, int to) must_check;
