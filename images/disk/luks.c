/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encrypts and decrypts sectors with AES by libcrypto. A context of libcrypto serves one thread at
 * a time, so contexts that no thread uses wait in a list.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>

#include "images/disk/luks.h"

#define IV 16

struct context {
	struct context *next;
	EVP_CIPHER_CTX *encrypt, *decrypt;
	/*
	 * turns a sector's number into its initialization vector by encryption; NULL: the number
	 * itself is the vector
	 */
	EVP_CIPHER_CTX *iv;
};

struct luks {
	enum luks_mode mode;
	uint32_t key_bytes;
	uint8_t key[LUKS_KEY_MAX], iv_key[EVP_MAX_MD_SIZE];
	pthread_mutex_t lock;
	struct context *unused;
};

static int no_cipher(void)
{
	return err_set(EIO, "libcrypto does not do what it is asked for: found an error of its AES "
			    "or SHA code");
}

static const EVP_CIPHER *cipher_of(const struct luks *l)
{
	if (l->mode == LUKS_XTS_PLAIN64)
		return l->key_bytes == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts();
	return l->key_bytes == 32 ? EVP_aes_256_cbc() : EVP_aes_128_cbc();
}

static EVP_CIPHER_CTX *cipher_new(const EVP_CIPHER *cipher, const uint8_t *key, int encrypt)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

	if (!c || EVP_CipherInit_ex(c, cipher, NULL, key, NULL, encrypt) != 1 ||
		EVP_CIPHER_CTX_set_padding(c, 0) != 1) {
		EVP_CIPHER_CTX_free(c);
		return NULL;
	}
	return c;
}

static void context_free(struct context *c)
{
	EVP_CIPHER_CTX_free(c->encrypt);
	EVP_CIPHER_CTX_free(c->decrypt);
	EVP_CIPHER_CTX_free(c->iv);
	free(c);
}

static struct context *context_new(const struct luks *l)
{
	struct context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->encrypt = cipher_new(cipher_of(l), l->key, 1);
	c->decrypt = cipher_new(cipher_of(l), l->key, 0);
	if (l->mode == LUKS_CBC_ESSIV)
		c->iv = cipher_new(EVP_aes_256_ecb(), l->iv_key, 1);
	if (c->encrypt && c->decrypt && (c->iv || l->mode != LUKS_CBC_ESSIV))
		return c;
	context_free(c);
	return NULL;
}

static struct context *context_take(struct luks *l)
{
	pthread_mutex_lock(&l->lock);
	struct context *c = l->unused;
	if (c)
		l->unused = c->next;
	pthread_mutex_unlock(&l->lock);
	return c ? c : context_new(l);
}

static void context_give(struct luks *l, struct context *c)
{
	pthread_mutex_lock(&l->lock);
	c->next = l->unused;
	l->unused = c;
	pthread_mutex_unlock(&l->lock);
}

int luks_new(const struct luks_header *h, const uint8_t *key, struct luks **ret)
{
	/* libcrypto is told to read no configuration file, because such a file can load code. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	struct luks *l = calloc(1, sizeof(*l));

	*ret = l;
	if (!l || pthread_mutex_init(&l->lock, NULL)) {
		free(l);
		*ret = NULL;
		return err_set(ENOMEM, "no memory");
	}
	l->mode = h->mode;
	l->key_bytes = h->key_bytes;
	memcpy(l->key, key, h->key_bytes);
	bool ok = h->mode != LUKS_CBC_ESSIV ||
		  EVP_Digest(key, h->key_bytes, l->iv_key, NULL, EVP_sha256(), NULL) == 1;
	/*
	 * The first context is made here, because making it lets libcrypto load its ciphers, and a
	 * process that has entered its jail by the time of the first read could not load them.
	 */
	struct context *first = ok ? context_new(l) : NULL;
	if (first) {
		context_give(l, first);
		return 0;
	}
	luks_free(l);
	*ret = NULL;
	return no_cipher();
}

void luks_free(struct luks *l)
{
	if (!l)
		return;
	while (l->unused) {
		struct context *c = l->unused;

		l->unused = c->next;
		context_free(c);
	}
	pthread_mutex_destroy(&l->lock);
	OPENSSL_cleanse(l, sizeof(*l));
	free(l);
}

/* Computes the initialization vector of a sector. */
static bool make_iv(struct context *c, uint64_t sector, uint8_t iv[IV])
{
	int n;

	memset(iv, 0, IV);
	for (unsigned i = 0; i < 8; i++)
		iv[i] = (uint8_t)(sector >> 8 * i);
	return !c->iv || (EVP_CipherUpdate(c->iv, iv, &n, iv, IV) == 1 && n == IV);
}

int luks_crypt(struct luks *l, uint64_t sector, uint8_t *buf, size_t len, bool encrypt)
{
	struct context *c = context_take(l);
	uint8_t iv[IV];
	bool ok = c && len % LUKS_SECTOR == 0;
	int n;

	for (size_t at = 0; at < len && ok; at += LUKS_SECTOR, sector++) {
		EVP_CIPHER_CTX *x = encrypt ? c->encrypt : c->decrypt;

		ok = make_iv(c, sector, iv) &&
		     EVP_CipherInit_ex(x, NULL, NULL, NULL, iv, -1) == 1 &&
		     EVP_CipherUpdate(x, buf + at, &n, buf + at, LUKS_SECTOR) == 1 &&
		     n == LUKS_SECTOR;
	}
	if (c)
		context_give(l, c);
	return ok ? 0 : no_cipher();
}
