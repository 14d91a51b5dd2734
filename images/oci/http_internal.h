/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of HTTP share. */
#pragma once
#include "images/oci/http.h"

/*
 * Sets what TLS needs: the system's CAs, and those and the client's certificate of the origin's
 * directory in certs.d (containers-certs.d(5)).
 */
int http_set_tls(struct http *h, const struct http_request *q, const struct http_origin *origin)
	must_check;
