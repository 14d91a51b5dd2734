/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a list from the kernel (a "dump") and stores it in an arena. */
#include "netsetup/carry/carry_internal.h"

int net_dump(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg, struct strbuf *found)
{
	struct nl_req again = *q; /* a copy of the request, because nl_call() changes the request */
	int r = -EINTR;

	for (int tries = 0; r == -EINTR && tries < 10; tries++) {
		*q = again;
		strbuf_reset(found);
		r = nl_call(nl, q, fn, arg);
	}
	return r;
}

int net_keep(struct arena *a, const struct strbuf *found, size_t size, const void **ret,
	size_t *ret_count)
{
	void *kept = NULL;

	if (found->len > 0) {
		kept = arena_alloc(a, found->len);
		if (!kept)
			return -ENOMEM;
		memcpy(kept, found->s, found->len);
	}
	*ret = kept;
	*ret_count = found->len / size;
	return 0;
}
