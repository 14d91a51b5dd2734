/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the list of requests that are being served. A request that changes tables excludes all
 * other requests for the same clusters.
 */
#include "images/disk/qcow2/internal.h"

bool qcow2_request_blocked(const struct qcow2 *q, const struct qcow2_request *r)
{
	for (const struct qcow2_request *o = q->requests; o; o = o->next)
		if (o->start < r->end && r->start < o->end && (o->exclusive || r->exclusive))
			return true;
	return false;
}

void qcow2_request_wait(struct qcow2 *q)
{
	pthread_cond_wait(&q->wake, &q->lock);
}

void qcow2_request_add(struct qcow2 *q, struct qcow2_request *r)
{
	r->next = q->requests;
	q->requests = r;
}

void qcow2_request_begin(struct qcow2 *q, struct qcow2_request *r)
{
	pthread_mutex_lock(&q->lock);
	while (qcow2_request_blocked(q, r))
		qcow2_request_wait(q);
	qcow2_request_add(q, r);
}

void qcow2_request_end(struct qcow2 *q, struct qcow2_request *r)
{
	struct qcow2_request **p = &q->requests;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	pthread_cond_broadcast(&q->wake);
}
