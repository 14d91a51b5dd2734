/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/doctor.h"

#include "cmd/cmd.h"

static const struct {
	const char *title, *key;
} modes[DOCTOR_MODES] = {
	[DOCTOR_NS] = {"--isolation ns, containers in namespaces", "ns"},
	[DOCTOR_KVM] = {"--isolation vm, microVMs on KVM", "vm-kvm"},
	[DOCTOR_QEMU] = {"--isolation vm, microVMs on QEMU, in software", "vm-qemu"},
};

static int print_text(const struct doctor *d)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->n; i++) {
		const struct doctor_check *v = &d->v[i];

		if (i == 0 || v->mode != d->v[i - 1].mode)
			r = strbuf_addf(&out, "%s%s: %s\n", i ? "\n" : "", modes[v->mode].title,
				d->runs[v->mode] ? "yes" : "no");
		if (r == 0)
			r = strbuf_addf(&out, "  %-8s %s: %s\n", doctor_verdict_name(v->verdict),
				v->name, v->text);
	}
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

static int print_json(const struct doctor *d)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	for (enum doctor_mode m = 0; m < DOCTOR_MODES; m++) {
		json_out_object(&o, modes[m].key);
		json_out_bool(&o, "runs", d->runs[m]);
		json_out_array(&o, "checks");
		for (size_t i = 0; i < d->n; i++) {
			if (d->v[i].mode != m)
				continue;
			json_out_object(&o, NULL);
			json_out_str(&o, "name", d->v[i].name);
			json_out_str(&o, "result", doctor_verdict_name(d->v[i].verdict));
			json_out_str(&o, "text", d->v[i].text);
			json_out_end_object(&o);
		}
		json_out_end_array(&o);
		json_out_end_object(&o);
	}
	json_out_end_object(&o);
	return program_print_json(&o);
}

int cmd_doctor(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool json = false;
	const struct option_def defs[] = {
		{"json", 0, OPTION_FLAG, &json, NULL, "print it in JSON"}, {0}};
	struct arguments args = {.max = 0};
	_cleanup_arena_ struct arena a = {0};
	struct doctor d;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = doctor_examine(&a, &d);
	if (r == 0)
		r = json ? print_json(&d) : print_text(&d);
	if (r < 0)
		return r;
	return d.runs[DOCTOR_NS] ? 0 : CMD_EXIT_FAILURE;
}
