/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Computes digests with libcrypto. This code is in a file of its own, because `caisson run --image`
 * reads the store without libcrypto.
 */
#include <openssl/evp.h>
#include <stdio.h>

#include "images/oci/digest.h"

int hasher_init(struct hasher *h, enum digest_algorithm algorithm)
{
	if (!h->ctx)
		h->ctx = EVP_MD_CTX_new();
	h->algorithm = algorithm;
	const EVP_MD *md = algorithm == DIGEST_SHA512 ? EVP_sha512() : EVP_sha256();
	if (!h->ctx || EVP_DigestInit_ex(h->ctx, md, NULL) != 1)
		return err_set(ENOMEM, "start a %s digest", digest_algorithm_name(algorithm));
	return 0;
}

int hasher_update(struct hasher *h, const void *data, size_t len)
{
	if (EVP_DigestUpdate(h->ctx, data, len) != 1)
		return err_set(EIO, "continue a %s digest", digest_algorithm_name(h->algorithm));
	return 0;
}

int hasher_final(struct hasher *h, struct digest *ret)
{
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned len;

	if (EVP_DigestFinal_ex(h->ctx, bytes, &len) != 1)
		return err_set(EIO, "end a %s digest", digest_algorithm_name(h->algorithm));
	ret->algorithm = h->algorithm;
	int n = snprintf(ret->text, sizeof(ret->text), "%s:", digest_algorithm_name(h->algorithm));
	for (unsigned i = 0; i < len; i++)
		n += snprintf(ret->text + n, sizeof(ret->text) - (size_t)n, "%02x", bytes[i]);
	return 0;
}

void hasher_release(struct hasher *h)
{
	EVP_MD_CTX_free(h->ctx);
	h->ctx = NULL;
}

int digest_of(enum digest_algorithm algorithm, const void *data, size_t len, struct digest *ret)
{
	_cleanup_hasher_ struct hasher h = {0};
	int r = hasher_init(&h, algorithm);

	if (r >= 0)
		r = hasher_update(&h, data, len);
	return r < 0 ? r : hasher_final(&h, ret);
}
