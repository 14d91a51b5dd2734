/* SPDX-License-Identifier: Apache-2.0 */
/* Lists all disk formats. To add one, see format.h and add a line here. */
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
