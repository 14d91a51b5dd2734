/* SPDX-License-Identifier: Apache-2.0 */
#include "image/registry_commands.h"

const struct image_command image_registry_commands[] = {
	{"pull", "[options] NAME", "Fetch an image from a registry.",
		"NAME is docker's: debian:12, quay.io/a/b:tag, localhost:5000/a@sha256:....\n"
		"registries.conf says what short names mean. Prints the image's full name.\n\n"
		"  caisson image pull docker.io/library/debian:12",
		NULL},
	{"push", "[options] IMAGE [NAME]", "Send an image of the store to a registry.",
		"NAME says where it goes (default: IMAGE's own name).\n\n"
		"  caisson image push debian:12 localhost:5000/debian:12",
		NULL},
	{"referrers", "[options] NAME",
		"List what refers to an image in a registry: signatures, SBOMs.", NULL, NULL},
	{"fetch", "[options] SOURCE", "Fetch one file by HTTP, or out of an artifact.",
		"SOURCE is a URL, with @sha256:HEX behind it if the file is known, or\n"
		"oci://NAME#FILE: a file in an artifact of a registry, such as ORAS makes. The\n"
		"store keeps the file. Prints its path. `caisson run --kernel` takes the same.\n\n"
		"  caisson image fetch https://boot.example.com/vmlinuz@sha256:...",
		NULL},
	{"login", "[options] REGISTRY", "Keep a user and a password for a registry.",
		"They are checked first, and go to the file of podman and docker, or to its\n"
		"credential helper.\n\n"
		"  echo \"$TOKEN\" | caisson image login -u alice --password-stdin quay.io",
		NULL},
	{"logout", "[options] REGISTRY", "Forget them.", NULL, NULL},
	{0},
};
