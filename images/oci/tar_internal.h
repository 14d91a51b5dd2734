/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of the tar reader share. */
#pragma once
#include "images/oci/tar.h"

/*
 * Checks the records in t->records, which it writes to (each value gets a NUL behind it). xattrs go
 * to t->xattrs.
 */
int pax_parse(struct tar *t, struct pax *ret) must_check;

/*
 * The next bytes for libarchive, checked as far as they are headers. Returns their number, 0 at the
 * end of the tar, or -errno with a message.
 */
ssize_t guard_next(struct tar *t, const void **ret) must_check;

/* The guard expects the headers of another entry next. */
void guard_expect_entry(struct tar *t);
