/* SPDX-License-Identifier: Apache-2.0 */
/* Makes again what is missing of all networks, and undoes the attachments that have ended. */
#include <stdlib.h>

#include "netsetup/host/host_internal.h"

/* The first failure of several steps, each of which is done even if an earlier one has failed. */
struct failure {
	int r; /* 0: no step has failed */
	char *message;
};

static void failure_release(struct failure *f)
{
	free(f->message);
}
#define _cleanup_failure_ __attribute__((cleanup(failure_release), unused))

/* Keeps the result r of a step, and the error message, if the step is the first that has failed. */
static void failure_note(struct failure *f, int r)
{
	if (r >= 0)
		return;
	if (f->r == 0) {
		f->r = r;
		f->message = strdup(err_msg());
	}
	err_clear();
}

static int sweep_all(struct host *h)
{
	const struct attachment **all;
	size_t count;
	int r = attachment_list(h, NULL, NULL, &all, &count);

	for (size_t i = 0; r >= 0 && i < count; i++)
		r = attachment_sweep_one(h, all[i]);
	return r;
}

int network_reload(struct host *h)
{
	_cleanup_failure_ struct failure failure = {0};
	struct network *all;
	size_t n;

	int r = network_list(h, &all, &n);
	if (r < 0) {
		/* The networks whose files are not damaged are made all the same. */
		failure_note(&failure, r);
		h->skip_damaged = true;
		r = network_list(h, &all, &n);
	}
	if (r < 0)
		return r;
	/*
	 * A network that cannot be applied keeps no other network without its interface, names and
	 * rules, because after a reboot each of them is needed.
	 */
	for (size_t i = 0; i < n; i++) {
		r = network_apply(h, &all[i]);
		if (r >= 0)
			r = firewalld_add(h, &all[i]);
		if (r >= 0)
			r = docker_add(h, &all[i]);
		failure_note(&failure, r < 0 ? err_ctx(r, "network %s", all[i].name) : 0);
	}
	failure_note(&failure, sweep_all(h));
	for (size_t i = 0; i < n; i++)
		failure_note(&failure, names_reload(h, &all[i]));
	failure_note(&failure, host_tidy(h));
	failure_note(&failure, nft_write_all(h, NULL, NULL));
	if (failure.r < 0)
		return err_set(-failure.r, "%s", failure.message ? failure.message : "no memory");
	return 0;
}
