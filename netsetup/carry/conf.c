/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies the sysctls of an interface, below net/ipv4/conf/ and net/ipv6/conf/, other than those in
 * struct net_ipv6, from a container's namespace into the guest. A sysctl is copied if its value
 * differs from that of a new interface. Three kinds of sysctls are never copied: those that the
 * kernel computes (mc_forwarding, mtu), secrets, and values in ticks of a clock.
 */
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdio.h>

#include "base/log.h"
#include "base/path.h"
#include "netsetup/carry/carry_internal.h"

/*
 * IP4 and IP6 make a row of the table of sysctls. In the kernel's attribute IFLA_INET_CONF the
 * value of DEVCONF number N is at index N - 1, and in IFLA_INET6_CONF at index N.
 */
#define IP4(number, name, usual) \
	{ \
		"ipv4/" name, AF_INET, IPV4_DEVCONF_##number - 1, usual \
	}
#define IP6(number, name, usual) \
	{ \
		"ipv6/" name, AF_INET6, DEVCONF_##number, usual \
	}

static const struct {
	const char *name;
	uint8_t family, at;
	int32_t usual; /* value that the sysctl has on a new interface */
} rows[] = {
	IP4(FORWARDING, "forwarding", 0),
	IP4(PROXY_ARP, "proxy_arp", 0),
	IP4(ACCEPT_REDIRECTS, "accept_redirects", 1),
	IP4(SECURE_REDIRECTS, "secure_redirects", 1),
	IP4(SEND_REDIRECTS, "send_redirects", 1),
	IP4(SHARED_MEDIA, "shared_media", 1),
	IP4(RP_FILTER, "rp_filter", 0),
	IP4(ACCEPT_SOURCE_ROUTE, "accept_source_route", 1),
	IP4(LOG_MARTIANS, "log_martians", 0),
	IP4(ARPFILTER, "arp_filter", 0),
	IP4(MEDIUM_ID, "medium_id", 0),
	IP4(NOXFRM, "disable_xfrm", 0),
	IP4(NOPOLICY, "disable_policy", 0),
	IP4(FORCE_IGMP_VERSION, "force_igmp_version", 0),
	IP4(ARP_ANNOUNCE, "arp_announce", 0),
	IP4(ARP_IGNORE, "arp_ignore", 0),
	IP4(PROMOTE_SECONDARIES, "promote_secondaries", 0),
	IP4(ARP_ACCEPT, "arp_accept", 0),
	IP4(ARP_NOTIFY, "arp_notify", 0),
	IP4(ACCEPT_LOCAL, "accept_local", 0),
	IP4(SRC_VMARK, "src_valid_mark", 0),
	IP4(PROXY_ARP_PVLAN, "proxy_arp_pvlan", 0),
	IP4(ROUTE_LOCALNET, "route_localnet", 0),
	IP4(IGNORE_ROUTES_WITH_LINKDOWN, "ignore_routes_with_linkdown", 0),
	IP4(DROP_UNICAST_IN_L2_MULTICAST, "drop_unicast_in_l2_multicast", 0),
	IP4(DROP_GRATUITOUS_ARP, "drop_gratuitous_arp", 0),
	IP4(BC_FORWARDING, "bc_forwarding", 0),
	IP6(FORWARDING, "forwarding", 0),
	IP6(HOPLIMIT, "hop_limit", 64),
	IP6(ACCEPT_REDIRECTS, "accept_redirects", 1),
	IP6(DAD_TRANSMITS, "dad_transmits", 1),
	IP6(RTR_SOLICITS, "router_solicitations", -1),
	IP6(USE_TEMPADDR, "use_tempaddr", 0),
	IP6(MAX_ADDRESSES, "max_addresses", 16),
	IP6(FORCE_MLD_VERSION, "force_mld_version", 0),
	IP6(ACCEPT_RA_DEFRTR, "accept_ra_defrtr", 1),
	IP6(ACCEPT_RA_PINFO, "accept_ra_pinfo", 1),
	IP6(PROXY_NDP, "proxy_ndp", 0),
	IP6(ACCEPT_SOURCE_ROUTE, "accept_source_route", 0),
	IP6(ACCEPT_DAD, "accept_dad", 1),
	IP6(FORCE_TLLAO, "force_tllao", 0),
	IP6(NDISC_NOTIFY, "ndisc_notify", 0),
	IP6(SUPPRESS_FRAG_NDISC, "suppress_frag_ndisc", 1),
	IP6(ACCEPT_RA_FROM_LOCAL, "accept_ra_from_local", 0),
	IP6(ACCEPT_RA_MTU, "accept_ra_mtu", 1),
	IP6(USE_OIF_ADDRS_ONLY, "use_oif_addrs_only", 0),
	IP6(ACCEPT_RA_MIN_HOP_LIMIT, "accept_ra_min_hop_limit", 1),
	IP6(IGNORE_ROUTES_WITH_LINKDOWN, "ignore_routes_with_linkdown", 0),
	IP6(DROP_UNICAST_IN_L2_MULTICAST, "drop_unicast_in_l2_multicast", 0),
	IP6(DROP_UNSOLICITED_NA, "drop_unsolicited_na", 0),
	IP6(KEEP_ADDR_ON_DOWN, "keep_addr_on_down", 0),
	IP6(DISABLE_POLICY, "disable_policy", 0),
};

_Static_assert(ARRAY_SIZE(rows) == NET_SYSCTLS, "NET_SYSCTLS is the number of rows");

const char *net_sysctl_name(unsigned i)
{
	return i < ARRAY_SIZE(rows) ? rows[i].name : NULL;
}

void net_sysctls_read(const struct nlattr *spec, struct net_sysctls *ret)
{
	const struct nlattr *arrays[] = {
		nl_attr_in(nl_attr_in(spec, AF_INET), IFLA_INET_CONF),
		nl_attr_in(nl_attr_in(spec, AF_INET6), IFLA_INET6_CONF),
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct nlattr *of = arrays[rows[i].family == AF_INET6];
		int32_t value;

		/*
		 * Skips a sysctl that the kernel's array of values does not have. The array is
		 * shorter on an older kernel, and missing on a kernel without IPv6.
		 */
		if (!of || nl_attr_len(of) < (rows[i].at + 1U) * sizeof(value))
			continue;
		memcpy(&value, (const char *)nl_attr_data(of) + rows[i].at * sizeof(value),
			sizeof(value));
		ret->set[i] = value != rows[i].usual;
		ret->value[i] = ret->set[i] ? value : 0;
	}
}

int net_sysctls_apply(int proc, const struct net_interface *of)
{
	char path[128], text[12];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *slash = strchr(rows[i].name, '/');

		if (!of->sysctls.set[i])
			continue;
		snprintf(path, sizeof(path), "sys/net/%.*s/conf/%s%s", (int)(slash - rows[i].name),
			rows[i].name, of->name, slash);
		snprintf(text, sizeof(text), "%d", of->sysctls.value[i]);
		int r = path_write_proc(proc, path, text);
		/*
		 * Warns if the guest's kernel has no such sysctl, because it is too old or has no
		 * IPv6.
		 */
		if (r == -ENOENT) {
			log_warn("network interface %s: the guest's kernel has no %s, which is %s "
				 "on the host",
				of->name, path + strlen("sys/"), text);
			err_clear();
		} else if (r < 0) {
			return err_ctx(r, "write %s to /proc/%s", text, path);
		}
	}
	return 0;
}
