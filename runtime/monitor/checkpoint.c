/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves the machine for `caisson checkpoint`, and lets a restored machine go on.
 *
 * Theory of operation. The command sends "checkpoint" with two empty files. These steps follow.
 * Each step begins when the step before it is done:
 *
 * 	1. The vsock device reads no more input for the guest's processes.
 * 	2. The agent suspends: see guest/suspend.c. It gets a random port for its next connection.
 * 	3. The engine pauses the machine and writes it to the files.
 * 	4. The command gets the reply. It makes the files durable and gives them their names.
 * 	5. The command says "end", and the machine ends; or it hangs up, and the machine goes on.
 *
 * So a command that is killed at any time leaves a container that runs. If the monitor is killed,
 * the command has no reply, and removes what it has made.
 *
 * In a restored machine the steps of INIT were done before the snapshot. When the agent has said
 * "resumed", the monitor reports the barrier "created" as INIT would, and answers "start" at once.
 */
#include <sys/eventfd.h>
#include <sys/random.h>

#include "base/log.h"
#include "monitor/monitor_internal.h"

/*
 * how many random bytes the monitor sends to a restored guest, whose kernel mixes them into its
 * random numbers
 */
#define ENTROPY 64

int checkpoint_send_suspend(struct monitor *m, uint64_t request, uint32_t port)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, "suspend");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "id", request);
	json_out_u64(&w.json, "port", port);
	return agent_send(&w, m->agent, NULL, 0);
}

int checkpoint_send_resume(struct monitor *m, bool random, bool streams)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	uint8_t entropy[ENTROPY];

	int r = agent_begin(&w, "resume");
	if (r < 0)
		return r;
	clock_write(&w.json);
	if (streams)
		streams_json(&m->streams, 0, &w.json);
	if (!random)
		return agent_send(&w, m->agent, NULL, 0);
	if (getrandom(entropy, sizeof(entropy), 0) != sizeof(entropy))
		return err_sys("draw random numbers for the guest");
	r = agent_send(&w, m->agent, entropy, sizeof(entropy));
	explicit_bzero(entropy, sizeof(entropy));
	return r;
}

static void hold_input(struct monitor *m, bool held)
{
	const uint32_t agent = m->streams.agent_port ? m->streams.agent_port : AGENT_PORT;

	virtio_vsock_hold(m->streams.device, held, agent);
}

int checkpoint_begin(struct monitor *m, struct client *c, struct agent_frame *f)
{
	struct checkpoint *k = &m->checkpoint;

	if (k->step != CHECKPOINT_NONE)
		return err_set(EBUSY, "another checkpoint of this container is under way");
	if (m->phase != PHASE_RUNNING)
		return err_set(ESRCH, "container not running");
	int r = hotplug_refuse(m);
	if (r < 0)
		return err_ctx(r, "checkpoint");
	if (f->nfds != 2)
		return err_set(EPROTO, "checkpoint: %u descriptors came: expected two", f->nfds);
	r = engine_can_save(&m->engine);
	if (r < 0)
		return r;
	*k = (struct checkpoint){.step = CHECKPOINT_SUSPENDING,
		.request = ++m->next_request,
		.owner = {.agent_port = streams_new_port(), .next_process = m->next_process}};
	k->save = (struct engine_save){.state = take_fd(&f->fds[0]),
		.memory = take_fd(&f->fds[1]),
		.owner = &k->owner,
		.owner_len = sizeof(k->owner)};
	c->change = CHANGE_CHECKPOINT;
	hold_input(m, true);
	return checkpoint_send_suspend(m, k->request, k->owner.agent_port);
}

/*
 * Ends the checkpoint and lets the guest's processes go on, whatever step the checkpoint has come
 * to.
 */
static void go_on(struct monitor *m)
{
	struct checkpoint *k = &m->checkpoint;

	if (k->step == CHECKPOINT_SAVED)
		engine_go_on(&m->engine);
	disk_error_pause_again(m);
	fd_close(&k->save.state);
	fd_close(&k->save.memory);
	hold_input(m, false);
	const bool suspended = k->step != CHECKPOINT_REFUSED;
	k->step = CHECKPOINT_NONE;
	if (suspended && checkpoint_send_resume(m, false, false) < 0)
		log_warn("the guest's processes may stand still after the checkpoint: %s",
			err_msg());
}

