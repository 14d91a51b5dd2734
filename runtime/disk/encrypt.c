/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the options -o encrypt.NAME=VALUE, which qemu-img has too. */
#include "disk/tool.h"

#define DEFAULT_MS 1000
#define MS_MAX 60000

static int choose(const char *key, const char *value, const char *const *names, unsigned *ret)
{
	for (*ret = 0; names[*ret]; ++*ret)
		if (streq(names[*ret], value))
			return 0;
	return err_set(EINVAL, "-o %s=%s: expected %s%s%s%s%s", key, value, names[0],
		names[1] ? " or " : "", names[1] ? names[1] : "",
		names[1] && names[2] ? " or " : "", names[1] && names[2] ? names[2] : "");
}

int tool_parse_encrypt(const char *key, const char *value, struct tool_encrypt *e)
{
	static const char *const formats[] = {"luks", NULL},
				 *const ivs[] = {"plain64", "essiv", NULL},
				 *const ciphers[] = {"aes-256", "aes-128", NULL},
				 *const modes[] = {"xts", "cbc", NULL},
				 *const iv_hashes[] = {"sha256", NULL},
				 *const hashes[] = {"sha256", "sha1", "sha512", NULL};
	const struct {
		const char *name;
		const char *const *values;
		unsigned *to;
	} options[] = {{"encrypt.format", formats, NULL}, {"encrypt.ivgen-alg", ivs, &e->iv},
		{"encrypt.cipher-alg", ciphers, &e->cipher},
		{"encrypt.cipher-mode", modes, &e->mode},
		{"encrypt.ivgen-hash-alg", iv_hashes, NULL},
		{"encrypt.hash-alg", hashes, &e->hash}};
	unsigned n;

	e->any = key;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (!streq(options[i].name, key))
			continue;
		int r = choose(key, value, options[i].values, &n);
		if (r >= 0 && options[i].to)
			*options[i].to = n;
		if (i == 0)
			e->format = value;
		return r;
	}
	if (streq(key, "encrypt.key-secret"))
		return err_set(EINVAL,
			"-o %s=%s: expected no such option: name a file with the passphrase with "
			"--key FILE",
			key, value);
	if (!streq(key, "encrypt.iter-time"))
		return err_set(EINVAL, "-o %s: found no such option: `-o help` lists them", key);
	if (str_to_u64(value, &e->ms) < 0 || e->ms == 0 || e->ms > MS_MAX)
		return err_set(
			EINVAL, "-o %s=%s: expected 1 to %d milliseconds", key, value, MS_MAX);
	return 0;
}

int tool_use_encrypt(const struct tool_encrypt *e, const struct disk_key *key, const char *option,
	struct luks_create *ret)
{
	bool xts = e->mode == 0;
	uint32_t bytes = e->cipher == 0 ? 32 : 16;

	if (!e->format)
		return err_set(EINVAL, "-o %s: needs encrypt.format=luks", e->any);
	if (xts && e->iv != 0)
		return err_set(EINVAL,
			"-o encrypt.ivgen-alg=essiv: expected plain64, or encrypt.cipher-mode=cbc");
	if (!key)
		return err_set(EINVAL,
			"-o encrypt.format=luks: name a file with the passphrase with %s FILE",
			option);
	*ret = (struct luks_create){
		.mode = xts          ? LUKS_XTS_PLAIN64
			: e->iv == 1 ? LUKS_CBC_ESSIV
				     : LUKS_CBC_PLAIN64,
		.hash = e->hash == 1   ? LUKS_SHA1
			: e->hash == 2 ? LUKS_SHA512
				       : LUKS_SHA256,
		/* In the mode XTS the key consists of two AES keys. */
		.key_bytes = xts ? bytes * 2 : bytes,
		.milliseconds = e->ms ? (uint32_t)e->ms : DEFAULT_MS,
		.key = key,
	};
	return 0;
}
