/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files from which cloud-init configures a machine (NoCloud): user-data, meta-data, vendor-data
 * and network-config. cloud-init reports no error in these files but ignores or misreads the wrong
 * parts, so caisson checks the files before it boots a machine.
 */
#pragma once
#include "base/arena.h"

#define CLOUD_USER_DATA "user-data"
#define CLOUD_META_DATA "meta-data"
#define CLOUD_VENDOR_DATA "vendor-data"
#define CLOUD_NETWORK_CONFIG "network-config"

/* The options from which the files are made. NULL: the option was not given. */
struct cloud {
	const char *user_data;      /* path given by --cloud-init */
	const char *vendor_data;    /* path given by --vendor-data */
	const char *network_config; /* path given by --network-config */
	const char *ssh_key;        /* path of the public key given by --ssh-key */
	const char *hostname;
	const char *id; /* name of the machine, which becomes the instance-id */
};

/*
 * Checks the files that the options name, and writes the files of the seed into the directory
 * `dir`.
 */
int cloud_write(const struct cloud *c, int dir) must_check;
