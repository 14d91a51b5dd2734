/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/rtnl/address.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <stdio.h>

#ifndef IFA_PROTO
#define IFA_PROTO 11 /* an attribute of the kernel since Linux 5.18; older kernels ignore it */
#endif

/* The address flags that a request can set; all other flags report a state. */
#define SETTABLE_FLAGS \
	(IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | \
		IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

void addresses_release(struct addresses *a)
{
	strbuf_release(&a->messages);
}

struct reader {
	struct addresses *to;
	int ifindex;
	bool all; /* whether to read more than the addresses that runtime-spec wants to be kept */
};

static bool is_wanted(const struct reader *reader, const struct ifaddrmsg *info, uint32_t flags)
{
	bool global = info->ifa_scope == RT_SCOPE_UNIVERSE;

	return reader->all ? global || info->ifa_family == AF_INET
			   : global && flags & IFA_F_PERMANENT;
}

static int read_address(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[IFA_FLAGS + 1];
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(h);
	struct reader *reader = arg;

	int r = nl_attrs(h, sizeof(*info), attrs, IFA_FLAGS);
	if (r < 0)
		return r;
	/*
	 * Compares the index of the interface, although the request names it, because for address
	 * families whose dump has no filter the kernel sends the addresses of all interfaces.
	 */
	if ((int)info->ifa_index != reader->ifindex ||
		!is_wanted(reader, info, nl_attr_u32(attrs[IFA_FLAGS], info->ifa_flags)))
		return 0;
	return strbuf_add(&reader->to->messages, h, MNL_ALIGN(h->nlmsg_len));
}

int addresses_read(struct nl *nl, int ifindex, bool all, struct addresses *ret)
{
	struct ifaddrmsg info = {.ifa_family = AF_UNSPEC, .ifa_index = (unsigned)ifindex};
	_cleanup_addresses_ struct addresses found = {0};
	struct reader reader = {&found, ifindex, all};
	int r = -EINTR;

	for (int tries = 0; r == -EINTR && tries < 10; tries++) {
		struct nl_req q;

		strbuf_reset(&found.messages);
		nl_req_init(&q, RTM_GETADDR, NLM_F_DUMP, &info, sizeof(info));
		r = nl_call(nl, &q, read_address, &reader);
	}
	if (r < 0)
		return err_ctx(r, "read its addresses");
	*ret = found;
	found = (struct addresses){0};
	return 0;
}

/* Writes an address in the form that messages use, such as "10.0.0.1/24". */
static const char *address_text(
	const struct ifaddrmsg *info, const struct nlattr *const *attrs, char *buf, size_t size)
{
	const struct nlattr *a = attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];
	size_t want =
		info->ifa_family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
	char text[INET6_ADDRSTRLEN];

	if ((info->ifa_family != AF_INET && info->ifa_family != AF_INET6) || !a ||
		mnl_attr_get_payload_len(a) != want ||
		!inet_ntop(info->ifa_family, mnl_attr_get_payload(a), text, sizeof(text)))
		snprintf(buf, size, "of family %u", info->ifa_family);
	else
		snprintf(buf, size, "%s/%u", text, info->ifa_prefixlen);
	return buf;
}

/*
 * Adds the label of an IPv4 address to a request. The kernel expects the interface's name, or the
 * name and ":text". In a label with ":text" the old interface name is replaced by the new one. If
 * the address has no label, or the new label would be too long, the kernel uses the interface's
 * name.
 */
static void put_label(
	struct nl_req *q, const struct nlattr *a, const char *old_name, const char *new_name)
{
	const char *label = nl_attr_str(a, "");
	size_t len = strlen(old_name);
	char text[IFNAMSIZ];
	int n;

	if (strncmp(label, old_name, len) != 0 || label[len] != ':')
		return;
	n = snprintf(text, sizeof(text), "%s%s", new_name, label + len);
	if (n > 0 && (size_t)n < sizeof(text))
		nl_put_str(q, IFA_LABEL, text);
}

static int add_address(
	struct nl *nl, const struct nlmsghdr *h, const char *old_name, const struct link *to)
{
	static const uint16_t kept[] = {
		IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST, IFA_CACHEINFO, IFA_RT_PRIORITY, IFA_PROTO};
	const struct ifaddrmsg *old = mnl_nlmsg_get_payload(h);
	const struct nlattr *attrs[IFA_PROTO + 1];
	struct ifaddrmsg info = *old;
	uint32_t flags;
	char text[64];
	struct nl_req q;

	int r = nl_attrs(h, sizeof(*old), attrs, IFA_PROTO);
	if (r < 0)
		return r;
	flags = nl_attr_u32(attrs[IFA_FLAGS], old->ifa_flags) & SETTABLE_FLAGS;
	info.ifa_flags = (uint8_t)flags;
	info.ifa_index = (unsigned)to->index;
	nl_req_init(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (attrs[kept[i]])
			nl_put(&q, kept[i], mnl_attr_get_payload(attrs[kept[i]]),
				mnl_attr_get_payload_len(attrs[kept[i]]));
	nl_put_u32(&q, IFA_FLAGS, flags);
	if (info.ifa_family == AF_INET)
		put_label(&q, attrs[IFA_LABEL], old_name, to->name);
	r = nl_call(nl, &q, NULL, NULL);
	if (r == -EEXIST)
		return 0;
	return r < 0 ? err_ctx(r, "keep its address %s",
			       address_text(old, attrs, text, sizeof(text)))
		     : 0;
}

int addresses_add(
	struct nl *nl, const struct addresses *a, const char *old_name, const struct link *to)
{
	size_t left = a->messages.len;
	const char *at = a->messages.s;
	const struct nlmsghdr *h;

	while ((h = nl_next_message(&at, &left))) {
		int r = add_address(nl, h, old_name, to);

		if (r < 0)
			return r;
	}
	return 0;
}
