/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the option -p, and finds out which attachment or process has a port of the host. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "netsetup/host/host_internal.h"

#define LEASE_NAME (IP_TEXT + 24)

const char *port_protocol(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "udp" : protocol == IPPROTO_SCTP ? "sctp" : "tcp";
}

/* --- Parsing the value of the option -p, which publishes ports --- */

static int bad_port(const char *text, const char *why)
{
	return err_set(EINVAL,
		"-p %.100s: %s; expected [HOST:]PORT:PORT[/tcp|udp|sctp], such as 8080:80 or "
		"[::]:5000-5009:5000-5009/udp",
		text, why);
}

/*
 * Parses PORT or PORT-PORT. Returns the number of ports in the range, or 0 if the text is
 * malformed.
 */
static unsigned parse_range(const char *text, size_t len, uint16_t *ret)
{
	char copy[16], *dash;
	uint64_t first, last;

	if (len == 0 || len >= sizeof(copy))
		return 0;
	memcpy(copy, text, len);
	copy[len] = '\0';
	dash = strchr(copy, '-');
	if (dash)
		*dash = '\0';
	if (str_to_u64(copy, &first) < 0 || (dash && str_to_u64(dash + 1, &last) < 0))
		return 0;
	if (!dash)
		last = first;
	if (first == 0 || last > UINT16_MAX || first > last)
		return 0;
	*ret = (uint16_t)first;
	return (unsigned)(last - first + 1);
}

/* Parses the address of the host at the beginning of the text. */
static int parse_host(const char *text, const char **at, struct ip *ret)
{
	char host[INET6_ADDRSTRLEN];
	const char *end;
	size_t len;

	if ((*at)[0] == '[') {
		end = strchr(*at, ']');
		if (!end || end[1] != ':')
			return bad_port(text, "the address has no \"]:\" behind it");
		len = (size_t)(end - *at) - 1;
		(*at)++;
		end++;
	} else {
		const char *first = strchr(*at, ':'),
			   *second = first ? strchr(first + 1, ':') : NULL;

		if (!second)
			return 0;
		end = first;
		len = (size_t)(end - *at);
	}
	if (len >= sizeof(host))
		return bad_port(text, "the host's address is too long");
	memcpy(host, *at, len);
	host[len] = '\0';
	*at = end + 1;
	if (ip_parse(host, ret) < 0)
		return bad_port(text, "the host's address is malformed");
	/* The host cannot have a multicast address, 255.255.255.255 or another reserved address. */
	if (!ip_is_any(ret) && !ip_is_machine(ret))
		return bad_port(text, "no interface of the host can have such an address");
	return 0;
}

int port_parse(const char *text, struct port *ret)
{
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};
	struct port p = {.protocol = IPPROTO_TCP};
	const char *at = text, *slash = strchr(text, '/'), *colon;
	unsigned host_count, count;

	if (slash) {
		p.protocol = 0;
		for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
			if (streq(slash + 1, port_protocol(protocols[i])))
				p.protocol = protocols[i];
		if (!p.protocol)
			return bad_port(text, "the protocol is unknown");
	} else {
		slash = text + strlen(text);
	}
	int r = parse_host(text, &at, &p.host);
	if (r < 0)
		return r;
	colon = strchr(at, ':');
	if (!colon || colon > slash)
		return bad_port(text, "there is no port of the host");
	host_count = parse_range(at, (size_t)(colon - at), &p.host_port);
	count = parse_range(colon + 1, (size_t)(slash - colon) - 1, &p.port);
	if (!host_count || !count)
		return bad_port(text, "a port is not a number from 1 to 65535, or a range of such");
	if (host_count != count || count > PORTS_MAX)
		return bad_port(
			text, "the ranges are not of one length, or longer than 4096 ports");
	p.count = (uint16_t)count;
	if (p.host.family == AF_INET6 && memcmp(p.host.bytes, &in6addr_loopback, 16) == 0)
		return bad_port(text, "Linux forwards nothing from [::1], only from 127.0.0.1");
	*ret = p;
	return 0;
}

/* --- Finding the attachment or the process that already has a port of the host --- */

static void lease_name(const struct port *p, unsigned i, char ret[LEASE_NAME])
{
	char host[IP_TEXT] = "*";

	if (p->host.family)
		ip_text(&p->host, host);
	snprintf(ret, LEASE_NAME, "%s:%u:%s", port_protocol(p->protocol), p->host_port + i, host);
}

/*
 * Returns whether two published addresses have an address of the host in common. 0.0.0.0 and ::
 * mean all addresses.
 */
static bool hosts_clash(const struct ip *a, const struct ip *b)
{
	return !a->family || !b->family ||
	       (a->family == b->family && (ip_is_any(a) || ip_is_any(b) || ip_compare(a, b) == 0));
}

struct wanted {
	const struct attachment *a;
	/*
	 * whether an attachment whose interface no longer exists was undone, so that the check must
	 * be repeated
	 */
	bool swept;
};

/* Returns whether a lease is for a port of the host that p publishes too. */
static bool clashes(const char *lease, const struct port *p)
{
	const char *first = strchr(lease, ':'), *second = first ? strchr(first + 1, ':') : NULL;
	uint16_t number;
	struct ip host;

	if (!second || (size_t)(first - lease) != strlen(port_protocol(p->protocol)) ||
		!str_starts(lease, port_protocol(p->protocol)) ||
		parse_range(first + 1, (size_t)(second - first) - 1, &number) != 1 ||
		number < p->host_port || number >= p->host_port + p->count)
		return false;
	return ip_parse(second + 1, &host) < 0 || hosts_clash(&host, &p->host);
}

