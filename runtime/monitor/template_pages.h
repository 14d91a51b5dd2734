/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file pages-... beside a template in the cache: which pages of its memory a machine of the
 * template touches until its container is created (vm/prefetch.h). The first machine that starts
 * from the template records them, and later ones are given these pages before they run.
 *
 * The name is that of the template with another prefix. The file says of which template it is, by
 * the members of struct template_owner, because a template that is made again gets the same name.
 */
#pragma once
#include "monitor/template_file.h"
#include "vm/prefetch.h"

/* how many runs of pages a file has at most */
#define TEMPLATE_RUNS_MAX 4096U

struct template_pages {
	struct vm_page_run *runs; /* in memory from malloc(3); NULL: the pages are not known */
	size_t n;
};

/*
 * Reads the bytes of such a file. Returns -EBADMSG with a message if they are damaged or of another
 * template.
 */
int template_pages_parse(const struct strbuf *bytes, const struct template_owner *of,
	uint64_t memory, struct template_pages *ret) must_check;
/*
 * Opens the file of the template. Returns 0, -ENOENT without a message if there is none, or another
 * error with a message.
 */
int template_pages_open(int cache, const struct template_found *t, uint64_t memory,
	struct template_pages *ret) must_check;
void template_pages_release(struct template_pages *p);

/*
 * Begins the file of the template, and starts its keeper, as template_make() does. Returns
 * -ETIMEDOUT with a message if another process makes such a file.
 */
int template_pages_make(int cache, const struct template_found *t, struct template_new *ret)
	must_check;
/* Writes the file, and tells its keeper that it is complete. */
int template_pages_write(const struct template_new *t, const struct template_owner *of,
	const struct vm_page_run *runs, size_t n) must_check;
