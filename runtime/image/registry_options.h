/* SPDX-License-Identifier: Apache-2.0 */
/* Declares the options that all subcommands share that speak with registries. */
#pragma once
#include "image/registry_commands.h"
#include "images/oci/registry.h"

struct registry_arguments {
	const char *auth_file, *cert_dir, *credentials;
	bool insecure;
	struct option_list realms;
	struct credentials parsed;
};

/* The rows of a subcommand's table of options for what `r`, a struct registry_arguments, holds. */
#define REGISTRY_OPTIONS(r) \
	{"authfile", 0, OPTION_STRING, &(r)->auth_file, "FILE", \
		"credentials (default: podman's and docker's files)"}, \
		{"cert-dir", 0, OPTION_STRING, &(r)->cert_dir, "DIR", \
			"CAs and client certificates (default: certs.d of podman and docker)"}, \
		{"creds", 0, OPTION_STRING, &(r)->credentials, "USER:PASSWORD", \
			"use these, and no file's"}, \
		{"insecure", 0, OPTION_FLAG, &(r)->insecure, NULL, \
			"allow plain HTTP and certificates that nobody vouches for"}, \
	{ \
		"trust-realm", 0, OPTION_LIST, &(r)->realms, "URL", \
			"a token server elsewhere that may see the credentials" \
	}

int registry_options_take(
	struct registry_arguments *args, struct arena *a, struct registry_options *ret) must_check;
