/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/utsname.h>

#include "images/oci/oci.h"

/* Names of architectures: those that uname(2) returns, and those of Go. */
static const struct {
	const char *machine, *architecture, *variant;
} machines[] = {
	{"x86_64", "amd64", NULL},
	{"i386", "386", NULL},
	{"i686", "386", NULL},
	{"aarch64", "arm64", NULL},
	{"armv7l", "arm", "v7"},
	{"armv6l", "arm", "v6"},
	{"riscv64", "riscv64", NULL},
	{"ppc64le", "ppc64le", NULL},
	{"s390x", "s390x", NULL},
	{"loongarch64", "loong64", NULL},
	{"mips64", "mips64le", NULL},
};

struct platform platform_host(void)
{
	struct utsname u;

	if (uname(&u) == 0)
		for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
			if (streq(u.machine, machines[i].machine))
				return (struct platform){.os = "linux",
					.architecture = machines[i].architecture,
					.variant = machines[i].variant};
	return (struct platform){.os = "linux", .architecture = "unknown"};
}

/*
 * Returns Go's name of an architecture. Accepts uname(2)'s names too, because users also write
 * x86_64 and aarch64.
 */
static const char *architecture_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (streq(name, machines[i].machine))
			return machines[i].architecture;
	return name;
}

int platform_parse(struct arena *a, const char *text, struct platform *ret)
{
	const char *parts[3] = {NULL, NULL, NULL};
	size_t n = 0;

	*ret = platform_host();
	if (!*text)
		return 0;
	for (const char *p = text;; n++) {
		size_t len = strcspn(p, "/");
		if (len == 0 || n == ARRAY_SIZE(parts))
			return err_set(EINVAL,
				"platform \"%s\": expected OS/ARCHITECTURE or "
				"OS/ARCHITECTURE/VARIANT, as in linux/arm64",
				text);
		parts[n] = arena_strndup(a, p, len);
		if (!parts[n])
			return -ENOMEM;
		p += len;
		if (!*p++) {
			n++;
			break;
		}
	}
	if (n == 1)
		*ret = (struct platform){
			.os = "linux", .architecture = architecture_named(parts[0])};
	else
		*ret = (struct platform){.os = parts[0],
			.architecture = architecture_named(parts[1]),
			.variant = parts[2]};
	return 0;
}

/*
 * Returns the number in a platform's variant, such as 7 for "v7" or "7", or 0 if the variant
 * contains no number. An empty variant counts as v8 for arm64, as v7 for arm and as v1 for amd64.
 */
static unsigned variant_level(const struct platform *p)
{
	const char *v = p->variant ? p->variant : "";
	uint64_t level;

	if (*v == 'v')
		v++;
	if (*v && str_to_u64(v, &level) == 0 && level < 1000)
		return (unsigned)level;
	if (*v)
		return 0;
	const char *architecture = p->architecture ? p->architecture : "";
	return streq(architecture, "arm64")   ? 8
	       : streq(architecture, "arm")   ? 7
	       : streq(architecture, "amd64") ? 1
					      : 0;
}

/*
 * Rates how well a manifest's platform fits the wanted platform: the same variant is the best, then
 * the nearest lower variant. Returns 0 if a machine of the wanted platform cannot run the
 * manifest's image.
 */
static unsigned rate(const struct platform *have, const struct platform *wanted)
{
	if (!have->architecture || !have->os || !streq(have->os, wanted->os) ||
		!streq(architecture_named(have->architecture), wanted->architecture))
		return 0;
	unsigned level = variant_level(have), most = variant_level(wanted);
	if (level == most)
		return 2000;
	return level < most && level > 0 ? 1000 + level : 0;
}

static int no_match(const struct document *index, const struct platform *wanted)
{
	_cleanup_strbuf_ struct strbuf list = {0};
	int r = 0;

	for (size_t i = 0; i < index->nmanifests && r >= 0 && list.len < 400; i++) {
		const struct platform *p = &index->manifests[i].platform;
		if (p->architecture && p->os)
			r = strbuf_addf(&list, "%s%.32s/%.32s%s%.32s", list.len ? ", " : "", p->os,
				p->architecture, p->variant ? "/" : "",
				p->variant ? p->variant : "");
	}
	if (r < 0)
		return r;
	return err_set(ENOENT, "the image does not exist for the platform %s/%s%s%s; it is for: %s",
		wanted->os, wanted->architecture, wanted->variant ? "/" : "",
		wanted->variant ? wanted->variant : "", list.len ? strbuf_str(&list) : "none");
}

int index_choose(
	const struct document *index, const struct platform *wanted, const struct descriptor **ret)
{
	unsigned best = 0;

	*ret = NULL;
	for (size_t i = 0; i < index->nmanifests; i++) {
		unsigned rating = rate(&index->manifests[i].platform, wanted);
		if (rating > best) {
			best = rating;
			*ret = &index->manifests[i];
		}
	}
	if (*ret)
		return 0;
	/*
	 * An index of one manifest that states no platform is accepted, because some tools write
	 * such an index for an image that they have built.
	 */
	if (index->nmanifests == 1 && !index->manifests[0].platform.architecture) {
		*ret = &index->manifests[0];
		return 0;
	}
	return no_match(index, wanted);
}