static int look_at_lease(struct host *h, const char *lease, const char *record, void *arg)
{
	struct wanted *w = arg;

	for (size_t i = 0; i < w->a->port_count; i++) {
		if (!clashes(lease, &w->a->ports[i]))
			continue;
		int r = attachment_sweep(h, record);
		if (r > 0) {
			w->swept = true;
			return 1;
		}
		return r < 0 ? r
			     : err_set(EADDRINUSE,
				       "port %.*s of the host is published by %.*s already: "
				       "expected "
				       "another port",
				       (int)strcspn(strchr(lease, ':') + 1, ":"),
				       strchr(lease, ':') + 1, (int)strcspn(record, "/"), record);
	}
	return 0;
}

static socklen_t socket_address(
	const struct ip *host, unsigned port, bool six, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (six) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		if (host->family)
			memcpy(&in6->sin6_addr, host->bytes, 16);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	if (host->family)
		memcpy(&in->sin_addr, host->bytes, 4);
	return sizeof(*in);
}

/*
 * Tries to bind the port. The bind fails if a process of the host uses the port, and publishing the
 * port would cut off the clients of that process. A TCP port that only closed connections still use
 * can be bound.
 */
static int try_port(const struct port *p, unsigned number, bool six)
{
	struct sockaddr_storage address;
	socklen_t len = socket_address(&p->host, number, six, &address);
	char text[IP_TEXT] = "";
	int on = 1, off = 0;
	_cleanup_fd_ int fd = socket(six ? AF_INET6 : AF_INET,
		(p->protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC,
		p->protocol);

	if (fd < 0) /* no process can have the port if this kernel has no SCTP or no IPv6 */
		return 0;
	if (p->protocol != IPPROTO_UDP)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (six)
		(void)setsockopt(
			fd, IPPROTO_IPV6, IPV6_V6ONLY, p->host.family ? &on : &off, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, len) == 0)
		return 0;
	if (errno == EADDRINUSE)
		return err_set(EADDRINUSE,
			"port %u/%s of the host is in use by a process: expected another port, or "
			"end the process (see ss -lnp)",
			number, port_protocol(p->protocol));
	if (errno == EADDRNOTAVAIL && p->host.family)
		return err_set(EADDRNOTAVAIL, "address %s is not one of this host",
			ip_text(&p->host, text));
	return errno == EADDRNOTAVAIL ? 0 : err_sys("try port %u of the host", number);
}

/* Checks that the container has an address of the family of the published address. */
static int check_family(const struct attachment *a, const struct port *p)
{
	char text[IP_TEXT];

	for (size_t i = 0; i < a->address_count; i++)
		if (!p->host.family || a->addresses[i].family == p->host.family)
			return 0;
	return err_set(EINVAL, "-p: network %s has no address for %s: it has no pool of IPv%d",
		a->network, p->host.family ? ip_text(&p->host, text) : "a published port",
		p->host.family == AF_INET6 ? 6 : 4);
}

static bool same_port_twice(const struct attachment *a, size_t i)
{
	const struct port *p = &a->ports[i];

	for (size_t k = 0; k < i; k++) {
		const struct port *q = &a->ports[k];

		if (p->protocol == q->protocol && p->host_port < q->host_port + q->count &&
			q->host_port < p->host_port + p->count && hosts_clash(&p->host, &q->host))
			return true;
	}
	return false;
}

int ports_check(struct host *h, const struct attachment *a)
{
	struct wanted w = {.a = a};
	int r;

	do {
		w.swept = false;
		r = a->port_count ? store_each(h, "ports", look_at_lease, &w) : 0;
	} while (r > 0 && w.swept);
	for (size_t i = 0; r >= 0 && i < a->port_count; i++) {
		const struct port *p = &a->ports[i];

		r = check_family(a, p);
		if (r >= 0 && same_port_twice(a, i))
			r = err_set(EINVAL, "-p: port %u of the host is given twice", p->host_port);
		for (unsigned k = 0; r >= 0 && k < p->count; k++) {
			if (p->host.family != AF_INET)
				r = try_port(p, p->host_port + k, true);
			if (r >= 0 && p->host.family != AF_INET6)
				r = try_port(p, p->host_port + k, false);
		}
	}
	return r;
}

int ports_lease(struct host *h, const struct attachment *a)
{
	char name[LEASE_NAME];
	int r = 0;

	for (size_t i = 0; i < a->port_count; i++)
		for (unsigned k = 0; r >= 0 && k < a->ports[i].count; k++) {
			lease_name(&a->ports[i], k, name);
			r = store_lease(h, "ports", name, a);
		}
	return r;
}

int ports_release(struct host *h, const struct attachment *a)
{
	char name[LEASE_NAME];
	int r = 0;

	for (size_t i = 0; i < a->port_count; i++)
		for (unsigned k = 0; r >= 0 && k < a->ports[i].count; k++) {
			lease_name(&a->ports[i], k, name);
			r = store_release(h, "ports", name, a);
		}
	return r;
}
