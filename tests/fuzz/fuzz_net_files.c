/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the readers of the file of a network, of the record of an attachment to a network, of the
 * option -p, and of netlink's reply to a request for an interface. What is accepted is written
 * again and read again, and must have the same content. Firewall rules that are made of an accepted
 * network must be one command on each line.
 */
#include <stdlib.h>

#include "fuzz/input.h"
#include "netsetup/host/host_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *write_network(struct json_out *o, const struct network *n)
{
	const char *text;
	size_t len;

	if (json_out_init(o, false) < 0)
		abort();
	network_json(o, n);
	if (json_out_text(o, &text, &len) < 0)
		abort();
	return text;
}

static void check_network(const char *text, size_t len)
{
	_cleanup_json_out_ struct json_out o = {0}, p = {0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf rules = {0};
	struct network n, again;

	if (network_parse(&a, text, len, "fuzz", &n) < 0)
		return;
	for (size_t i = 0; i < n.pool_count; i++) {
		struct ip picked;

		if (pool_pick(&n.pools[i], NULL, 0, &picked) == 0 &&
			(!ip_in(&picked, &n.pools[i].base, n.pools[i].prefix) ||
				ip_compare(&picked, &n.pools[i].gateway) == 0))
			abort();
	}
	/*
	 * A quote or a line end in the name of the interface would end the string that holds the
	 * name in the firewall rules.
	 */
	if (strpbrk(n.interface, "\"\\\n ;{}") || rules_all(&rules, &n, 1, NULL, 0) < 0)
		abort();
	const char *first = write_network(&o, &n);
	if (network_parse(&a, first, strlen(first), "again", &again) < 0 ||
		!streq(first, write_network(&p, &again)))
		abort();
}

static void check_record(const char *text, size_t len)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf rules = {0};
	struct attachment found, again;
	const char *written;
	size_t written_len;

	if (attachment_parse(&a, text, len, "fuzz", &found) < 0)
		return;
	if (strchr(found.key, '/') || rules_remove(&rules, &found) < 0 ||
		json_out_init(&o, false) < 0)
		abort();
	attachment_json(&o, NULL, &found);
	if (json_out_text(&o, &written, &written_len) < 0 ||
		attachment_parse(&a, written, written_len, "again", &again) < 0 ||
		again.port_count != found.port_count ||
		memcmp(again.addresses, found.addresses, sizeof(found.addresses)) != 0)
		abort();
}

static void check_port(const char *text)
{
	struct port p;

	if (port_parse(text, &p) == 0 &&
		(p.count == 0 || p.host_port + p.count - 1 > UINT16_MAX ||
			p.port + p.count - 1 > UINT16_MAX || !p.host_port || !p.port))
		abort();
}

/* The first byte of the input chooses the reader, which gets the other bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = size ? malloc(size) : NULL;

	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] == 'n')
		check_network(text, size - 1);
	else if (data[0] == 'r')
		check_record(text, size - 1);
	else if (data[0] == 'p')
		check_port(text);
	else if (data[0] == 'd') {
		struct device d = {0};

		if (device_parse_reply(text, size - 1, &d) > 0 && !memchr(d.link.name, 0, IFNAMSIZ))
			abort();
	}
	return 0;
}
