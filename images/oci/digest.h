/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests (image-spec, descriptor.md): "sha256:" and 64 lower-case hexadecimal digits, or "sha512:"
 * and 128 of them. A struct digest holds a text whose form was checked, so that it may become the
 * name of a file. No other form is accepted.
 */
#pragma once
#include <stdint.h>

#include "base/str.h"

#define DIGEST_HEX_MAX 128
#define DIGEST_TEXT_SIZE (sizeof("sha512:") + DIGEST_HEX_MAX)

enum digest_algorithm { DIGEST_SHA256, DIGEST_SHA512 };

struct digest {
	enum digest_algorithm algorithm;
	char text[DIGEST_TEXT_SIZE]; /* "sha256:9f86..."; "" is no digest */
};

/*
 * Checks the form of text. `what` names the field in the message ("layers[2].digest"). -EINVAL: the
 * text is no digest, or of an algorithm that is not one of the two.
 */
int digest_parse(const char *text, const char *what, struct digest *ret) must_check;

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return streq(a->text, b->text);
}

/* "sha256", "sha512" */
const char *digest_algorithm_name(enum digest_algorithm algorithm);

/* The digits behind the colon. */
static inline const char *digest_hex(const struct digest *d)
{
	return d->text + sizeof("sha256:") - 1;
}

/* Computes the digest of a stream. Initialise it with {0}; release it with hasher_release(). */
struct hasher {
	void *ctx; /* EVP_MD_CTX */
	enum digest_algorithm algorithm;
};

int hasher_init(struct hasher *h, enum digest_algorithm algorithm) must_check;
int hasher_update(struct hasher *h, const void *data, size_t len) must_check;
/* The digest of all that was given. The hasher needs hasher_init() before it is used again. */
int hasher_final(struct hasher *h, struct digest *ret) must_check;
void hasher_release(struct hasher *h);
#define _cleanup_hasher_ __attribute__((cleanup(hasher_release), unused))

/* The digest of len bytes. */
int digest_of(enum digest_algorithm algorithm, const void *data, size_t len, struct digest *ret)
	must_check;
