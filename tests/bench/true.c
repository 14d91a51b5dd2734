/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This is the /bin/true in the containers whose start is measured. busybox cannot be used, because
 * it has 1.3 MB resident, more than caisson, so that the peak of a run would be busybox's.
 */
int main(void)
{
	return 0;
}
