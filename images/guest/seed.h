/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a cloud-init seed: a FAT file system with the label CIDATA, in which NoCloud of cloud-init
 * finds the files user-data, meta-data, vendor-data and network-config. The file system is FAT
 * because every cloud image can mount FAT, as its EFI system partition is FAT too.
 */
#pragma once
#include <stddef.h>

#include "base/err.h"

#define SEED_FILE_MAX (1u << 20) /* largest size of a file in the seed, in bytes */
#define SEED_FILES_MAX 4
#define SEED_SIZE (16u << 20) /* size of the file system in bytes */

struct seed_file {
	const char *name; /* name of the file, at most 26 ASCII characters */
	const void *data;
	size_t len;
};

/*
 * Writes the file system to fd, an empty file, which becomes SEED_SIZE bytes long and sparse.
 * Returns -EFBIG if a file is longer than SEED_FILE_MAX.
 */
int seed_write(int fd, const struct seed_file *files, size_t n) must_check;
