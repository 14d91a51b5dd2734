/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/digest.h"

#include <openssl/evp.h>
#include <stdio.h>

static const struct {
	const char *name;
	size_t hex;
} algorithms[] = {
	[DIGEST_SHA256] = {"sha256", 64},
	[DIGEST_SHA512] = {"sha512", 128},
};

const char *digest_algorithm_name(enum digest_algorithm algorithm)
{
	return algorithms[algorithm].name;
}

int digest_parse(const char *text, const char *what, struct digest *ret)
{
	char quoted[160];

	str_quote_end(quoted, sizeof(quoted), text, strlen(text));
	const char *colon = strchr(text, ':');
	for (size_t i = 0; colon && i < ARRAY_SIZE(algorithms); i++) {
		if (strlen(algorithms[i].name) != (size_t)(colon - text) ||
			!str_starts(text, algorithms[i].name))
			continue;
		if (strlen(colon + 1) != algorithms[i].hex ||
			strspn(colon + 1, "0123456789abcdef") != algorithms[i].hex)
			return err_set(EINVAL,
				"%s: \"%s\": expected %zu lower-case hexadecimal digits behind %s:",
				what, quoted, algorithms[i].hex, algorithms[i].name);
		ret->algorithm = (enum digest_algorithm)i;
		memcpy(ret->text, text, strlen(text) + 1);
		return 0;
	}
	return err_set(EINVAL, "%s: \"%s\" is not a digest: expected sha256:HEX or sha512:HEX",
		what, quoted);
}

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
