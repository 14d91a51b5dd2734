/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts this process's open descriptors, so that a test sees whether the code under test leaks
 * one.
 */
#pragma once

unsigned descriptors_below(int limit);
