/* SPDX-License-Identifier: Apache-2.0 */
#include "inside/cloud.h"

#include <string.h>
#include <yaml.h>

#include "base/fd.h"
#include "base/json.h"
#include "images/guest/seed.h"

#define KEYS_MAX 64
#define KEY_MAX (64u << 10)
#define HOSTNAME_MAX 63
#define CLOUD_CONFIG "#cloud-config"

/* --- reading the topmost node of a YAML file --- */

struct yaml_top {
	bool is_mapping, is_empty, has_network, has_version;
	/* the last key that was read, and the value of the key "version" */
	char key[16], version[16];
};

/*
 * Notes a key of the topmost mapping of a YAML file, or the value of a key if that value is a
 * scalar.
 */
static void note_scalar(struct yaml_top *t, const char *text, bool is_key)
{
	if (!is_key) {
		if (streq(t->key, "version"))
			snprintf(t->version, sizeof(t->version), "%s", text);
		return;
	}
	snprintf(t->key, sizeof(t->key), "%s", text);
	t->has_network |= streq(text, "network");
	t->has_version |= streq(text, "version");
}

/*
 * Notes what an event of the YAML parser says of the topmost mapping. `depth` counts the mappings
 * and sequences that are open. `place` counts the nodes directly in the topmost mapping, of which
 * the even ones are keys.
 */
static void note_event(struct yaml_top *t, const yaml_event_t *e, int *depth, size_t *place)
{
	bool opens = e->type == YAML_MAPPING_START_EVENT || e->type == YAML_SEQUENCE_START_EVENT;
	bool closes = e->type == YAML_MAPPING_END_EVENT || e->type == YAML_SEQUENCE_END_EVENT;
	bool scalar = e->type == YAML_SCALAR_EVENT;

	if (closes)
		--*depth;
	if (*depth == 0 && (opens || scalar)) {
		t->is_mapping = e->type == YAML_MAPPING_START_EVENT;
		t->is_empty = scalar && e->data.scalar.length == 0;
	}
	if (*depth == 1 && scalar)
		note_scalar(t, (const char *)e->data.scalar.value, *place % 2 == 0);
	if (*depth == 1 && (opens || scalar || e->type == YAML_ALIAS_EVENT))
		++*place;
	if (opens)
		++*depth;
}

static int err_yaml(const yaml_parser_t *p, const char *what)
{
	return err_set(EINVAL, "%s: line %zu: no valid YAML: %s%s%s", what,
		p->problem_mark.line + 1, p->problem ? p->problem : "it cannot be read",
		p->context ? " " : "", p->context ? p->context : "");
}

/*
 * Parses the text as YAML. *ret tells what its topmost node is, and some keys if that node is a
 * mapping.
 */
static int read_yaml(const struct strbuf *text, const char *what, struct yaml_top *ret)
{
	yaml_parser_t p;
	yaml_event_t e;
	int depth = 0, r = 0;
	size_t place = 0;
	bool more = true;

	*ret = (struct yaml_top){.is_empty = true};
	if (!yaml_parser_initialize(&p))
		return err_set(ENOMEM, "out of memory");
	yaml_parser_set_input_string(&p, (const unsigned char *)strbuf_str(text), text->len);
	while (more && r >= 0) {
		if (!yaml_parser_parse(&p, &e)) {
			r = err_yaml(&p, what);
			break;
		}
		note_event(ret, &e, &depth, &place);
		more = e.type != YAML_STREAM_END_EVENT;
		yaml_event_delete(&e);
	}
	yaml_parser_delete(&p);
	return r;
}

/* --- the files of the seed --- */

static int read_option(const char *path, const char *option, struct strbuf *ret)
{
	int r = fd_read_regular(AT_FDCWD, path, ret, SEED_FILE_MAX);

	return r < 0 ? err_ctx(r, "%s", option) : 0;
}

/*
 * Checks a file of user data by its beginning, which tells cloud-init what it is ("User-Data
 * Formats" in cloud-init's documentation). Refuses a file of which cloud-init does not know the
 * kind, because cloud-init would ignore it without a word.
 */
static int check_user_data(const struct strbuf *text, const char *option, const char *path)
{
	static const char *const kinds[] = {"#!", "#include", "#cloud-boothook", "#part-handler",
		"#upstart-job", "#cloud-config-archive", "#cloud-config-jsonp",
		"## template: jinja", "Content-Type:", "MIME-Version:", "From ", "\x1f\x8b"};
	const char *s = strbuf_str(text);
	size_t config = strlen(CLOUD_CONFIG);
	struct yaml_top top;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (text->len >= strlen(kinds[i]) && memcmp(s, kinds[i], strlen(kinds[i])) == 0)
			return 0;
	if (!str_starts(s, CLOUD_CONFIG) || !strchr("\r\n \t", s[config]))
		return err_set(EINVAL,
			"%s %s: cloud-init would ignore it: expected \"" CLOUD_CONFIG
			"\" or \"#!\" in its first line",
			option, path);
	if (strlen(s) != text->len)
		return err_set(EINVAL, "%s %s: it has a zero byte: expected a text", option, path);
	int r = read_yaml(text, option, &top);
	if (r < 0)
		return err_set(-r, "%s (%s)", err_msg(), path);
	if (!top.is_mapping && !top.is_empty)
		return err_set(EINVAL,
			"%s %s: expected names and values, such as \"hostname: web\", found "
			"another kind of YAML",
			option, path);
	return 0;
}

