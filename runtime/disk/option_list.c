/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, for `-o help`, the options -o NAME=VALUE of `caisson disk create` and `convert`. */
#include "disk/tool.h"

struct target_option {
	const char *name, *value, *help;
	const char *raw_value; /* value for raw images; NULL: they do not have the option */
};

static const struct target_option options[] = {
	{"backing_file", "FILE", "the backing file, as -b names it"},
	{"backing_fmt", "FORMAT", "the backing file's format, as -F names it"},
	{"cluster_size", "SIZE", "size of a cluster, 512 to 2M (default: 64k)"},
	{"compat", "0.10|1.1", "version of qcow2, also written v2 and v3 (default: 1.1)"},
	{"compression_type", "zlib|zstd", "how clusters are compressed (default: zlib)"},
	{"data_file", "FILE", "the external data file, which holds the disk's data"},
	{"data_file_raw", "on|off", "the data file stays a valid raw image (default: off)"},
	{"encrypt.format", "luks", "encrypt the image, with the passphrase of --key"},
	{"encrypt.cipher-alg", "aes-256|aes-128", "the cipher (default: aes-256)"},
	{"encrypt.cipher-mode", "xts|cbc", "the cipher's mode (default: xts)"},
	{"encrypt.hash-alg", "sha256|sha1|sha512",
		"the hash that makes a key of the passphrase (default: sha256)"},
	{"encrypt.iter-time", "MILLISECONDS",
		"how long a try of a passphrase takes (default: 1000)"},
	{"encrypt.ivgen-alg", "plain64|essiv",
		"how a sector's initialization vector is made (default: plain64)"},
	{"encrypt.ivgen-hash-alg", "sha256", "the hash of essiv"},
	{"extended_l2", "on|off", "clusters have parts of their own (default: off)"},
	{"lazy_refcounts", "on|off", "refcounts are written later (default: off)"},
	{"preallocation", "off|metadata|falloc|full", "what is reserved in advance (default: off)",
		"off|falloc|full"},
	{"refcount_bits", "N", "size of a refcount in bits, 1, 2, 4 … 64 (default: 16)"},
};

static bool asks_for_help(const struct option_list *o)
{
	for (size_t i = 0; i < o->n; i++)
		for (const char *w = o->v[i]; w; w = strchr(w, ',')) {
			w += *w == ',';
			size_t len = strcspn(w, ",");

			if ((len == 4 && str_starts(w, "help")) || (len == 1 && *w == '?'))
				return true;
		}
	return false;
}

int tool_list_options(const struct option_list *o, const struct tool_target *t, const char *letter)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	const char *format;

	if (!asks_for_help(o))
		return 0;
	if (!t->path && !t->format)
		return err_set(EINVAL, "-o help: name the format with %s, such as %s qcow2", letter,
			letter);
	int r = tool_format(t->path ? t->path : "", t->format, letter, &format);
	if (r < 0)
		return r;
	bool raw = streq(format, "raw");
	if (!raw && !streq(format, "qcow2"))
		return err_set(EOPNOTSUPP,
			"%s %s: %s images are only read: raw and qcow2 have "
			"options",
			letter, format, format);
	r = strbuf_addf(&out, "Supported %s options:\n", format);
	for (size_t i = 0; i < ARRAY_SIZE(options) && r >= 0; i++) {
		const struct target_option *p = &options[i];
		char word[64];

		if (raw && !p->raw_value)
			continue;
		snprintf(word, sizeof(word), "%s=%s", p->name, raw ? p->raw_value : p->value);
		r = strbuf_addf(&out, "  %-38s - %s\n", word, p->help);
	}
	if (r >= 0)
		r = program_print(strbuf_str(&out), out.len);
	return r < 0 ? r : 1;
}
