/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/qemu.h"

#include <stdio.h>
#include <unistd.h>

#include "base/str.h"

void qemu_read_words(int errors, char *ret, size_t size)
{
	char said[4096];
	size_t len = 0;
	ssize_t n;

	while ((n = read(errors, said + len, sizeof(said) - len)) > 0) {
		len += (size_t)n;
		if (len < sizeof(said))
			continue;
		len = sizeof(said) / 2;
		memcpy(said, said + len, len);
	}
	str_quote_end(ret, size, said, len);
}

int qemu_blamed_backend(const char *words)
{
	const char *at = strstr(words, "chardev=" QEMU_BACKEND);
	int i;

	return at && sscanf(at, "chardev=" QEMU_BACKEND "%d", &i) == 1 && i >= 0 ? i : -1;
}

/*
 * Says whether `words`, the end of QEMU's error output, mean that this QEMU lacks a device or an
 * option that its command line names.
 */
static bool lacks_something(const char *words)
{
	static const char *const lacks[] = {"unsupported", "not a valid", "nvalid ", "not found",
		"nknown ", "does not support"};

	for (size_t i = 0; i < ARRAY_SIZE(lacks); i++)
		if (strstr(words, lacks[i]))
			return true;
	return false;
}

/*
 * Says whether `words` mean that QEMU cannot boot the machine's kernel. QEMU's check of a bzImage
 * is part of every QEMU, so that no newer QEMU would help.
 */
static bool blames_kernel(const char *words)
{
	static const char *const blames[] = {
		"invalid kernel header", "linux kernel too old to load a ram disk"};

	for (size_t i = 0; i < ARRAY_SIZE(blames); i++)
		if (strstr(words, blames[i]))
			return true;
	return false;
}

int qemu_exit_error(int code, const char *words, bool parameters)
{
	if (code == 1 && blames_kernel(words))
		return err_set(ENOEXEC,
			"the kernel (--kernel, vm.kernel.path) is none that QEMU can boot: "
			"expected a "
			"bzImage (vmlinuz) or a PVH kernel for x86-64: QEMU said: %s",
			words);
	if (code == 1 && lacks_something(words))
		return err_set(ENOTSUP,
			"QEMU ended with exit code 1: %s (needed: QEMU %d.%d or later with "
			"microvm, vhost-user-fs, vhost-user-vsock and virtio-scsi, see caisson "
			"doctor%s)",
			words, QEMU_MAJOR, QEMU_MINOR,
			parameters ? "; and look at vm.hypervisor.parameters" : "");
	return err_set(EIO, "QEMU ended with exit code %d%s%s", code, *words ? ": " : "", words);
}
