/* SPDX-License-Identifier: Apache-2.0 */
/*
 * glibc's archive is compiled so that pthread_cancel() and pthread_exit() can unwind through it,
 * and therefore wants gcc's unwinder, which is 25 KB. caisson calls neither of the two: its
 * threads return. So the static program has these functions in place of the unwinder. A future
 * call of either of the two would end in abort().
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
