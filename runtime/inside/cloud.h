/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files from which cloud-init configures a machine (NoCloud): user-data, meta-data, vendor-data
 * and network-config. cloud-init ignores or misreads what is wrong in them without a word, so they
 * are checked before a machine boots.
 */
#pragma once
#include "base/arena.h"

#define CLOUD_USER_DATA "user-data"
#define CLOUD_META_DATA "meta-data"
#define CLOUD_VENDOR_DATA "vendor-data"
#define CLOUD_NETWORK_CONFIG "network-config"

/* What the files are made from. NULL: the option was not given. */
struct cloud {
	const char *user_data;      /* path given by --cloud-init */
	const char *vendor_data;    /* path given by --vendor-data */
	const char *network_config; /* path given by --network-config */
	const char *ssh_key;        /* path of the public key given by --ssh-key */
	const char *hostname;
	const char *id; /* the machine's name, of which instance-id is made */
};

/* Checks all files, and writes what the seed is to have into the directory. */
int cloud_write(const struct cloud *c, int dir) must_check;
