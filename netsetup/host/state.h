/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what a program needs to know of caisson-net without linking its library. */
#pragma once

/*
 * directory of the records: containers/KEY exists in it while container KEY is attached to a
 * network
 */
#define HOST_STATE "/run/caisson-net"

/*
 * the networks that containers join if the user names none: JOIN_DEFAULT for root, JOIN_USER for an
 * ordinary user
 */
#define JOIN_DEFAULT "caisson"
#define JOIN_USER "user"
