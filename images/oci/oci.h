/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents of an image, as C: descriptor, manifest, index (OCI image-spec 1.1, and docker's
 * schema 2, which has the same members under other media types), and the image's configuration.
 *
 * The documents come from strangers. Parsing bounds their bytes, values, depth and counts; a size
 * is a number from 0 to 2^63-1; each digest has a checked form. Everything lives in the caller's
 * arena and is constant once parsed. Labels and annotations are kept as they are: they are data
 * about an image, and nothing in this program may take them for options.
 */
#pragma once
#include "base/json.h"
#include "images/oci/digest.h"

/* Bounds. distribution-spec asks registries for at least 4 MiB of manifest. */
#define OCI_DOCUMENT_MAX (4u << 20) /* bytes of a manifest, an index or a configuration */
#define OCI_VALUES_MAX 200000u      /* JSON values in one document */
#define OCI_INDEX_MAX 20000u        /* manifests of an index */
#define OCI_LAYERS_MAX 500u         /* layers of a manifest: what overlayfs can stack */
#define OCI_STRINGS_MAX 4096u       /* elements of each list of a configuration */

#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_OCI_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define MEDIA_OCI_LAYER_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"
#define MEDIA_OCI_EMPTY "application/vnd.oci.empty.v1+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define MEDIA_DOCKER_LAYER_GZIP "application/vnd.docker.image.rootfs.diff.tar.gzip"

#define ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"

/* NULL members are absent. An image without platform has neither architecture nor os. */
struct platform {
	const char *architecture; /* as Go names it: amd64, arm64, arm */
	const char *os;
	const char *variant; /* v8, v7 */
	const char *os_version;
};

struct descriptor {
	const char *media_type; /* never NULL; "" where the document has none */
	struct digest digest;
	uint64_t size; /* bytes */
	struct platform platform;
	const char *artifact_type;
	const struct json *annotations; /* an object whose members are strings, or NULL */
	const char *ref_name;           /* the annotation ANNOTATION_REF_NAME, or NULL */
};

enum document_kind { DOCUMENT_MANIFEST, DOCUMENT_INDEX };

/* A manifest or an index. */
struct document {
	enum document_kind kind;
	const char *media_type; /* what the document says, else what it was fetched as; else "" */
	const char *artifact_type;
	const struct json *annotations;
	bool has_subject;
	struct descriptor subject;
	/* a manifest's */
	struct descriptor config;
	struct descriptor *layers; /* the lowest first */
	size_t nlayers;
	/* an index's */
	struct descriptor *manifests;
	size_t nmanifests;
};

struct image_history {
	const char *created, *created_by, *author, *comment; /* may be NULL */
	bool empty_layer;
};

struct image_config {
	struct platform platform;
	const char *created, *author;
	/* "config": NULL and 0 where absent; lists end in NULL */
	const char *user, *working_dir, *stop_signal;
	const char **env, **entrypoint, **cmd;
	size_t nenv, nentrypoint, ncmd;
	const char **volumes, **exposed_ports; /* "/data", "80/tcp" */
	size_t nvolumes, nexposed_ports;
	const struct json *labels; /* an object whose members are strings, or NULL */
	/* "rootfs.diff_ids": the digests of the uncompressed layers, the lowest first */
	struct digest *diff_ids;
	size_t ndiff_ids;
	struct image_history *history;
	size_t nhistory;
};

/*
 * Parse a document of len bytes. `what` names it in messages. media_type is what it was fetched as
 * (a descriptor's, or Content-Type without parameters), or NULL. -EINVAL: the document breaks a
 * rule or a bound, or says another media type of itself than it was fetched as. Schema 1 of docker
 * is refused by name.
 */
int document_parse(struct arena *a, const struct strbuf *text, const char *what,
	const char *media_type, struct document *ret) must_check;
int image_config_parse(struct arena *a, const struct strbuf *text, const char *what,
	struct image_config *ret) must_check;

/*
 * Whether media_type is that of an index, of a manifest, of a layer that this program can unpack.
 */
bool media_type_is_index(const char *media_type);
bool media_type_is_manifest(const char *media_type);
bool media_type_is_layer(const char *media_type);

/* Writes a descriptor, as a member of that key, with all that a parsed one has. */
void descriptor_write(struct json_out *o, const char *key, const struct descriptor *d);

/* Parses "os/arch[/variant]", "arch" or "" (the host's). The texts live in the arena. */
int platform_parse(struct arena *a, const char *text, struct platform *ret) must_check;
/* The platform of this machine. */
struct platform platform_host(void);

/*
 * Chooses the manifest of an index for a platform: the exact variant, else the nearest lower one
 * that the processor runs too (arm v7 runs v6 and v5; arm64 without a variant is v8; amd64 v3 runs
 * v2 and v1). Among equals the first wins, as in other tools. -ENOENT: none is for that platform;
 * the message lists those that are there.
 */
int index_choose(const struct document *index, const struct platform *wanted,
	const struct descriptor **ret) must_check;
