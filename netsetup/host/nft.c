/* SPDX-License-Identifier: Apache-2.0 */
/* Runs nftables commands. Only this file calls libnftables. */
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>

#include "netsetup/host/host_internal.h"

static void nft_freep(struct nft_ctx **nft)
{
	if (*nft)
		nft_ctx_free(*nft);
}

void nft_close(struct host *h)
{
	nft_freep(&h->nft);
	h->nft = NULL;
}

int nft_run(struct host *h, const char *commands)
{
	char line[512];

	if (!commands[0])
		return 0;
	if (h->dry_run)
		return strbuf_addf(&h->changes, "nft:\n%s", commands);
	/*
	 * Only the socket of an earlier nft_run() is closed here. The socket of this one stays open
	 * until host_close(), because close(2) waits until the kernel has freed what the commands
	 * have deleted, which takes 7 to 20 ms (RCU). Meanwhile the kernel can delete an interface,
	 * which needs such a wait too.
	 */
	nft_close(h);
	h->nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!h->nft || nft_ctx_buffer_error(h->nft) || nft_ctx_buffer_output(h->nft))
		return err_set(ENOMEM, "nftables: no memory");
	if (nft_run_cmd_from_buffer(h->nft, commands) == 0)
		return 0;
	const char *words = nft_ctx_get_error_buffer(h->nft);
	str_clean(line, sizeof(line), words, strcspn(words, "\n"));
	return err_set(EIO, "nftables refuses the rules: %s",
		line[0] ? line : "it does not say why (is nf_tables in this kernel?)");
}

bool nft_has_table(const char *table)
{
	__attribute__((cleanup(nft_freep))) struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	char command[64];

	if (!nft || nft_ctx_buffer_error(nft) || nft_ctx_buffer_output(nft))
		return false;
	snprintf(command, sizeof(command), "list table %s\n", table);
	return nft_run_cmd_from_buffer(nft, command) == 0;
}

/* Removes one attachment from a list, and keeps the order of the remaining attachments. */
static void leave_out(const struct attachment **all, size_t *count, const struct attachment *a)
{
	size_t kept = 0;

	for (size_t i = 0; i < *count; i++)
		if (!a || !streq(all[i]->key, a->key) || !streq(all[i]->interface, a->interface))
			all[kept++] = all[i];
	*count = kept;
}

int nft_write_all(struct host *h, const struct attachment *attachment, const char *network)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct attachment **all;
	struct network *networks;
	size_t n, count, kept = 0;

	int r = network_list(h, &networks, &n);
	if (r >= 0)
		r = attachment_list(h, NULL, NULL, &all, &count);
	if (r < 0)
		return r;
	leave_out(all, &count, attachment);
	for (size_t i = 0; i < n; i++)
		if (!network || !streq(networks[i].name, network))
			networks[kept++] = networks[i];
	r = rules_all(&text, networks, kept, all, count);
	return r < 0 ? r : nft_run(h, strbuf_str(&text));
}
