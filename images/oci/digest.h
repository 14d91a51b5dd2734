/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks and computes digests (image-spec, descriptor.md): "sha256:" and 64 lower-case hexadecimal
 * digits, or "sha512:" and 128 of them. No other form is accepted. The text in a struct digest
 * always has this form, so it is safe as the name of a file.
 */
#pragma once
#include <stdint.h>

#include "base/str.h"

#define DIGEST_HEX_MAX 128
#define DIGEST_TEXT_SIZE (sizeof("sha512:") + DIGEST_HEX_MAX)

enum digest_algorithm { DIGEST_SHA256, DIGEST_SHA512 };

struct digest {
	enum digest_algorithm algorithm;
	char text[DIGEST_TEXT_SIZE]; /* the whole text, such as "sha256:9f86..."; "": no digest */
};

/*
 * Checks that `text` is a digest and copies it to *ret. `what` is the name of the field, such as
 * "layers[2].digest", which error messages use. Returns -EINVAL if the text is no digest or has
 * another algorithm than sha256 and sha512.
 */
int digest_parse(const char *text, const char *what, struct digest *ret) must_check;

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return streq(a->text, b->text);
}

/* Returns "sha256" or "sha512". */
const char *digest_algorithm_name(enum digest_algorithm algorithm);

/* Returns the hexadecimal digits behind the colon. */
static inline const char *digest_hex(const struct digest *d)
{
	return d->text + sizeof("sha256:") - 1;
}

/* Computes the digest of a stream. {0} initialises the structure; hasher_release() releases it. */
struct hasher {
	void *ctx; /* an EVP_MD_CTX of OpenSSL */
	enum digest_algorithm algorithm;
};

int hasher_init(struct hasher *h, enum digest_algorithm algorithm) must_check;
int hasher_update(struct hasher *h, const void *data, size_t len) must_check;
/*
 * Sets *ret to the digest of all bytes that the hasher got. The hasher can be used for another
 * stream after hasher_init().
 */
int hasher_final(struct hasher *h, struct digest *ret) must_check;
void hasher_release(struct hasher *h);
#define _cleanup_hasher_ __attribute__((cleanup(hasher_release), unused))

/* Sets *ret to the digest of the `len` bytes at `data`. */
int digest_of(enum digest_algorithm algorithm, const void *data, size_t len, struct digest *ret)
	must_check;
