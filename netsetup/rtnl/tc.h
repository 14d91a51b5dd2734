/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic control: redirects everything that arrives at one interface out of another. */
#pragma once
#include "netsetup/rtnl/netlink.h"

/*
 * Redirects. *ret_own_qdisc: the interface had no ingress qdisc before, so tc_redirect_remove() may
 * remove it. A redirection to a device that is gone is replaced; -EBUSY: there is a redirection to
 * a device that exists.
 */
int tc_redirect(struct nl *nl, int from, int to, bool *ret_own_qdisc) must_check;

/*
 * Removes a redirection to a device that is gone, and the ingress qdisc if nothing else is in it.
 * 1: there was such a redirection.
 */
int tc_redirect_sweep(struct nl *nl, int from) must_check;

/*
 * Removes the redirection, and with own_qdisc the ingress qdisc. 0 if there is none, or the
 * interface is gone.
 */
int tc_redirect_remove(struct nl *nl, int from, bool own_qdisc) must_check;
