/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/template.h"

#define TEMPLATE "io.caisson.vm.template"

int machine_decide_template(const struct spec *s, const char *option, struct machine_config *m)
{
	static const char *const names[] = {
		[TEMPLATE_AUTO] = "auto", [TEMPLATE_OFF] = "off", [TEMPLATE_REFRESH] = "refresh"};
	const char *text = option ? option : spec_annotation(s, TEMPLATE);

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!text || streq(text, names[i])) {
			m->template = (enum machine_template)i;
			return 0;
		}
	return err_set(EINVAL, "%s: \"%s\": expected auto, off or refresh",
		option ? "--template" : "annotation " TEMPLATE, text);
}
