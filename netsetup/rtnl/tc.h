/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic control: all that comes in at one interface goes out at another. Internal to netsetup/.
 */
#pragma once
#include "netsetup/rtnl/netlink.h"

/*
 * *ret_own_qdisc: the interface had no ingress qdisc, so that it goes with the redirection. A
 * redirection to a device that is gone is replaced; -EBUSY if it is there.
 */
int tc_redirect(struct nl *nl, int from, int to, bool *ret_own_qdisc) must_check;

/*
 * Removes a redirection to a device that is gone, and the ingress qdisc if nothing else is in it.
 * 1: there was one.
 */
int tc_redirect_sweep(struct nl *nl, int from) must_check;

/* 0 if there is none or the interface is gone. */
int tc_redirect_remove(struct nl *nl, int from, bool own_qdisc) must_check;
