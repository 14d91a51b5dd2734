/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces gcc's unwinder (25 KB) in the static program. glibc's archive needs an unwinder, because
 * pthread_cancel() and pthread_exit() unwind the stack. caisson calls neither of the two: its
 * threads return. If it ever called one of them, these functions would abort().
 */
#include <stdlib.h>

#define NEVER_CALLED(name) \
	_Noreturn void name(void); \
	_Noreturn void name(void) \
	{ \
		abort(); \
	}

NEVER_CALLED(_Unwind_Resume)
NEVER_CALLED(_Unwind_ForcedUnwind)
NEVER_CALLED(_Unwind_GetCFA)
NEVER_CALLED(_Unwind_Backtrace)
NEVER_CALLED(_Unwind_GetIP)
NEVER_CALLED(__gcc_personality_v0)
