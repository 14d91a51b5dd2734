/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the configurations of boot loaders: which kernel they would boot, with which initramfs and
 * command line. The texts come from a hostile disk. So they are parsed only in the microVM that
 * looks into the disk (boot.c), and the parsers are fuzzed by tests/fuzz/fuzz_boot_config.c. All
 * results live in the arena.
 */
#pragma once
#include "base/arena.h"

#define BOOT_INITRDS_MAX 8

/* What the configuration of a boot loader says. The texts are copied from it unchanged. */
struct boot_entry {
	/*
	 * path of the kernel, and the kernel's command line; NULL: the configuration does not say
	 * it
	 */
	const char *kernel, *options;
	const char *initrds[BOOT_INITRDS_MAX];
	size_t ninitrds;
};

/* Parses a file of the boot loader specification, which describes one entry of the boot menu. */
void boot_parse_bls(struct arena *a, const char *text, struct boot_entry *ret);
/* Parses grub.cfg up to the end of the first entry that names a kernel. */
void boot_parse_grub(struct arena *a, const char *text, struct boot_entry *ret);
/* Parses extlinux.conf up to the end of its first label. */
void boot_parse_extlinux(struct arena *a, const char *text, struct boot_entry *ret);

const char *boot_next_line(const char *line);
/*
 * Returns a copy of the line without the blanks at its begin and end, or NULL if memory has run
 * out.
 */
char *boot_take_line(struct arena *a, const char *line);
/* Returns what follows the line's first word if that word is one of `names`, else NULL. */
char *boot_value_of(char *line, const char *const *names);
/*
 * Cuts the first word off the text *at and returns it without its quotation marks. Returns NULL if
 * the text has no more words.
 */
char *boot_cut_word(char **at);
