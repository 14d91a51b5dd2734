/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redirects packets by a filter with the action mirred. The filter matches every packet, and
 * belongs to the interface's ingress qdisc, or to a clsact qdisc if the interface has one already.
 * The filter is of the kind matchall. If the kernel has no matchall module, the filter is a u32
 * filter with an empty mask, which matches every packet too.
 */
#include "netsetup/rtnl/tc.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <stdio.h>

/* the parent of the filter: the ingress side of an ingress qdisc or of a clsact qdisc */
#define PARENT TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
#define PRIORITY 1u /* the first priority, so that caisson's filter runs before any other filter */

static void start_request(
	struct nl_req *q, uint16_t type, uint16_t flags, int index, uint32_t parent)
{
	bool filter = type != RTM_NEWQDISC && type != RTM_DELQDISC;
	struct tcmsg m = {.tcm_ifindex = index, .tcm_parent = parent};

	if (!filter)
		m.tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	/* a dump names no priority, because it covers all priorities */
	else if (type != RTM_GETTFILTER)
		m.tcm_info = TC_H_MAKE(PRIORITY << 16, htons(ETH_P_ALL));
	nl_req_init(q, type, flags, &m, sizeof(m));
}

static int add_qdisc(struct nl *nl, int index)
{
	struct nl_req q;

	start_request(&q, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index, TC_H_INGRESS);
	nl_put_str(&q, TCA_KIND, "ingress");
	int r = nl_call(nl, &q, NULL, NULL);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return err_ctx(r, "the kernel has no ingress qdisc: modprobe sch_ingress");
	return r < 0 && r != -EEXIST ? err_ctx(r, "add an ingress qdisc") : r;
}

static void put_mirred(struct nl_req *q, uint16_t type, int to)
{
	struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to};
	size_t list = nl_nest(q, type);
	size_t first = nl_nest(q, 1);

	nl_put_str(q, TCA_ACT_KIND, "mirred");
	size_t options = nl_nest(q, TCA_ACT_OPTIONS);
	nl_put(q, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	nl_nest_end(q, options);
	nl_nest_end(q, first);
	nl_nest_end(q, list);
}

static int add_filter(struct nl *nl, int from, int to, bool matchall)
{
	struct {
		struct tc_u32_sel sel;
		struct tc_u32_key key;
	} any = {.sel = {.flags = TC_U32_TERMINAL, .nkeys = 1}};
	struct nl_req q;

	start_request(&q, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from, PARENT);
	nl_put_str(&q, TCA_KIND, matchall ? "matchall" : "u32");
	size_t options = nl_nest(&q, TCA_OPTIONS);
	if (!matchall)
		nl_put(&q, TCA_U32_SEL, &any, sizeof(any));
	put_mirred(&q, matchall ? TCA_MATCHALL_ACT : TCA_U32_ACT, to);
	nl_nest_end(&q, options);
	return nl_call(nl, &q, NULL, NULL);
}

static int remove_filter(struct nl *nl, int from)
{
	struct nl_req q;

	start_request(&q, RTM_DELTFILTER, 0, from, PARENT);
	return nl_call(nl, &q, NULL, NULL);
}

/* What the list of an interface's filters shows. */
struct present {
	unsigned others; /* number of filters that have another priority than caisson's filter */
	bool stale;      /* a filter redirects to a device that is gone */
	/* index of the device to which a filter redirects; 0: no filter redirects */
	uint32_t to;
	/* a filter with the priority of caisson's filter does something other than redirect */
	bool stranger;
};

