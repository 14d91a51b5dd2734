/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists all disk formats. format.h says what a format consists of; a new format gets a line in the
 * table here.
 */
#include "images/disk/formats.h"

static const struct disk_format *const formats[] = {
	&format_raw,
	&format_qcow2,
	&format_vdi,
	&format_vmdk,
	&format_vpc,
	&format_vhdx,
};

const struct disk_format *disk_format_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (streq(formats[i]->name, name))
			return formats[i];
	return NULL;
}

const char *disk_format_names(size_t i)
{
	return i < ARRAY_SIZE(formats) ? formats[i]->name : NULL;
}
