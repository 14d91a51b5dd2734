/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of the files that say which pages of a template are touched first. The checksum
 * is corrected, as an attacker would do. What is accepted must lie in the guest's memory and take
 * up no more of it than allowed; a refusal has a message.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "monitor/template_pages.h"

#define MEMORY (UINT64_C(64) << 20)
#define CRC 24 /* where the checksum is */
#define HEADER 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct template_pages *p)
{
	uint64_t end = 0, written = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct vm_page_run *r = &p->runs[i];

		if (r->first < end || r->count == 0)
			abort();
		end = (uint64_t)r->first + r->count;
		written += r->written ? r->count : 0;
	}
	if (end > MEMORY / VM_PAGE || written > VM_WRITTEN_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct template_owner owner = {.made = 1234, .agent_port = 77};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	struct template_pages p;
	uint32_t crc = 0;

	if (strbuf_add(&bytes, data, size) < 0)
		return 0;
	if (size >= HEADER) {
		memcpy(bytes.s + CRC, &crc, sizeof(crc));
		crc = crc32c(0, bytes.s, size);
		memcpy(bytes.s + CRC, &crc, sizeof(crc));
	}
	err_clear();
	int r = template_pages_parse(&bytes, &owner, MEMORY, &p);
	if (r < 0 && !*err_msg())
		abort();
	if (r >= 0)
		check(&p);
	template_pages_release(&p);
	return 0;
}
