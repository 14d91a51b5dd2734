/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/foreign.h"

#define SEED "io.caisson.vm.seed"

static int decide_firmware(const struct spec *s, struct machine_config *m)
{
	const char *code = spec_annotation(s, MACHINE_FIRMWARE),
		   *vars = spec_annotation(s, MACHINE_FIRMWARE_VARS);

	m->firmware = code;
	m->firmware_vars = vars;
	if (!code && !vars)
		return 0;
	if (!m->foreign || !code || code[0] != '/' || !vars || vars[0] != '/')
		return err_set(EINVAL,
			"annotation %s: \"%s\": expected an absolute path, and the "
			"annotations " SPEC_GUEST " foreign, " MACHINE_FIRMWARE
			" and " MACHINE_FIRMWARE_VARS " together",
			code ? MACHINE_FIRMWARE : MACHINE_FIRMWARE_VARS, code ? code : vars);
	if (s->vm && s->vm->kernel_path && *s->vm->kernel_path)
		return err_set(EINVAL, "vm.kernel.path: the firmware (annotation " MACHINE_FIRMWARE
				       ") boots what is on "
				       "the disk: leave one of the two out");
	return 0;
}

static int decide_vnc(const struct spec *s, struct machine_config *m)
{
	int r = machine_read_bool(s, MACHINE_VNC, &m->vnc);

	if (r < 0 || !m->vnc || m->foreign)
		return r;
	return err_set(EINVAL, "annotation " MACHINE_VNC ": expected the annotation " SPEC_GUEST
			       " foreign too: containers have no screen");
}

int machine_decide_guest(const struct spec *s, struct machine_config *m)
{
	const char *guest = spec_annotation(s, SPEC_GUEST), *seed = spec_annotation(s, SEED);

	if (guest && !streq(guest, "foreign") && !streq(guest, "container"))
		return err_set(EINVAL,
			"annotation " SPEC_GUEST
			": \"%s\": expected container (config.json's process) or "
			"foreign (the operating system in vm.image)",
			guest);
	m->foreign = spec_guest_is_foreign(s);
	m->seed = seed;
	if (seed && (!m->foreign || seed[0] != '/'))
		return err_set(EINVAL,
			"annotation " SEED ": \"%s\": expected an absolute path, and " SPEC_GUEST
			" foreign beside it",
			seed);
	int r = decide_firmware(s, m);
	if (r >= 0)
		r = decide_vnc(s, m);
	if (r < 0 || !m->foreign)
		return r;
	if (!m->firmware && (!s->vm || !s->vm->kernel_path || !*s->vm->kernel_path))
		return err_set(EINVAL,
			"vm.kernel.path: missing: a foreign guest (annotation " SPEC_GUEST
			") has its own kernel; `caisson run --disk` takes it from the disk");
	if ((m->firmware || (s->vm && s->vm->image_path)) && !spec_image_is_root(s))
		return err_set(EINVAL,
			"vm.image: missing, or only a disk beside the root "
			"(annotation " SPEC_IMAGE_USE "): a foreign guest (annotation " SPEC_GUEST
			") is the system in vm.image, or else in the initramfs of its kernel");
	return 0;
}

int machine_refuse_kvm(const char *option)
{
	return err_set(ENOTSUP,
		"%s: the built-in monitor has no firmware and no screen, and boots only a kernel: "
		"choose --hypervisor qemu, or leave out %s",
		option, option);
}
