/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of the tar reader share. */
#pragma once
#include "images/oci/tar.h"

/*
 * Checks the PAX records in t->records, and puts a NUL behind each value there. Extended attributes
 * go to t->xattrs.
 */
int pax_parse(struct tar *t, struct pax *ret) must_check;

/*
 * Gives the next bytes for libarchive. The guard has checked those that are headers. Returns their
 * number, 0 at the end of the tar, or -errno with a message.
 */
ssize_t guard_next(struct tar *t, const void **ret) must_check;

/* Tells the guard that the next header is that of another entry. */
void guard_expect_entry(struct tar *t);
