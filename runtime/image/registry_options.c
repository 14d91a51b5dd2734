/* SPDX-License-Identifier: Apache-2.0 */
#include "image/registry_options.h"

#include <string.h>

int registry_options_take(
	struct registry_arguments *args, struct arena *a, struct registry_options *ret)
{
	struct http_origin ignored;

	*ret = (struct registry_options){.auth_file = args->auth_file,
		.cert_dir = args->cert_dir,
		.insecure = args->insecure};
	if (args->realms.n > REGISTRY_REALMS_MAX)
		return err_set(
			E2BIG, "--trust-realm: given more than %d times", REGISTRY_REALMS_MAX);
	for (size_t i = 0; i < args->realms.n; i++) {
		int r = http_origin(args->realms.v[i], &ignored);
		if (r < 0)
			return err_ctx(r, "--trust-realm");
		ret->realms[ret->nrealms++] = args->realms.v[i];
	}
	if (!args->credentials)
		return 0;
	const char *colon = strchr(args->credentials, ':');
	if (!colon || colon == args->credentials)
		return err_set(EINVAL, "--creds: expected USER:PASSWORD");
	args->parsed.user =
		arena_strndup(a, args->credentials, (size_t)(colon - args->credentials));
	args->parsed.password = arena_strdup(a, colon + 1);
	ret->credentials = &args->parsed;
	return args->parsed.user && args->parsed.password ? 0 : -ENOMEM;
}