/*
 * Tells the command that asked for the checkpoint that the checkpoint has failed, with the reason
 * in err_msg().
 */
static void fail(struct monitor *m, int r)
{
	struct client *c = client_of_change(m, CHANGE_CHECKPOINT);

	if (c)
		client_reply(c, -r, err_msg());
	if (c)
		c->change = CHANGE_NONE;
	go_on(m);
}

bool checkpoint_on_reply(struct monitor *m, uint64_t id, const struct agent_frame *f)
{
	struct checkpoint *k = &m->checkpoint;

	if (k->step != CHECKPOINT_SUSPENDING || id != k->request)
		return false;
	int r = agent_failure(f);
	if (r < 0)
		k->step = CHECKPOINT_REFUSED;
	else
		r = engine_save(&m->engine, &k->save);
	if (r < 0)
		fail(m, r);
	else
		k->step = CHECKPOINT_SAVING;
	return true;
}

void checkpoint_on_saved(struct monitor *m)
{
	int r = engine_saved(&m->engine);
	struct client *c = client_of_change(m, CHANGE_CHECKPOINT);

	/* The machine is paused now, even if the engine could not save all of it. */
	m->checkpoint.step = CHECKPOINT_SAVED;
	if (r < 0)
		fail(m, monitor_server_words(m, r));
	else if (c)
		client_reply(c, 0, "");
	else
		go_on(m);
}

void checkpoint_on_hang_up(struct monitor *m)
{
	/*
	 * The command has hung up. While the engine saves the machine nothing is done here, because
	 * checkpoint_on_saved() finds that the command has gone. In CHECKPOINT_SUSPENDING the agent
	 * may never answer, so "resume" is sent at once; the agent handles it after "suspend".
	 */
	if (m->checkpoint.step == CHECKPOINT_SAVED || m->checkpoint.step == CHECKPOINT_SUSPENDING)
		go_on(m);
}

int checkpoint_end(struct monitor *m, const struct client *c)
{
	if (c->change != CHANGE_CHECKPOINT || m->checkpoint.step != CHECKPOINT_SAVED)
		return err_set(EPROTO, "end: there is no checkpoint");
	/*
	 * The container counts as killed by SIGKILL, as a container does whose processes CRIU has
	 * dumped.
	 */
	log_debug("microvm: ends after a checkpoint");
	m->status = SIGKILL;
	monitor_advance(m, PHASE_CUT);
	return 0;
}

/* --- functions for a machine that starts from a snapshot --- */

bool monitor_restores_on_qemu(const struct monitor_restore *r)
{
	return snapshot_claims_qemu(r->state);
}

int checkpoint_read_owner(const struct snapshot *s, struct checkpoint_owner *ret)
{
	struct snapshot_part p;

	int r = snapshot_find(s, SNAPSHOT_OWNER, 0, &p);
	if (r >= 0)
		r = snapshot_get(&p, ret, sizeof(*ret));
	if (r >= 0)
		r = snapshot_end(&p);
	if (r >= 0 && (ret->agent_port <= AGENT_PORT || ret->next_process > INT32_MAX))
		r = err_set(EBADMSG, "the snapshot's agent has port %u, its last process number %u",
			ret->agent_port, ret->next_process);
	return r;
}

int checkpoint_on_hello(struct monitor *m, bool suspended)
{
	if (!suspended)
		return err_set(EPROTO, "the restored guest's agent was not suspended");
	return checkpoint_send_resume(m, true, true);
}

int checkpoint_on_resumed(struct monitor *m)
{
	if (!m->a->restore || m->phase >= PHASE_CREATED)
		return 0;
	log_debug("microvm: resumed");
	/*
	 * Closes those standard streams of the monitor to which the restored guest has not
	 * connected, because the program had closed them before the snapshot was made.
	 */
	streams_withdraw(&m->streams, 0);
	return monitor_reach_created(m);
}
