/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the open descriptors of this process, so that a test can find out whether the tested code
 * leaks one.
 */
#pragma once

unsigned descriptors_below(int limit);
