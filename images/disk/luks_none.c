/* SPDX-License-Identifier: Apache-2.0 */
/* Refuses encrypted images, in a build without libcrypto. */
#include "images/disk/luks.h"

void luks_free(struct luks *l)
{
}

int luks_crypt(struct luks *l, uint64_t sector, uint8_t *buf, size_t len, bool encrypt)
{
	return err_set(
		EOPNOTSUPP, "the disk is encrypted, and caisson was built without libcrypto");
}

int luks_unlock(struct disk *d, uint64_t at, const struct luks_header *h,
	const struct disk_key *passphrase, struct luks **ret)
{
	*ret = NULL;
	return disk_err(d, EOPNOTSUPP,
		"the image is encrypted (LUKS), and caisson was built without libcrypto, which "
		"decrypts: build caisson with OpenSSL");
}

int luks_format(const char *name, const struct luks_create *c, uint8_t **ret, size_t *ret_len)
{
	*ret = NULL;
	return err_set(EOPNOTSUPP,
		"%s: encrypt.format: caisson was built without libcrypto, which encrypts: build "
		"caisson with OpenSSL",
		name);
}
