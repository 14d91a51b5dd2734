/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redirects everything that arrives at one interface out of another, with the kernel's traffic
 * control.
 */
#pragma once
#include "netsetup/rtnl/netlink.h"

/*
 * Redirects every packet that arrives at the interface `from` out of the interface `to`.
 * *ret_own_qdisc is true if the interface had no ingress qdisc before, so that tc_redirect_remove()
 * may remove the qdisc. A redirection to a device that is gone is replaced. Returns -EBUSY if there
 * is a redirection to a device that exists.
 */
int tc_redirect(struct nl *nl, int from, int to, bool *ret_own_qdisc) must_check;

/*
 * Removes a redirection to a device that is gone, and the ingress qdisc if the qdisc has no other
 * filter. Returns 1 if there was such a redirection, else 0.
 */
int tc_redirect_sweep(struct nl *nl, int from) must_check;

/*
 * Removes the redirection, and also the ingress qdisc if own_qdisc is set. Returns 0 if there is no
 * redirection or the interface is gone.
 */
int tc_redirect_remove(struct nl *nl, int from, bool own_qdisc) must_check;
