/* SPDX-License-Identifier: Apache-2.0 */
/* What the callers of caisson-net know of it without its library. */
#pragma once

/* The directory in which containers/KEY is, as long as a container is attached to anything. */
#define HOST_STATE "/run/caisson-net"

/* The network that containers join if none is named: for root, and for an ordinary user. */
#define JOIN_DEFAULT "caisson"
#define JOIN_USER "user"
