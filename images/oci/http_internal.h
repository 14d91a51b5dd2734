/* SPDX-License-Identifier: Apache-2.0 */
/* Declares the functions for TLS, which the files http*.c share. */
#pragma once
#include "images/oci/http.h"

/*
 * Sets curl's options for TLS: the system's CAs, and the CAs and the client's certificate that are
 * in the origin's directory in certs.d (containers-certs.d(5)).
 */
int http_set_tls(struct http *h, const struct http_request *q, const struct http_origin *origin)
	must_check;

/* Says whether the machine has the file with CAs that libcurl uses if no other is named. */
bool http_has_cas(CURL *c);
