/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the store share. */
#pragma once
#include "images/oci/store.h"

/* Turns the process's shared lock into the exclusive one. -EBUSY: others have the store open. */
int store_lock_alone(struct store *s) must_check;
int store_lock_shared(struct store *s) must_check;