static int check_network_config(const struct strbuf *text, const char *path)
{
	struct yaml_top top;

	int r = read_yaml(text, "--network-config", &top);
	if (r < 0)
		return r;
	if (!top.is_mapping || !(top.has_network || top.has_version))
		return err_set(EINVAL,
			"--network-config %s: expected \"version: 2\" and \"ethernets:\", alone or "
			"below \"network:\"",
			path);
	if (top.has_version && !streq(top.version, "1") && !streq(top.version, "2"))
		return err_set(EINVAL, "--network-config %s: version \"%s\": expected 1 or 2", path,
			top.version);
	return 0;
}

static int copy_data(int dir, const char *name, const char *path, const char *option)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = read_option(path, option, &text);

	if (r >= 0)
		r = streq(name, CLOUD_NETWORK_CONFIG) ? check_network_config(&text, path)
						      : check_user_data(&text, option, path);
	return r < 0 ? r : fd_write_new_file(dir, name, strbuf_str(&text), text.len, 0600);
}

/*
 * Says whether a line is a public key in the form of authorized_keys(5), without options in front
 * of it.
 */
static bool is_key(const char *line)
{
	static const char *const types[] = {"ssh-ed25519 ", "ssh-rsa ", "ecdsa-sha2-nistp256 ",
		"ecdsa-sha2-nistp384 ", "ecdsa-sha2-nistp521 ", "sk-ssh-ed25519@openssh.com ",
		"sk-ecdsa-sha2-nistp256@openssh.com "};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_starts(line, types[i]) && str_starts(line + strlen(types[i]), "AAAA"))
			return true;
	return false;
}

static int put_keys(struct json_out *o, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	int r = fd_read_regular(AT_FDCWD, path, &text, KEY_MAX);
	char *line, *at = text.s;
	size_t keys = 0;

	if (r < 0)
		return err_ctx(r, "--ssh-key");
	if (text.len && strstr(strbuf_str(&text), "PRIVATE KEY-----"))
		return err_set(EINVAL,
			"--ssh-key %s: it is a private key, which must not get into the machine: "
			"name the public one, %s.pub",
			path, path);
	json_out_array(o, "public-keys");
	while (text.len && (line = strsep(&at, "\r\n"))) {
		if (!*line || *line == '#')
			continue;
		if (!is_key(line) || ++keys > KEYS_MAX)
			return err_set(EINVAL,
				"--ssh-key %s: expected a public key, as `ssh-keygen -t ed25519` "
				"writes it to a file NAME.pub",
				path);
		json_out_str(o, NULL, line);
	}
	json_out_end_array(o);
	return keys ? 0 : err_set(EINVAL, "--ssh-key %s: it is empty", path);
}

/*
 * Turns the name of the machine into a host name, which may have only letters, digits and dashes.
 */
static void make_hostname(const char *name, char ret[HOSTNAME_MAX + 1])
{
	size_t n = 0;

	for (; *name && n < HOSTNAME_MAX; name++) {
		bool letter = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
			      (*name >= '0' && *name <= '9');
		if (letter || n > 0)
			ret[n++] = letter ? *name : '-';
	}
	while (n > 0 && ret[n - 1] == '-')
		n--;
	snprintf(ret + n, HOSTNAME_MAX + 1 - n, "%s", n ? "" : "machine");
}

/*
 * Writes the file meta-data as JSON, because JSON is YAML in which every text is quoted. Without
 * the quotation marks cloud-init would take an instance-id such as 007 for the number 7.
 */
static int write_meta_data(const struct cloud *c, int dir)
{
	_cleanup_json_out_ struct json_out o = {0};
	char hostname[HOSTNAME_MAX + 1];
	const char *text;
	size_t len;
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	make_hostname(c->hostname ? c->hostname : c->id, hostname);
	if (c->hostname && !streq(c->hostname, hostname))
		return err_set(EINVAL,
			"--hostname %s: expected letters, digits and dashes, at most %d",
			c->hostname, HOSTNAME_MAX);
	json_out_object(&o, NULL);
	json_out_str(&o, "instance-id", c->id);
	json_out_str(&o, "local-hostname", hostname);
	if (c->ssh_key)
		r = put_keys(&o, c->ssh_key);
	json_out_end_object(&o);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_write_new_file(dir, CLOUD_META_DATA, text, len, 0600);
}

int cloud_write(const struct cloud *c, int dir)
{
	static const char none[] = CLOUD_CONFIG "\n{}\n";
	int r = write_meta_data(c, dir);

	if (r >= 0 && c->user_data)
		r = copy_data(dir, CLOUD_USER_DATA, c->user_data, "--cloud-init");
	else if (r >= 0)
		r = fd_write_new_file(dir, CLOUD_USER_DATA, none, strlen(none), 0600);
	if (r >= 0 && c->vendor_data)
		r = copy_data(dir, CLOUD_VENDOR_DATA, c->vendor_data, "--vendor-data");
	if (r >= 0 && c->network_config)
		r = copy_data(dir, CLOUD_NETWORK_CONFIG, c->network_config, "--network-config");
	return r;
}
