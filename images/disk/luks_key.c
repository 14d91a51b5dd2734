/* SPDX-License-Identifier: Apache-2.0 */
/* Opens key slots, and makes the slot of a new header, with the hashes of libcrypto. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include "base/clock.h"
#include "images/disk/luks.h"

#define SLOT_AT 4096 /* offset of the first key slot's data behind the header's start */
/* the smallest number of PBKDF2 iterations that cryptsetup and QEMU write */
#define ITERATIONS_MIN 1000
#define TRY 10000 /* PBKDF2 iterations with which the measurement of this processor begins */
/* the shortest time, in nanoseconds, that a measurement of this processor may take */
#define TRY_NS (50 * 1000 * 1000)

/* Buffers that are wiped before they are freed. */
struct secret {
	uint8_t *bytes;
	size_t len;
};

static void secret_release(struct secret *s)
{
	OPENSSL_clear_free(s->bytes, s->len);
}
#define _cleanup_secret_ __attribute__((cleanup(secret_release), unused))

static int secret_new(struct secret *ret, size_t len)
{
	*ret = (struct secret){OPENSSL_zalloc(len), len};
	return ret->bytes ? 0 : err_set(ENOMEM, "no memory");
}

static int no_hash(void)
{
	return err_set(EIO, "libcrypto does not do what it is asked for: found an error of its SHA "
			    "code");
}

static const EVP_MD *hash_of(enum luks_hash h)
{
	return h == LUKS_SHA1 ? EVP_sha1() : h == LUKS_SHA512 ? EVP_sha512() : EVP_sha256();
}

/* What PBKDF2 computes from: a passphrase or a key, with a salt. */
struct derive {
	enum luks_hash hash;
	const uint8_t *from;
	size_t len;
	const uint8_t *salt;
	uint32_t iterations;
};

static int derive(const struct derive *v, uint8_t *out, size_t out_len)
{
	return PKCS5_PBKDF2_HMAC((const char *)v->from, (int)v->len, v->salt, LUKS_SALT,
		       (int)v->iterations, hash_of(v->hash), (int)out_len, out) == 1
		       ? 0
		       : no_hash();
}

/*
 * Replaces the bytes at `block` by hashes of its pieces, a step of LUKS's anti-forensic splitting.
 * Each piece is hashed together with its number.
 */
static int diffuse(enum luks_hash hash, uint8_t *block, size_t len)
{
	const EVP_MD *md = hash_of(hash);
	size_t size = (size_t)EVP_MD_get_size(md);
	uint8_t in[4 + EVP_MAX_MD_SIZE], out[EVP_MAX_MD_SIZE];
	bool ok = true;

	for (size_t at = 0, i = 0; at < len && ok; at += size, i++) {
		size_t here = len - at < size ? len - at : size;

		put_be32(in, (uint32_t)i);
		memcpy(in + 4, block + at, here);
		ok = EVP_Digest(in, 4 + here, out, NULL, md, NULL) == 1;
		memcpy(block + at, out, here);
	}
	OPENSSL_cleanse(in, sizeof(in));
	OPENSSL_cleanse(out, sizeof(out));
	return ok ? 0 : no_hash();
}

static void xor_block(uint8_t *a, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		a[i] ^= b[i];
}

/*
 * Computes *block from all stripes of a key except the last one. The XOR of *block and the last
 * stripe is the key.
 */
static int mix(enum luks_hash hash, const uint8_t *stripes, size_t len, uint8_t *block)
{
	int r = 0;

	memset(block, 0, len);
	for (size_t i = 0; i + 1 < LUKS_STRIPES && r >= 0; i++) {
		xor_block(block, stripes + i * len, len);
		r = diffuse(hash, block, len);
	}
	return r;
}

/* Returns 1 if the digest in the header is that of this master key. */
static int is_master_key(const struct luks_header *h, const uint8_t *key)
{
	uint8_t digest[LUKS_DIGEST];
	const struct derive v = {h->hash, key, h->key_bytes, h->digest_salt, h->digest_iterations};

	int r = derive(&v, digest, sizeof(digest));
	return r < 0 ? r : CRYPTO_memcmp(digest, h->digest, sizeof(digest)) == 0;
}

