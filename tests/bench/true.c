/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /bin/true of the containers whose start is measured. busybox has 1.3 MB resident, more than
 * caisson, so that the peak of a run would be busybox's.
 */
int main(void)
{
	return 0;
}
