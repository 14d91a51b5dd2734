/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The step CLOSE: closes every descriptor in INIT, the container's first process, except for those
 * on a list of what INIT keeps, so that INIT holds nothing of the host from then on. The list names
 * what stays open and not what is closed, so that no descriptor is forgotten.
 */
#include <linux/close_range.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/sys.h"
#include "step/step.h"

static int compare(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static bool has_later_hooks(const struct step_ctx *c, const struct step *s)
{
	for (const struct step *later = s + 1; later < c->plan->steps + c->plan->n; later++)
		if (later->kind == STEP_HOOKS && later->place == c->place)
			return true;
	return false;
}

/*
 * Returns the index in c->slots of the file that holds the compiled system call filter, or -1 if no
 * file holds the filter. In a microVM the SECCOMP step, which comes after CLOSE, reads the filter
 * from this file.
 */
static int filter_slot(const struct step_ctx *c)
{
	for (size_t i = 0; !c->filter && i < c->plan->n; i++)
		if (c->plan->steps[i].kind == STEP_SECCOMP)
			return c->plan->steps[i].slot;
	return -1;
}

static void forget(struct step_ctx *c)
{
	int filter = filter_slot(c);

	c->proc = c->root = c->container = c->host_mounts = c->own_mounts = -EBADF;
	c->null_cover.fd = c->dir_cover.fd = -EBADF;
	for (int i = 0; i < c->plan->nslots; i++)
		if (i != filter)
			c->slots[i] = -EBADF;
}

int step_close(struct step_ctx *c, const struct step *s)
{
	int kept[STEP_KEEP_MAX + 3], filter = filter_slot(c);
	unsigned from = 3 + c->preserve_fds;
	size_t n = 0;

	for (size_t i = 0; i < c->nkeep && i < STEP_KEEP_MAX; i++)
		kept[n++] = c->keep[i];
	for (int i = 0; i < 2 && c->hook_out && has_later_hooks(c, s); i++)
		kept[n++] = c->hook_out[i];
	if (filter >= 0)
		kept[n++] = c->slots[filter];
	qsort(kept, n, sizeof(*kept), compare);
	for (size_t i = 0; i < n; i++) {
		if (kept[i] < (int)from)
			continue;
		if ((unsigned)kept[i] > from && close_range(from, (unsigned)kept[i] - 1, 0) < 0)
			return err_sys("close the host's descriptors");
		from = (unsigned)kept[i] + 1;
	}
	if (close_range(from, ~0U, 0) < 0)
		return err_sys("close the host's descriptors");
	forget(c);
	return 0;
}