/* Encrypts or decrypts a slot's data with the key that PBKDF2 makes of the passphrase. */
static int crypt_slot(const struct luks_header *h, const struct luks_slot *s,
	const struct disk_key *passphrase, struct secret *data, bool encrypt)
{
	uint8_t key[LUKS_KEY_MAX];
	struct luks *l = NULL;
	const struct derive v = {
		h->hash, passphrase->bytes, passphrase->len, s->salt, s->iterations};

	int r = derive(&v, key, h->key_bytes);
	if (r >= 0)
		r = luks_new(h, key, &l);
	if (r >= 0)
		r = luks_crypt(l, 0, data->bytes, data->len, encrypt);
	luks_free(l);
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

/*
 * Tries the passphrase with one key slot. Returns 1 and the master key in `key` if the passphrase
 * opens the slot.
 */
static int try_slot(struct disk *d, uint64_t at, const struct luks_header *h, unsigned i,
	const struct disk_key *passphrase, uint8_t *key)
{
	const struct luks_slot *s = &h->slots[i];
	size_t len = (size_t)h->key_bytes * LUKS_STRIPES;
	_cleanup_secret_ struct secret data = {0};

	int r = secret_new(&data, len);
	if (r >= 0)
		r = disk_read_meta(d, data.bytes, len, at + (uint64_t)s->offset * LUKS_SECTOR,
			"data of a LUKS key slot");
	if (r >= 0)
		r = crypt_slot(h, s, passphrase, &data, false);
	if (r >= 0)
		r = mix(h->hash, data.bytes, h->key_bytes, key);
	if (r < 0)
		return r;
	xor_block(key, data.bytes + (LUKS_STRIPES - 1) * (size_t)h->key_bytes, h->key_bytes);
	return is_master_key(h, key);
}

int luks_unlock(struct disk *d, uint64_t at, const struct luks_header *h,
	const struct disk_key *passphrase, struct luks **ret)
{
	uint8_t key[LUKS_KEY_MAX] = {0};
	int r = 0;

	*ret = NULL;
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	for (unsigned i = 0; i < LUKS_SLOTS && r == 0; i++)
		if (h->slots[i].active)
			r = try_slot(d, at, h, i, passphrase, key);
	if (r == 0)
		r = disk_err(d, EACCES,
			"the key opens none of the image's LUKS key slots: found a file of %zu "
			"bytes, expected exactly the passphrase, without a line end unless it has "
			"one",
			passphrase->len);
	else if (r > 0)
		r = luks_new(h, key, ret);
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

static int random_bytes(uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = getrandom(buf, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("get random numbers");
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static uint64_t thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/*
 * Sets *ret to the number of iterations with which PBKDF2 takes c->milliseconds on this processor.
 */
static int calibrate(const struct luks_create *c, uint32_t *ret)
{
	*ret = ITERATIONS_MIN;
	if (c->milliseconds == 0)
		return 0;

	uint8_t out[LUKS_KEY_MAX], salt[LUKS_SALT] = {0};
	struct derive v = {c->hash, c->key->bytes, c->key->len, salt, TRY};
	uint64_t ns = 0, n;
	int r = 0;

	while (r >= 0 && ns < TRY_NS && v.iterations < LUKS_ITERATIONS_MAX / 2) {
		uint64_t before = thread_ns();

		v.iterations *= 2;
		r = derive(&v, out, c->key_bytes);
		ns = thread_ns() - before;
	}
	OPENSSL_cleanse(out, sizeof(out));
	n = (uint64_t)((double)v.iterations / (double)(ns ? ns : 1) * 1e6 * c->milliseconds);
	n = n > LUKS_ITERATIONS_MAX ? LUKS_ITERATIONS_MAX : n;
	*ret = n < ITERATIONS_MIN ? ITERATIONS_MIN : (uint32_t)n;
	return r;
}

/*
 * Refuses a passphrase that is empty or not UTF-8 text, because QEMU takes only UTF-8 without NUL
 * and could never open the image.
 */
static int check_passphrase(const char *name, const struct disk_key *key)
{
	uint32_t c = 0;

	for (size_t at = 0; at < key->len;) {
		at += str_utf8((const char *)key->bytes + at, key->len - at, &c);
		if (c == 0 || c == STR_NO_UTF8)
			return err_set(EINVAL,
				"%s: the key: found a byte near %zu that is not UTF-8 text, "
				"expected UTF-8 without NUL, because QEMU takes no other key",
				name, at);
	}
	return key->len ? 0 : err_set(EINVAL, "%s: the key: found none in the file", name);
}

static int fill_header(const struct luks_create *c, const uint8_t *key, struct luks_header *h)
{
	uint8_t id[16];
	struct luks_slot *first = &h->slots[0];
	struct derive v = {c->hash, key, c->key_bytes, h->digest_salt, 0};

	h->mode = c->mode;
	h->hash = c->hash;
	h->key_bytes = c->key_bytes;
	h->payload = (uint32_t)(luks_header_length(c->key_bytes) / LUKS_SECTOR);
	for (uint32_t i = 0; i < LUKS_SLOTS; i++) {
		h->slots[i].stripes = LUKS_STRIPES;
		h->slots[i].offset = SLOT_AT / LUKS_SECTOR + i * luks_slot_sectors(c->key_bytes);
	}
	first->active = true;
	int r = random_bytes(id, sizeof(id));
	if (r >= 0)
		r = random_bytes(h->digest_salt, LUKS_SALT);
	if (r >= 0)
		r = random_bytes(first->salt, LUKS_SALT);
	if (r >= 0)
		r = calibrate(c, &first->iterations);
	/* The bits that are set here mark the UUID as a random one (version 4). */
	snprintf(h->uuid, sizeof(h->uuid), "%08x-%04x-%04x-%04x-%08x%04x", be32(id), be16(id + 4),
		(be16(id + 6) & 0x0fffu) | 0x4000u, (be16(id + 8) & 0x3fffu) | 0x8000u,
		be32(id + 10), be16(id + 14));
	/*
	 * The master key's digest gets an eighth of the key slot's iterations, as in cryptsetup and
	 * QEMU, because the digest is made from a random key, which nobody can guess, and not from
	 * a passphrase.
	 */
	v.iterations = first->iterations / 8;
	if (v.iterations < ITERATIONS_MIN)
		v.iterations = ITERATIONS_MIN;
	h->digest_iterations = v.iterations;
	return r < 0 ? r : derive(&v, h->digest, LUKS_DIGEST);
}

/*
 * Splits the key into stripes, of which all but the last one are random. The last stripe is chosen
 * so that all stripes together give the key.
 */
static int split(const struct luks_header *h, const uint8_t *key, struct secret *stripes)
{
	uint8_t *last = stripes->bytes + (LUKS_STRIPES - 1) * (size_t)h->key_bytes;

	int r = random_bytes(stripes->bytes, stripes->len);
	if (r >= 0)
		r = mix(h->hash, stripes->bytes, h->key_bytes, last);
	xor_block(last, key, h->key_bytes);
	return r;
}

int luks_format(const char *name, const struct luks_create *c, uint8_t **ret, size_t *ret_len)
{
	struct luks_header h = {0};
	_cleanup_secret_ struct secret key = {0}, stripes = {0};

	*ret = NULL;
	int r = check_passphrase(name, c->key);
	if (r < 0)
		return r;
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	r = secret_new(&key, c->key_bytes);
	if (r >= 0)
		r = secret_new(&stripes, (size_t)c->key_bytes * LUKS_STRIPES);
	if (r >= 0)
		r = random_bytes(key.bytes, key.len);
	if (r >= 0)
		r = fill_header(c, key.bytes, &h);
	if (r >= 0)
		r = split(&h, key.bytes, &stripes);
	if (r >= 0)
		r = crypt_slot(&h, &h.slots[0], c->key, &stripes, true);
	if (r < 0)
		return err_ctx(r, "%s", name);
	*ret_len = SLOT_AT + stripes.len;
	*ret = calloc(1, *ret_len);
	if (!*ret)
		return err_set(ENOMEM, "%s: no memory", name);
	luks_header_format(&h, *ret);
	memcpy(*ret + SLOT_AT, stripes.bytes, stripes.len);
	return 0;
}