static int read_filter(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[TCA_OPTIONS + 1], *list, *params;
	const struct tcmsg *m = nl_payload(h);
	struct present *present = arg;
	struct tc_mirred mirred;

	int r = nl_attrs(h, sizeof(*m), attrs, TCA_OPTIONS);
	if (r >= 0 && TC_H_MAJ(m->tcm_info) >> 16 != PRIORITY)
		present->others++;
	if (r < 0 || TC_H_MAJ(m->tcm_info) >> 16 != PRIORITY || !attrs[TCA_OPTIONS])
		return r;
	const char *kind = nl_attr_str(attrs[TCA_KIND], "");
	bool u32 = streq(kind, "u32");
	/*
	 * Skips the hash table of a u32 filter, which the kernel lists as a filter of its own with
	 * a handle and no action.
	 */
	if (u32 && !TC_U32_NODE(m->tcm_handle))
		return 0;
	list = nl_attr_in(attrs[TCA_OPTIONS], u32 ? TCA_U32_ACT : TCA_MATCHALL_ACT);
	params = nl_attr_in(nl_attr_in(nl_attr_in(list, 1), TCA_ACT_OPTIONS), TCA_MIRRED_PARMS);
	if ((!u32 && !streq(kind, "matchall")) || !nl_attr_copy(params, &mirred, sizeof(mirred)))
		present->stranger = true;
	else if (mirred.ifindex)
		present->to = mirred.ifindex;
	else
		present->stale = true;
	return 0;
}

/*
 * Prepares an interface that had an ingress qdisc already for caisson's filter: removes a
 * redirection to a device that is gone, and fails if another filter has caisson's priority.
 */
static int make_room_for_filter(struct nl *nl, int from)
{
	struct present present = {0};
	struct nl_req q;

	start_request(&q, RTM_GETTFILTER, NLM_F_DUMP, from, PARENT);
	int r = nl_call(nl, &q, read_filter, &present);
	if (r < 0)
		return err_ctx(r, "list its traffic filters");
	if (present.stranger)
		return err_set(EBUSY, "it has a traffic filter of priority %u already", PRIORITY);
	if (present.to)
		return err_set(EBUSY,
			"its traffic is redirected already, to interface %u: another virtual "
			"machine uses it",
			present.to);
	r = present.stale ? remove_filter(nl, from) : 0;
	return r < 0 ? err_ctx(r, "remove the redirection that another machine has left") : 0;
}

int tc_redirect(struct nl *nl, int from, int to, bool *ret_own_qdisc)
{
	bool own = false;
	int r = add_qdisc(nl, from);

	if (r == -EEXIST)
		r = make_room_for_filter(nl, from);
	else
		own = r >= 0;
	if (r < 0)
		return r;
	*ret_own_qdisc = own;
	r = add_filter(nl, from, to, true);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		r = add_filter(nl, from, to, false);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		err_ctx(r, "the kernel has neither cls_matchall nor cls_u32, or no act_mirred: "
			   "modprobe cls_matchall act_mirred");
	if (r < 0 && own) {
		struct nl_req q;
		char text[512];

		snprintf(text, sizeof(text), "%s", err_msg());
		start_request(&q, RTM_DELQDISC, 0, from, TC_H_INGRESS);
		(void)!nl_call(nl, &q, NULL, NULL);
		return err_set(-r, "%s", text);
	}
	return r;
}

int tc_redirect_sweep(struct nl *nl, int from)
{
	struct present present = {0};
	struct nl_req q;

	start_request(&q, RTM_GETTFILTER, NLM_F_DUMP, from, PARENT);
	int r = nl_call(nl, &q, read_filter, &present);
	/*
	 * EINVAL, ENOENT, EOPNOTSUPP and ENODEV say that the interface, the qdisc or its kind does
	 * not exist, so there is no redirection to remove.
	 */
	if (r == -EINVAL || r == -ENOENT || r == -EOPNOTSUPP || r == -ENODEV) {
		err_clear();
		return 0;
	}
	if (r < 0 || !present.stale)
		return r < 0 ? r : 0;
	bool alone = !present.others && !present.stranger && !present.to;
	r = tc_redirect_remove(nl, from, alone);
	return r < 0 ? r : 1;
}

int tc_redirect_remove(struct nl *nl, int from, bool own_qdisc)
{
	struct nl_req q;
	int r;

	start_request(&q, RTM_DELQDISC, 0, from, TC_H_INGRESS);
	r = own_qdisc ? nl_call(nl, &q, NULL, NULL) : remove_filter(nl, from);
	if (r != -ENODEV && r != -ENOENT && r != -EINVAL)
		return r;
	/*
	 * No error: the kernel answers -EINVAL if the interface has no ingress qdisc, so there is
	 * no redirection to remove.
	 */
	err_clear();
	return 0;
}
