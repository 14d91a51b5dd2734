/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry answers to say how a client proves who it is: WWW-Authenticate, and tokens. */
#pragma once
#include "base/arena.h"
#include "base/str.h"

enum challenge_kind { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_kind kind;
	const char *realm, *service; /* a Bearer's; service may be NULL */
};

/*
 * Parses the values of WWW-Authenticate, a line each, and takes Bearer before Basic. kind is
 * CHALLENGE_NONE if there is neither. -EPROTO: a Bearer challenge is malformed.
 */
int challenge_parse(struct arena *a, const char *lines, struct challenge *ret) must_check;

struct token {
	const char *text;
	int64_t seconds; /* how long it holds */
};

/* Parses a token server's answer. A token that could not be in a header is refused. */
int token_parse(struct arena *a, const struct strbuf *text, const char *what, struct token *ret)
	must_check;
