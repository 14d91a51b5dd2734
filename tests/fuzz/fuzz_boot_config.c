/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the parsers of boot loaders' configurations. The first byte of the input chooses one of
 * them, and the rest is the text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "inside/boot_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Checks that a text which the parser has found is no longer than the configuration, and that it
 * has no line end.
 */
static void check(const char *text, size_t max)
{
	if (text && (strlen(text) > max || strchr(text, '\n')))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parsers[])(struct arena *, const char *, struct boot_entry *) = {
		boot_parse_bls, boot_parse_grub, boot_parse_extlinux};
	_cleanup_arena_ struct arena a = {0};
	struct boot_entry e = {0};

	if (size == 0)
		return 0;
	char *text = arena_strndup(&a, (const char *)data + 1, size - 1);
	if (!text)
		return 0;
	parsers[data[0] % 3](&a, text, &e);
	if (e.ninitrds > BOOT_INITRDS_MAX)
		abort();
	check(e.kernel, size);
	check(e.options, size);
	for (size_t i = 0; i < e.ninitrds; i++) {
		check(e.initrds[i], size);
		if (strchr(e.initrds[i], '$'))
			abort();
	}
	char *words = arena_strdup(&a, e.options ? e.options : ""), *word;
	while (words && (word = boot_cut_word(&words)))
		check(word, size);
	return 0;
}
