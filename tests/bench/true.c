/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This is the /bin/true in the containers whose start is measured. busybox cannot be used, because
 * it needs 1.3 MB of memory, more than caisson, so the measured peak of memory would be that of
 * busybox.
 */
int main(void)
{
	return 0;
}
