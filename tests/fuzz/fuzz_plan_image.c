/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of a plan's image, which is the plan as bytes that caisson-init and the guest
 * read. The input chooses a configuration and changes bytes of its image. It must be possible to
 * print an image that is accepted, and to write it as an image that is accepted too.
 *
 * The input is: a byte, whose value modulo the number of configurations chooses one; then changes
 * of three bytes each, two for the offset in the image and one for the new value.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "fuzz/image.h"
#include "plan/image.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
	const char *config;
	enum plan_isolation isolation;
} plans[] = {
	{"default", PLAN_NS},
	{"full", PLAN_NS},
	{"joined", PLAN_NS},
	{"empty", PLAN_NS},
	{"vm", PLAN_VM},
	{"vm-privileged", PLAN_VM},
};

static struct strbuf images[ARRAY_SIZE(plans)];

static void make_image(size_t i)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct plan_env env = {.isolation = plans[i].isolation,
		.bundle = "/bundle",
		.keyring = "_ses.x",
		.cgroup = true};
	const unsigned places =
		1U << PLACE_INIT | (env.isolation == PLAN_VM ? 1U << PLACE_GUEST : 0);
	const struct spec *s;
	struct plan all = {0}, chosen = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.json", GOLDEN_DIR, plans[i].config);
	if (fd_read_file(AT_FDCWD, path, &text, SPEC_MAX_SIZE) < 0 ||
		spec_parse(&a, strbuf_str(&text), text.len, path, &s) < 0 ||
		plan_build(&a, s, &env, &all) < 0 ||
		plan_select(&a, &all, places, 0, &chosen) < 0 ||
		pack_write(&plan_type, &chosen, &images[i]) < 0)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (size_t i = 0; i < ARRAY_SIZE(plans); i++)
		make_image(i);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_strbuf_ struct strbuf text = {0}, again = {0};
	void *read;

	if (!size)
		return 0;
	const struct strbuf *image = &images[data[0] % ARRAY_SIZE(plans)];
	_cleanup_free_ char *bytes = image_copy(image);
	image_change(bytes, image->len, data + 1, size - 1);
	if (pack_read(&plan_type, bytes, image->len, &read) < 0)
		return 0;
	if (plan_print(read, &text) < 0 || pack_write(&plan_type, read, &again) < 0)
		abort();
	_cleanup_free_ char *second = image_copy(&again);
	if (pack_read(&plan_type, second, again.len, &read) < 0)
		abort();
	return 0;
}
