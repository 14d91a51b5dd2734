/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/rtnl/link.h"

#include <ctype.h>
#include <libmnl/libmnl.h>

static int read_link(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[IFLA_IFNAME + 1];
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(h);
	struct link *ret = arg;
	const char *name;

	int r = nl_attrs(h, sizeof(*info), attrs, IFLA_IFNAME);
	if (r < 0)
		return r;
	name = nl_attr_str(attrs[IFLA_IFNAME], "");
	if (!name[0] || strlen(name) >= sizeof(ret->name) || info->ifi_index <= 0)
		return err_set(EBADMSG, "rtnetlink: a reply has a link without a name or an index");
	ret->index = info->ifi_index;
	ret->flags = info->ifi_flags;
	memcpy(ret->name, name, strlen(name) + 1);
	return 0;
}

int link_get(struct nl *nl, const char *name, int index, struct link *ret)
{
	struct link found = {0};
	struct nl_req q;
	int r;

	nl_req_link(&q, RTM_GETLINK, 0, name ? 0 : index);
	/*
	 * The attribute IFLA_ALT_IFNAME finds an interface by its name or by an alternative name
	 * (Linux 5.5). Alternative names may be longer than IFLA_IFNAME allows.
	 */
	if (name)
		nl_put_str(&q, IFLA_ALT_IFNAME, name);
	r = nl_call(nl, &q, read_link, &found);
	if (r < 0)
		return r;
	if (found.index == 0)
		return err_set(EBADMSG, "rtnetlink: the reply has no link");
	*ret = found;
	return 0;
}

static int read_max_index(const struct nlmsghdr *h, void *arg)
{
	struct link link = {0};
	int *max = arg;

	int r = read_link(h, &link);
	if (r == 0 && link.index > *max)
		*max = link.index;
	return r;
}

int link_max_index(struct nl *nl)
{
	int r = -EINTR;
	int max = 0;

	/*
	 * Repeats the dump after -EINTR, by which the kernel reports that interfaces came or went
	 * during the dump.
	 */
	for (int tries = 0; r == -EINTR && tries < 10; tries++) {
		struct nl_req q;

		nl_req_link(&q, RTM_GETLINK, NLM_F_DUMP, 0);
		r = nl_call(nl, &q, read_max_index, &max);
	}
	return r < 0 ? r : max;
}

int link_set_flags(struct nl *nl, int index, unsigned set, unsigned clear)
{
	struct ifinfomsg info = {.ifi_family = AF_UNSPEC,
		.ifi_index = index,
		.ifi_flags = set,
		.ifi_change = set | clear};
	struct nl_req q;

	nl_req_init(&q, RTM_NEWLINK, 0, &info, sizeof(info));
	return nl_call(nl, &q, NULL, NULL);
}

int link_check_name(const char *name, bool allow_template)
{
	const char *percent = strchr(name, '%');
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ)
		return err_set(EINVAL, "interface name \"%s\": it has %zu bytes, expected 1 to %d",
			name, len, IFNAMSIZ - 1);
	if (streq(name, ".") || streq(name, ".."))
		return err_set(EINVAL, "interface name \"%s\": expected another name", name);
	/*
	 * Refuses the names "all" and "default", because the kernel has directories of these names
	 * below /proc/sys/net/ipv4/conf.
	 */
	if (streq(name, "all") || streq(name, "default"))
		return err_set(EINVAL,
			"interface name \"%s\": the kernel uses the name for settings of all "
			"interfaces, expected another name",
			name);
	/*
	 * Refuses the byte 0xa0, because the kernel's isspace() takes it for a blank, as in
	 * Latin-1. UTF-8 text may contain this byte too.
	 */
	for (const char *p = name; *p; p++)
		if (*p == '/' || *p == ':' || isspace((unsigned char)*p) || *p == '\xa0')
			return err_set(EINVAL,
				"interface name \"%s\": a '/', ':' or blank (also the byte 0xa0) "
				"is "
				"not allowed",
				name);
	if (percent && !allow_template)
		return err_set(EINVAL, "interface name \"%s\": expected a name without '%%'", name);
	if (percent && (percent[1] != 'd' || strchr(percent + 1, '%')))
		return err_set(
			EINVAL, "interface name \"%s\": expected at most one %%d in it", name);
	return 0;
}
