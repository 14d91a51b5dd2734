/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what a caller of caisson-net needs to know without linking its library. */
#pragma once

/*
 * directory of the records: containers/KEY exists in it while container KEY is attached to a
 * network
 */
#define HOST_STATE "/run/caisson-net"

/* networks that containers join if none is named: for root, and for an ordinary user */
#define JOIN_DEFAULT "caisson"
#define JOIN_USER "user"
