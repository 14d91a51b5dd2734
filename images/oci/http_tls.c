/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the certificates of a registry, as containers-certs.d(5) describes. */
#include <curl/curl.h>
#include <dirent.h>
#include <limits.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "images/oci/http_internal.h"

/* Adds each *.crt of the registry's directory in certs.d to the CAs of the connection. */
static CURLcode add_cas(CURL *c, void *context, void *data)
{
	const char *dir = data;
	char path[PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(dir);
	CURLcode r = CURLE_OK;

	if (!d)
		return CURLE_OK;
	while ((e = readdir(d))) {
		if (!str_ends(e->d_name, ".crt"))
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path) ||
			SSL_CTX_load_verify_locations(context, path, NULL) != 1)
			r = CURLE_SSL_CACERT_BADFILE;
	}
	closedir(d);
	return r;
}

/*
 * Checks that the directory in certs.d has the *.cert for the *.key with the name `name`, because a
 * connection without the certificate would fail with a message that does not name the reason.
 */
static int check_key(const char *dir, const char *name)
{
	char cert[PATH_MAX];
	int stem = (int)(strlen(name) - strlen(".key"));

	if (snprintf(cert, sizeof(cert), "%s/%.*s.cert", dir, stem, name) >= (int)sizeof(cert))
		return err_set(ENAMETOOLONG, "%s: a name is too long", dir);
	return access(cert, F_OK) < 0 ? err_sys("%s/%s has no certificate %s", dir, name, cert) : 0;
}

/*
 * Sets the client's certificate: the first *.cert of the directory `dir` in certs.d, and the *.key
 * of the same name.
 */
static int set_client(CURL *c, const char *dir)
{
	char cert[PATH_MAX], key[PATH_MAX];
	struct dirent **names = NULL;
	int n = scandir(dir, &names, NULL, alphasort), r = 0;
	bool found = false;

	for (int i = 0; i < n; i++) {
		if (r >= 0 && str_ends(names[i]->d_name, ".key"))
			r = check_key(dir, names[i]->d_name);
		if (r >= 0 && !found && str_ends(names[i]->d_name, ".cert")) {
			found = true;
			int stem = (int)(strlen(names[i]->d_name) - strlen(".cert"));
			if (snprintf(cert, sizeof(cert), "%s/%s", dir, names[i]->d_name) >=
					(int)sizeof(cert) ||
				snprintf(key, sizeof(key), "%s/%.*s.key", dir, stem,
					names[i]->d_name) >= (int)sizeof(key))
				r = err_set(ENAMETOOLONG, "%s: a name is too long", dir);
		}
		free(names[i]);
	}
	free(names);
	if (!found || r < 0)
		return r;
	if (access(key, R_OK) < 0)
		return err_sys("%s has no key %s", cert, key);
	curl_easy_setopt(c, CURLOPT_SSLCERT, cert);
	curl_easy_setopt(c, CURLOPT_SSLKEY, key);
	return 0;
}

static bool is_dir(const char *path)
{
	return access(path, X_OK) == 0;
}

/*
 * Finds the directory HOST:PORT in the certs.d directories of podman and docker. For port 443 the
 * directory may also be called HOST, because names of images leave that port out.
 */
static bool find_dir(const struct http_origin *origin, char path[PATH_MAX])
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	const char *const system[] = {"/etc/containers/certs.d", "/etc/docker/certs.d"};
	char dirs[4][PATH_MAX / 2];
	size_t n = 0;

	if (geteuid() != 0 && config && *config == '/')
		snprintf(dirs[n++], sizeof(dirs[0]), "%s/containers/certs.d", config);
	else if (geteuid() != 0 && home && *home == '/')
		snprintf(dirs[n++], sizeof(dirs[0]), "%s/.config/containers/certs.d", home);
	for (size_t i = 0; i < ARRAY_SIZE(system); i++)
		snprintf(dirs[n++], sizeof(dirs[0]), "%s", system[i]);
	for (size_t i = 0; i < n; i++) {
		snprintf(path, PATH_MAX, "%s/%s:%u", dirs[i], origin->host, origin->port);
		if (is_dir(path))
			return true;
		snprintf(path, PATH_MAX, "%s/%s", dirs[i], origin->host);
		if (origin->port == 443 && is_dir(path))
			return true;
	}
	return false;
}

bool http_has_cas(CURL *c)
{
	const char *file = NULL;

	return curl_easy_getinfo(c, CURLINFO_CAINFO, &file) != CURLE_OK || !file ||
	       access(file, F_OK) == 0 || errno != ENOENT;
}

int http_set_tls(struct http *h, const struct http_request *q, const struct http_origin *origin)
{
	CURL *c = h->curl;

	if (q->insecure) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	/*
	 * A machine without the package ca-certificates has no such file. libcurl would then fail
	 * before it connects, although the registry may speak plain HTTP, or have its CA in
	 * certs.d.
	 */
	if (!http_has_cas(c))
		curl_easy_setopt(c, CURLOPT_CAINFO, NULL);
	if (h->cert_dir)
		snprintf(h->dir, sizeof(h->dir), "%s", h->cert_dir);
	else if (!find_dir(origin, h->dir))
		return 0;
	curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, add_cas);
	curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, h->dir);
	return set_client(c, h->dir);
}
