/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chooses CRIU's configuration file, in which the host's administrator or the annotation of a
 * container sets options of CRIU that caisson has no option for. CRIU takes one such file from its
 * caller, beside /etc/criu/default.conf.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "launch/criu_common.h"

#define CONFIG_MAX ((size_t)1024 * 1024) /* largest configuration file, in bytes */

/* Finds the path of the configuration file. *ret is NULL if there is none. */
static int find_config(const struct spec *s, const char **ret)
{
	static const char *const files[] = {"/etc/criu/caisson.conf", "/etc/criu/runc.conf"};
	const char *text = spec_annotation(s, CRIU_ANNOTATION);

	*ret = NULL;
	if (text && !*text)
		return 0;
	if (text && *text != '/')
		return err_set(EINVAL,
			"annotation " CRIU_ANNOTATION
			": \"%.200s\": expected the absolute path of CRIU's configuration file, or "
			"an empty text for none",
			text);
	if (text && access(text, R_OK) < 0)
		return err_sys("annotation " CRIU_ANNOTATION ": %.200s", text);
	for (size_t i = 0; !text && i < ARRAY_SIZE(files); i++)
		if (access(files[i], F_OK) == 0)
			text = files[i];
	*ret = text;
	return 0;
}

/* Makes a file in memory with the configuration file, if there is one, and the line behind it. */
static int make_config(const char *path, const char *line)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = path ? fd_read_regular(AT_FDCWD, path, &text, CONFIG_MAX) : 0;

	if (r >= 0)
		r = strbuf_addf(&text, "\n%s\n", line);
	if (r < 0)
		return err_ctx(r, "CRIU's configuration");
	_cleanup_fd_ int file = memfd_create("criu.conf", MFD_CLOEXEC);
	r = file < 0 ? -errno : fd_write_all(file, strbuf_str(&text), text.len);
	return r < 0 ? err_set(-r, "write CRIU's configuration: %s", strerror(-r)) : take_fd(&file);
}

int criu_put_config(
	const struct spec *s, const char *listen, struct criu_message *opts, int *ret_file)
{
	uint8_t raw[sizeof(struct in6_addr)];
	char text[300];
	const char *path;

	int r = find_config(s, &path);
	if (r < 0)
		return r;
	if (!listen) {
		criu_put_text(opts, CRIU_CONFIG_FILE, path);
		return 0;
	}
	if (inet_pton(AF_INET, listen, raw) != 1 && inet_pton(AF_INET6, listen, raw) != 1)
		return err_set(EINVAL,
			"--page-server %s: with --lazy-pages it is the address of this host on "
			"which CRIU listens: expected an IP address",
			listen);
	snprintf(text, sizeof(text), "address %s", listen);
	*ret_file = make_config(path, text);
	if (*ret_file < 0)
		return *ret_file;
	snprintf(text, sizeof(text), "/proc/self/fd/%d", *ret_file);
	criu_put_text(opts, CRIU_CONFIG_FILE, text);
	return 0;
}
