/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/digest.h"

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
