/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended regular expressions (regex(7)) for the IDs of containers: all of POSIX, in the C locale,
 * except for collating symbols and equivalence classes. There are no back-references. The C
 * library's regcomp() makes the static program 80 KB larger, and takes exponential time for some
 * expressions; this one takes time in proportion to the product of both lengths.
 */
#pragma once
#include "base/err.h"

struct pattern;

/* -EINVAL with a message that does not name the option: the text is not an expression. */
int pattern_compile(const char *text, struct pattern **ret) must_check;
/* Whether the expression matches a part of s. */
bool pattern_matches(const struct pattern *p, const char *s);
void pattern_free(struct pattern *p);
