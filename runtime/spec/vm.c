/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the property `vm` (config-vm.md). The paths in `vm` are absolute paths of the host.
 * config-vm.md requires a kernel, but a `vm` without a kernel is no error here, because caisson has
 * a default kernel.
 */
#include "spec/parse.h"

static const struct spec_name image_formats[] = {
	{"raw", 0}, {"qcow2", 0}, {"vdi", 0}, {"vmdk", 0}, {"vhd", 0}, {"vhdx", 0}, {NULL, 0}};

static const struct field hypervisor_fields[] = {
	FIELD(STRING, "path", spec_vm, hypervisor_path,
		.flags = FIELD_REQUIRED | FIELD_ABSOLUTE | FIELD_EMPTY_OK),
	FIELD(STRINGS, "parameters", spec_vm, hypervisor_parameters), {0}};

static const struct object_type hypervisor_type = {.fields = hypervisor_fields};

static const struct field kernel_fields[] = {
	FIELD(STRING, "path", spec_vm, kernel_path,
		.flags = FIELD_REQUIRED | FIELD_ABSOLUTE | FIELD_EMPTY_OK),
	FIELD(STRINGS, "parameters", spec_vm, kernel_parameters),
	FIELD(STRING, "initrd", spec_vm, kernel_initrd, .flags = FIELD_ABSOLUTE), {0}};

static const struct object_type kernel_type = {.fields = kernel_fields};

static int check_image(struct parser *p, const struct json *node, void *obj)
{
	struct spec_vm *vm = obj;

	vm->image_format = NULL;
	if (!vm->image_path)
		return 0;
	const char *format = json_get_str(node, "format");
	vm->image_format = format && *format ? format : "raw";
	return 0;
}

static const struct field image_fields[] = {
	FIELD(STRING, "path", spec_vm, image_path,
		.flags = FIELD_REQUIRED | FIELD_ABSOLUTE | FIELD_EMPTY_OK),
	{.name = "format", .kind = FIELD_ENUM, .flags = FIELD_CHECK_ONLY, .names = image_formats},
	{0}};

static const struct object_type image_type = {.fields = image_fields, .check = check_image};

static const struct field iomem_fields[] = {
	FIELD(OPT_INT, "firstGFN", spec_vm_iomem, first_gfn, RANGE(0, UINT64_MAX)),
	FIELD(INT, "firstMFN", spec_vm_iomem, first_mfn, REQUIRED, RANGE(0, UINT64_MAX)),
	FIELD(INT, "nrMFNs", spec_vm_iomem, nr_mfns, REQUIRED, RANGE(0, UINT64_MAX)), {0}};

static const struct object_type iomem_type = {
	.size = sizeof(struct spec_vm_iomem), .fields = iomem_fields};

static const struct field hw_config_fields[] = {FIELD(STRING, "deviceTree", spec_vm, device_tree),
	FIELD(OPT_INT, "vcpus", spec_vm, vcpus, RANGE(1, UINT32_MAX)),
	FIELD(OPT_INT, "memory", spec_vm, memory, RANGE(1, UINT64_MAX)),
	FIELD(STRINGS, "dtdevs", spec_vm, dtdevs),
	FIELD(ARRAY, "iomems", spec_vm, iomems, .type = &iomem_type),
	FIELD(INTS, "irqs", spec_vm, irqs, RANGE(0, UINT32_MAX)), {0}};

static const struct object_type hw_config_type = {.fields = hw_config_fields};

static int check_vm(struct parser *p, const struct json *node, void *obj)
{
	if (parse_has(node, "hwConfig") && parse_has(node, "hwconfig"))
		return parse_error_at(p, "hwconfig",
			"expected nothing: it is another spelling of hwConfig, which is given too");
	return 0;
}

static const struct field vm_fields[] = {FIELD_GROUP("hypervisor", &hypervisor_type),
	FIELD_GROUP("kernel", &kernel_type), FIELD_GROUP("image", &image_type),
	FIELD_GROUP("hwConfig", &hw_config_type), FIELD_GROUP("hwconfig", &hw_config_type), {0}};

const struct object_type spec_vm_type = {
	.size = sizeof(struct spec_vm), .fields = vm_fields, .check = check_vm};
