/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the header WWW-Authenticate, by which a registry says how a client must prove who it is,
 * and the answers of token servers.
 */
#pragma once
#include "base/arena.h"
#include "base/str.h"

enum challenge_kind { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_kind kind;
	const char *realm, *service; /* parameters of a Bearer challenge; service may be NULL */
};

/*
 * Parses the values of WWW-Authenticate headers, one on each line. A Bearer challenge is preferred
 * to a Basic one. If the text has neither, the kind is CHALLENGE_NONE. Returns -EPROTO if a Bearer
 * challenge is malformed.
 */
int challenge_parse(struct arena *a, const char *lines, struct challenge *ret) must_check;

struct token {
	const char *text;
	int64_t seconds; /* lifetime of the token */
};

/* Parses a token server's answer. Refuses a token with characters that a header cannot hold. */
int token_parse(struct arena *a, const struct strbuf *text, const char *what, struct token *ret)
	must_check;
