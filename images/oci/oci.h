/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines the documents of an image as C structures, and parses them: descriptor, manifest, index
 * (OCI image-spec 1.1, and docker's schema 2, which has the same members under other media types),
 * and the image's configuration.
 *
 * The documents are not trusted. The parser limits their bytes, values, depth and counts; a size
 * must be from 0 to 2^63-1, and each digest must have the right form. Everything lives in the
 * caller's arena and does not change after parsing. Labels and annotations are kept unchanged,
 * because they only describe an image; this program never uses them as options.
 */
#pragma once
#include "base/json.h"
#include "images/oci/digest.h"

/*
 * Limits of documents. The OCI distribution-spec asks registries to accept manifests of at least 4
 * MiB.
 */
#define OCI_DOCUMENT_MAX (4u << 20) /* largest manifest, index or configuration in bytes */
#define OCI_VALUES_MAX 200000u      /* largest number of JSON values in one document */
#define OCI_INDEX_MAX 20000u        /* largest number of manifests in an index */
/* largest number of layers in a manifest, because overlayfs cannot stack more */
#define OCI_LAYERS_MAX 500u
#define OCI_STRINGS_MAX 4096u /* largest number of elements in each list of a configuration */

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

/*
 * A platform in a descriptor. Members that are absent are NULL. If the descriptor names no
 * platform, architecture and os are NULL.
 */
struct platform {
	const char *architecture; /* Go's name of the architecture, such as amd64, arm64 or arm */
	const char *os;
	const char *variant; /* variant of the architecture, such as v8 or v7 */
	const char *os_version;
};

struct descriptor {
	const char *media_type; /* media type; "" if the document gives none; never NULL */
	struct digest digest;
	uint64_t size; /* size of the blob in bytes */
	struct platform platform;
	const char *artifact_type;
	const struct json *annotations; /* JSON object whose members are all strings, or NULL */
	const char *ref_name;           /* value of the annotation ANNOTATION_REF_NAME, or NULL */
};

enum document_kind { DOCUMENT_MANIFEST, DOCUMENT_INDEX };

/* A parsed manifest or a parsed index of an image. */
struct document {
	enum document_kind kind;
	/*
	 * media type that the document states; otherwise the media type with which the document was
	 * fetched, or ""
	 */
	const char *media_type;
	const char *artifact_type;
	const struct json *annotations;
	bool has_subject;
	struct descriptor subject;
	/* configuration of the image; only a manifest has one */
	struct descriptor config;
	struct descriptor *layers; /* layers of the image, the lowest first */
	size_t nlayers;
	/* manifests of an index; only an index has them */
	struct descriptor *manifests;
	size_t nmanifests;
};

struct image_history {
	/* texts about the image; each may be NULL */
	const char *created, *created_by, *author, *comment;
	bool empty_layer;
};

struct image_config {
	struct platform platform;
	const char *created, *author;
	/*
	 * The members of the configuration's object "config". Texts that are absent are NULL, and
	 * absent lists have the length 0. Lists end in NULL.
	 */
	const char *user, *working_dir, *stop_signal;
	const char **env, **entrypoint, **cmd;
	size_t nenv, nentrypoint, ncmd;
	/* volumes such as "/data", and ports such as "80/tcp" */
	const char **volumes, **exposed_ports;
	size_t nvolumes, nexposed_ports;
	const struct json *labels; /* JSON object whose members are all strings, or NULL */
	/* digests of the uncompressed layers ("rootfs.diff_ids"), the lowest first */
	struct digest *diff_ids;
	size_t ndiff_ids;
	struct image_history *history;
	size_t nhistory;
};

/*
 * Parse a document from its text. `what` is the document's name in error messages. media_type is
 * the type with which the document was fetched (from its descriptor, or Content-Type without
 * parameters), or NULL. The functions return -EINVAL if the document breaks a rule or a limit, or
 * if it states another media type than media_type. Documents of docker's old schema 1 are refused
 * too.
 */
int document_parse(struct arena *a, const struct strbuf *text, const char *what,
	const char *media_type, struct document *ret) must_check;
int image_config_parse(struct arena *a, const struct strbuf *text, const char *what,
	struct image_config *ret) must_check;

/*
 * Return whether media_type is the type of an index, of a manifest, or of a layer that this program
 * can unpack.
 */
bool media_type_is_index(const char *media_type);
bool media_type_is_manifest(const char *media_type);
bool media_type_is_layer(const char *media_type);

/*
 * Writes the descriptor *d, with all its members, as the member `key` of the present JSON object.
 */
void descriptor_write(struct json_out *o, const char *key, const struct descriptor *d);

/*
 * Writes an index: the manifests of `index` (NULL: none) except those whose ref_name is `without`
 * (NULL: no exception), followed by `added` (NULL: nothing).
 */
void index_write(struct json_out *o, const struct document *index, const char *without,
	const struct descriptor *added);

/*
 * Parses "os/arch[/variant]", "arch", or "" for the host's platform. The texts live in the arena.
 */
int platform_parse(struct arena *a, const char *text, struct platform *ret) must_check;
/* Returns the platform of this machine. */
struct platform platform_host(void);

/*
 * Chooses the manifest of an index for a platform: the one with the same variant, otherwise the one
 * with the nearest lower variant, which the processor can run too (arm v7 runs v6 and v5; arm64
 * without a variant is v8; amd64 v3 runs v2 and v1). Among equal manifests the first is chosen, as
 * in other tools. Returns -ENOENT if no manifest is for that platform, with a message that lists
 * the platforms of the index.
 */
int index_choose(const struct document *index, const struct platform *wanted,
	const struct descriptor **ret) must_check;
