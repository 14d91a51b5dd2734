/* SPDX-License-Identifier: Apache-2.0 */
/* Declares the choices for a new encrypted image. images/disk/luks.h describes the format, LUKS. */
#pragma once
#include "images/disk/disk.h"

enum luks_mode { LUKS_XTS_PLAIN64, LUKS_CBC_PLAIN64, LUKS_CBC_ESSIV };
enum luks_hash { LUKS_SHA256, LUKS_SHA1, LUKS_SHA512 };

/* What the user chooses for the LUKS header of a new image. */
struct luks_create {
	enum luks_mode mode;
	enum luks_hash hash;
	uint32_t key_bytes;
	/*
	 * how long a try of a passphrase takes on this processor, in milliseconds; 0: as short as
	 * possible, for a passphrase that nobody can guess
	 */
	uint32_t milliseconds;
	const struct disk_key *key; /* the passphrase that is to open the new image */
};
