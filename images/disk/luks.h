/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes data that is encrypted by LUKS version 1, as cryptsetup defines the header and
 * QEMU uses it in qcow2 images.
 *
 * The header has eight key slots. A slot holds the master key, encrypted with a key that PBKDF2
 * derives from a passphrase. Before that the master key is split into many stripes (anti-forensic
 * splitting), so that overwriting a part of the slot destroys the key. The data is encrypted with
 * the master key in sectors of 512 bytes, each with an initialization vector that follows from the
 * sector's number.
 *
 * The header is not trusted: luks_header_read() checks each of its numbers. Only luks.c and
 * luks_key.c use libcrypto. Without that library luks_none.c takes their place, and refuses.
 */
#pragma once
#include "images/disk/format.h"
#include "images/disk/luks_create.h"

#define LUKS_SECTOR 512
#define LUKS_SLOTS 8
#define LUKS_HEADER 592 /* size of the header in bytes, without the key slots' data */
#define LUKS_STRIPES 4000
#define LUKS_DIGEST 20
#define LUKS_SALT 32
#define LUKS_KEY_MAX 64 /* size of the largest master key in bytes */
#define LUKS_MODES 3
#define LUKS_HASHES 3
/*
 * largest number of PBKDF2 iterations that is accepted; it bounds for how long a hostile header can
 * keep a processor busy
 */
#define LUKS_ITERATIONS_MAX (1u << 26)

struct luks_slot {
	bool active;
	uint32_t iterations, stripes;
	/* place of the key slot's data, in sectors behind the start of the header */
	uint32_t offset;
	uint8_t salt[LUKS_SALT];
};

struct luks_header {
	enum luks_mode mode;
	enum luks_hash hash;
	uint32_t key_bytes;
	uint32_t payload; /* number of sectors that the header and the data of all key slots take */
	uint32_t digest_iterations;
	uint8_t digest[LUKS_DIGEST], digest_salt[LUKS_SALT];
	char uuid[40];
	struct luks_slot slots[LUKS_SLOTS];
};

/* --- luks_header.c: reads and writes the header, without cryptography --- */

/* The names of a cipher mode, of its parts as qemu-img has them, and of a hash. */
struct luks_mode_names {
	const char *luks; /* name of the cipher mode in the LUKS header, such as "xts-plain64" */
	/* qemu-img's names for the two parts of the cipher mode, such as "xts" and "plain64" */
	const char *mode, *iv;
	/*
	 * qemu-img's name of the hash for the initialization vector; NULL: the vector needs no hash
	 */
	const char *iv_hash;
};
extern const struct luks_mode_names luks_modes[LUKS_MODES];
extern const char *const luks_hashes[LUKS_HASHES];

/*
 * Reads the header at offset `at` of the disk's file and checks it. The header and the data of its
 * key slots take `length` bytes there.
 */
int luks_header_read(struct disk *d, uint64_t at, uint64_t length, struct luks_header *ret)
	must_check;
/* Writes the header to the LUKS_HEADER bytes at buf, in the on-disk format. */
void luks_header_format(const struct luks_header *h, uint8_t *buf);
/* Returns the number of sectors that the data of one key slot takes. */
uint32_t luks_slot_sectors(uint32_t key_bytes);
/* Returns the bytes that a new header takes, with the data of all its key slots. */
uint64_t luks_header_length(uint32_t key_bytes);

/* --- luks.c: encrypts and decrypts sectors with the master key --- */
struct luks;
/* Makes what luks_crypt() needs. The caller may wipe the master key afterwards. */
int luks_new(const struct luks_header *h, const uint8_t *key, struct luks **ret) must_check;
void luks_free(struct luks *l);
/*
 * Encrypts or decrypts `len` bytes at buf in place; they are whole sectors, and the first one is
 * number `sector`. Several threads may call the function at a time.
 */
int luks_crypt(struct luks *l, uint64_t sector, uint8_t *buf, size_t len, bool encrypt) must_check;

/* --- luks_key.c: opens key slots with a passphrase, and makes new headers --- */
/*
 * Finds a key slot that the passphrase opens. Returns -EACCES if there is none. `at` is the offset
 * of the header in the disk's file.
 */
int luks_unlock(struct disk *d, uint64_t at, const struct luks_header *h,
	const struct disk_key *passphrase, struct luks **ret) must_check;
/*
 * Makes a header with a new master key in its first slot. *ret, which the caller frees, gets the
 * header and the data of that slot, *ret_len bytes. `name` names the image in messages.
 */
int luks_format(const char *name, const struct luks_create *c, uint8_t **ret, size_t *ret_len)
	must_check;
