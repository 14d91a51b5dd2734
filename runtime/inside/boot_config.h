/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the configurations of boot loaders: which kernel they would boot, with which initramfs and
 * command line. The texts come from a hostile disk. They are read in the microVM that looks into
 * the disk (boot.c), and fuzzed by tests/fuzz/fuzz_boot_config.c. All results live in the arena.
 */
#pragma once
#include "base/arena.h"

#define BOOT_INITRDS_MAX 8

/* What a configuration says. The texts are as they are there. */
struct boot_entry {
	const char *kernel, *options; /* NULL: it says nothing of that */
	const char *initrds[BOOT_INITRDS_MAX];
	size_t ninitrds;
};

/* Parses an entry of the boot loader specification. */
void boot_parse_bls(struct arena *a, const char *text, struct boot_entry *ret);
/* Parses grub.cfg up to the end of the first entry that names a kernel. */
void boot_parse_grub(struct arena *a, const char *text, struct boot_entry *ret);
/* Parses extlinux.conf up to the end of its first label. */
void boot_parse_extlinux(struct arena *a, const char *text, struct boot_entry *ret);

const char *boot_next_line(const char *line);
/* Copies a line without the blanks around it. Returns NULL if memory has run out. */
char *boot_take_line(struct arena *a, const char *line);
/* If the line's first word is one of `names`, returns what follows it, else NULL. */
char *boot_value_of(char *line, const char *const *names);
/* Cuts the next word off, without its quotation marks. Returns NULL at the end. */
char *boot_cut_word(char **at);
