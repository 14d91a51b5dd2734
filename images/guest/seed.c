/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a cloud-init seed as a file system of the type FAT16 (Microsoft's "FAT32 File System
 * Specification", 1.03): boot sector, two FATs, root directory, clusters. The size of a seed is
 * fixed, so all places in it are constants. The files' names are longer than FAT's 8.3 form, so
 * entries with the long name precede the entry of each file.
 */
#include "images/guest/seed.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512u
#define CLUSTER (4 * SECTOR)
#define FAT_SECTORS 32u
#define FATS 2u
#define ROOT_ENTRIES 512u
#define FAT_AT SECTOR
#define ROOT_AT (FAT_AT + FATS * FAT_SECTORS * SECTOR)
#define DATA_AT (ROOT_AT + ROOT_ENTRIES * ENTRY)
#define ENTRY 32u
#define MEDIA 0xf8 /* media descriptor of the FAT that stands for a fixed disk */
#define LABEL "CIDATA     "
#define LONG_PART 13u /* characters of a long name that one directory entry holds */
#define LONG_PARTS_MAX 2u
/* 2025-01-01 as a FAT date; a constant, so that the same files always give the same seed */
#define DATE 0x5a21
#define ATTR_LABEL 0x08
#define ATTR_ARCHIVE 0x20
#define ATTR_LONG 0x0f
#define FIRST_CLUSTER 2u
#define END_OF_CHAIN 0xffff

struct seed {
	uint8_t fat[FAT_SECTORS * SECTOR];
	uint8_t root[ROOT_ENTRIES * ENTRY];
	size_t entries;
	unsigned next; /* number of the first free cluster */
};

static void put16(uint8_t *at, unsigned v)
{
	at[0] = (uint8_t)v;
	at[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, v & 0xffff);
	put16(at + 2, v >> 16);
}

static uint8_t *add_entry(struct seed *s)
{
	return s->root + ENTRY * s->entries++;
}

static void put_dates(uint8_t *e)
{
	put16(e + 16, DATE); /* date of creation */
	put16(e + 18, DATE); /* date of the last access */
	put16(e + 24, DATE); /* date of the last write */
}

/*
 * Links n clusters to a chain for a file, and returns the number of the first one, or 0 if n is 0
 * because the file is empty.
 */
static unsigned add_chain(struct seed *s, size_t n)
{
	unsigned first = s->next;

	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++, s->next++)
		put16(s->fat + 2 * s->next, i + 1 < n ? s->next + 1 : END_OF_CHAIN);
	return first;
}

static uint8_t short_checksum(const uint8_t name[11])
{
	uint8_t sum = 0;

	for (int i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + name[i]);
	return sum;
}

/*
 * Adds a directory entry with one part of a long file name. A character of 0 ends the name, and
 * characters of 0xffff fill the rest of the entry.
 */
static void add_long_part(
	struct seed *s, const char *name, unsigned part, bool is_last, uint8_t sum)
{
	static const uint8_t places[LONG_PART] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
	uint8_t *e = add_entry(s);
	size_t len = strlen(name);

	e[0] = (uint8_t)((part + 1) | (is_last ? 0x40 : 0));
	e[11] = ATTR_LONG;
	e[13] = sum;
	for (unsigned i = 0; i < LONG_PART; i++) {
		size_t at = part * LONG_PART + i;
		put16(e + places[i], at < len ? (uint8_t)name[at] : at == len ? 0 : 0xffff);
	}
}

static void add_file(struct seed *s, unsigned index, const struct seed_file *f)
{
	unsigned parts = (unsigned)((strlen(f->name) + LONG_PART - 1) / LONG_PART);
	uint8_t name[12];

	snprintf((char *)name, sizeof(name), "SEED%04u   ", index % 10000);
	for (unsigned i = parts; i > 0; i--)
		add_long_part(s, f->name, i - 1, i == parts, short_checksum(name));
	uint8_t *e = add_entry(s);
	memcpy(e, name, 11);
	e[11] = ATTR_ARCHIVE;
	put_dates(e);
	put16(e + 26, add_chain(s, (f->len + CLUSTER - 1) / CLUSTER));
	put32(e + 28, (uint32_t)f->len);
}

static void fill_boot_sector(uint8_t b[SECTOR])
{
	memcpy(b,
		"\xeb\x3c\x90"
		"CAISSON ",
		11);
	put16(b + 11, SECTOR);
	b[13] = CLUSTER / SECTOR;
	put16(b + 14, FAT_AT / SECTOR);
	b[16] = FATS;
	put16(b + 17, ROOT_ENTRIES);
	put16(b + 19, SEED_SIZE / SECTOR);
	b[21] = MEDIA;
	put16(b + 22, FAT_SECTORS);
	/*
	 * The fields for the sectors of a track and for the heads of a disk may have any value,
	 * because no reader of the seed uses them.
	 */
	put16(b + 24, 32);
	put16(b + 26, 2);
	b[36] = 0x80; /* the number that a BIOS gives to the first hard disk */
	/* extended boot signature: serial number, label and file system type follow */
	b[38] = 0x29;
	put32(b + 39, 0xca15500e);
	memcpy(b + 43, LABEL "FAT16   ", 19);
	put16(b + 510, 0xaa55);
}

static int write_at(int fd, const void *data, size_t len, size_t at)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys("write the cloud-init seed");
		p += n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int seed_write(int fd, const struct seed_file *files, size_t n)
{
	struct seed s = {.next = FIRST_CLUSTER};
	uint8_t boot[SECTOR] = {0};
	int r = 0;

	_Static_assert(SEED_SIZE / SECTOR <= UINT16_MAX, "the 16-bit field holds the size");
	_Static_assert(SEED_FILES_MAX * (SEED_FILE_MAX + CLUSTER) < SEED_SIZE - DATA_AT, "room");
	_Static_assert((SEED_SIZE - DATA_AT) / CLUSTER + FIRST_CLUSTER <= FAT_SECTORS * SECTOR / 2,
		"the FAT has an entry for each cluster");
	if (n > SEED_FILES_MAX)
		return err_set(
			E2BIG, "a seed of %zu files: expected %d at most", n, SEED_FILES_MAX);
	if (ftruncate(fd, SEED_SIZE) < 0)
		return err_sys("write the cloud-init seed");
	fill_boot_sector(boot);
	put32(s.fat, 0xffffff00 | MEDIA);
	uint8_t *label = add_entry(&s);
	memcpy(label, LABEL, 11);
	label[11] = ATTR_LABEL;
	put_dates(label);
	for (size_t i = 0; i < n && r >= 0; i++) {
		size_t at = DATA_AT + (s.next - FIRST_CLUSTER) * (size_t)CLUSTER;
		if (files[i].len > SEED_FILE_MAX || !*files[i].name ||
			strlen(files[i].name) > LONG_PARTS_MAX * LONG_PART)
			return err_set(EFBIG, "%s: %zu bytes: a seed takes %u at most",
				files[i].name, files[i].len, SEED_FILE_MAX);
		add_file(&s, (unsigned)i + 1, &files[i]);
		r = write_at(fd, files[i].data, files[i].len, at);
	}
	if (r >= 0)
		r = write_at(fd, boot, sizeof(boot), 0);
	for (unsigned i = 0; i < FATS && r >= 0; i++)
		r = write_at(fd, s.fat, sizeof(s.fat), FAT_AT + i * sizeof(s.fat));
	return r < 0 ? r : write_at(fd, s.root, sizeof(s.root), ROOT_AT);
}
