/* SPDX-License-Identifier: Apache-2.0 */
#include "inside/boot_config.h"

#include <string.h>

#include "base/str.h"

/* --- lines and words of configuration files --- */

const char *boot_next_line(const char *line)
{
	line += strcspn(line, "\n");
	return line + (*line == '\n');
}

char *boot_take_line(struct arena *a, const char *line)
{
	size_t n = strcspn(line, "\r\n"), lead = strspn(line, " \t");

	lead = lead < n ? lead : n;
	while (n > lead && (line[n - 1] == ' ' || line[n - 1] == '\t'))
		n--;
	return arena_strndup(a, line + lead, n - lead);
}

char *boot_value_of(char *line, const char *const *names)
{
	size_t n = strcspn(line, " \t");

	for (; *names; names++)
		if (strlen(*names) == n && strncasecmp(line, *names, n) == 0)
			return line + n + strspn(line + n, " \t");
	return NULL;
}

char *boot_cut_word(char **at)
{
	char *from = *at + strspn(*at, " \t"), *to = from, *word = from, quote = '\0';

	if (!*from)
		return NULL;
	for (; *from && (quote || (*from != ' ' && *from != '\t')); from++) {
		if (*from == quote)
			quote = '\0';
		else if (!quote && (*from == '"' || *from == '\''))
			quote = *from;
		else
			*to++ = *from;
	}
	*at = *from ? from + 1 : from;
	*to = '\0';
	return word;
}

static void add_initrds(struct boot_entry *e, char *words)
{
	char *word;

	while ((word = boot_cut_word(&words)))
		if (e->ninitrds < BOOT_INITRDS_MAX && !strchr(word, '$'))
			e->initrds[e->ninitrds++] = word;
}

/* --- the kinds of configurations of boot loaders --- */

static const char *const linux_words[] = {"linux", "linuxefi", "linux16", "kernel", NULL};
static const char *const initrd_words[] = {"initrd", "initrdefi", "initrd16", NULL};
static const char *const option_words[] = {"options", "append", NULL};

void boot_parse_bls(struct arena *a, const char *text, struct boot_entry *ret)
{
	_cleanup_strbuf_ struct strbuf options = {0};

	for (; *text; text = boot_next_line(text)) {
		char *line = boot_take_line(a, text), *value;
		if (!line)
			return;
		if ((value = boot_value_of(line, linux_words)))
			ret->kernel = boot_cut_word(&value);
		else if ((value = boot_value_of(line, initrd_words)))
			add_initrds(ret, value);
		else if ((value = boot_value_of(line, option_words)))
			(void)!strbuf_addf(&options, "%s%s", options.len ? " " : "", value);
	}
	ret->options = arena_strdup(a, strbuf_str(&options));
}

void boot_parse_grub(struct arena *a, const char *text, struct boot_entry *ret)
{
	for (; *text; text = boot_next_line(text)) {
		char *line = boot_take_line(a, text), *value;
		if (!line || (ret->kernel && *line == '}'))
			return;
		if ((value = boot_value_of(line, linux_words)) && !ret->kernel) {
			char *kernel = boot_cut_word(&value);
			if (!kernel || strchr(kernel, '$'))
				continue;
			ret->kernel = kernel;
			ret->options = value;
		} else if ((value = boot_value_of(line, initrd_words)) && ret->kernel) {
			add_initrds(ret, value);
		}
	}
}

void boot_parse_extlinux(struct arena *a, const char *text, struct boot_entry *ret)
{
	static const char *const label[] = {"label", NULL};
	static const char *const initrd[] = {"initrd", NULL};
	int labels = 0;

	for (; *text; text = boot_next_line(text)) {
		char *line = boot_take_line(a, text), *value;
		if (!line || (boot_value_of(line, label) && ++labels > 1))
			return;
		if ((value = boot_value_of(line, linux_words)))
			ret->kernel = boot_cut_word(&value);
		else if ((value = boot_value_of(line, initrd)))
			for (char *comma; value; value = comma) {
				comma = strchr(value, ',');
				if (comma)
					*comma++ = '\0';
				add_initrds(ret, value);
			}
		else if ((value = boot_value_of(line, option_words)))
			ret->options = value;
	}
}
