/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and changes the fields of one header of a tar, which is a block of TAR_BLOCK_SIZE bytes. */
#include <stdio.h>

#include "images/oci/tar_internal.h"

/* size in bytes of the field with the beginning of the name in a tar header of star's form */
#define STAR_PREFIX 131

int tar_number(const unsigned char *h, size_t at, size_t len, const char *what, int64_t *ret)
{
	const unsigned char *field = h + at;
	size_t i = 0;
	uint64_t v = 0;

	if (field[0] & 0x80) {
		/*
		 * A number in base 256 is in two's complement. The highest bit of the first byte
		 * only marks base 256, so the next bit is the sign.
		 */
		bool negative = field[0] & 0x40;
		uint64_t invert = negative ? 0xff : 0;
		for (i = 0; i < len; i++) {
			uint64_t c = field[i] ^ invert;
			if (i == 0)
				c &= 0x7f;
			if (v >> 55)
				goto none;
			v = v << 8 | c;
		}
		*ret = negative ? (int64_t)~v : (int64_t)v;
		return 0;
	}
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(field[i] - '0');
	for (; i < len; i++)
		if (field[i] != ' ' && field[i] != '\0')
			goto none;
	*ret = (int64_t)v;
	return 0;
none:
	return err_set(EBADMSG, "a tar header's %s is not a number", what);
}

static unsigned sum_of(const unsigned char *h, int *ret_signed)
{
	unsigned sum = 0;

	*ret_signed = 0;
	for (size_t i = 0; i < TAR_BLOCK_SIZE; i++) {
		unsigned char c = i >= AT_CHECKSUM && i < AT_CHECKSUM + 8 ? ' ' : h[i];
		sum += c;
		*ret_signed += (signed char)c;
	}
	return sum;
}

int tar_check_sum(const unsigned char *h)
{
	int64_t said = -1;
	int signed_sum;
	unsigned sum = sum_of(h, &signed_sum);
	int r = tar_number(h, AT_CHECKSUM, 8, "checksum", &said);

	if (r < 0 || (said != sum && said != signed_sum))
		return err_set(EBADMSG,
			"a tar header's checksum is wrong: this is no tar, or it is damaged");
	return 0;
}

void tar_fill(unsigned char *h, size_t at, size_t end, char with)
{
	int signed_sum;

	memset(h + at, with, end - at);
	snprintf((char *)h + AT_CHECKSUM, 8, "%06o", sum_of(h, &signed_sum));
	h[AT_CHECKSUM + 7] = ' ';
}

static int take_type(unsigned char type, enum tar_type *ret)
{
	switch (type) {
	case '0':
	case '\0':
	case 'S':
	case '7': /* type of a contiguous file */
		*ret = TAR_FILE;
		return 0;
	case '1':
		*ret = TAR_HARDLINK;
		return 0;
	case '2':
		*ret = TAR_SYMLINK;
		return 0;
	case '3':
		*ret = TAR_CHAR;
		return 0;
	case '4':
		*ret = TAR_BLOCK;
		return 0;
	case '5':
		*ret = TAR_DIR;
		return 0;
	case '6':
		*ret = TAR_FIFO;
		return 0;
	default:
		return err_set(EBADMSG,
			"the tar has an entry of the type 0x%02x, which no layer has", type);
	}
}

/*
 * Checks the magic number. Only the POSIX magic number means that the header has a name prefix, but
 * libarchive reads a prefix in every header.
 */
static int check_magic(const unsigned char *h, bool *ret_gnu)
{
	static const char posix[8] = {'u', 's', 't', 'a', 'r', 0, '0', '0'};
	bool is_posix = memcmp(h + AT_MAGIC, posix, sizeof(posix)) == 0;
	bool star = memcmp(h + AT_STAR_TRAILER, "tar", 4) == 0;

	*ret_gnu = memcmp(h + AT_MAGIC, "ustar  ", 8) == 0;
	if (!is_posix && !*ret_gnu && memcmp(h + AT_MAGIC, "ustar", 5) == 0 && h[AT_PREFIX])
		return err_set(EBADMSG, "a tar header has a prefix and is not POSIX's");
	if (is_posix && star && h[AT_PREFIX + STAR_PREFIX - 1])
		return err_set(
			EBADMSG, "a tar header of star's form has a prefix that is too long");
	return 0;
}

static int take_numbers(const unsigned char *h, struct tar_headers *ret)
{
	int64_t mode = 0, uid = 0, gid = 0, size = 0, major = 0, minor = 0;
	int r = tar_number(h, AT_MODE, 8, "mode", &mode);

	if (r >= 0)
		r = tar_number(h, AT_UID, 8, "uid", &uid);
	if (r >= 0)
		r = tar_number(h, AT_GID, 8, "gid", &gid);
	if (r >= 0)
		r = tar_number(h, AT_SIZE, 12, "size", &size);
	if (r >= 0)
		r = tar_number(h, AT_MTIME, 12, "mtime", &ret->mtime);
	if (r >= 0)
		r = tar_number(h, AT_MAJOR, 8, "major number", &major);
	if (r >= 0)
		r = tar_number(h, AT_MINOR, 8, "minor number", &minor);
	if (r < 0)
		return r;
	if (size < 0 || uid < 0 || gid < 0 || major < 0 || minor < 0 || major > UINT32_MAX ||
		minor > UINT32_MAX)
		return err_set(
			EBADMSG, "a tar header has a negative number, or one that is too large");
	ret->uid = (uint64_t)uid;
	ret->gid = (uint64_t)gid;
	ret->size = (uint64_t)size;
	ret->major = (uint32_t)major;
	ret->minor = (uint32_t)minor;
	return 0;
}

int tar_read_fields(const unsigned char *h, struct tar_headers *ret, bool *ret_gnu)
{
	int r = take_type(h[AT_TYPE], &ret->type);

	if (r >= 0)
		r = take_numbers(h, ret);
	return r < 0 ? r : check_magic(h, ret_gnu);
}
