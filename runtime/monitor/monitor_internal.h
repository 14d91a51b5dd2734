/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the monitor share. All of it belongs to the monitor's one thread, except struct
 * streams, which the devices' thread uses too. A file calls only files that stand below it:
 *
 *	monitor.c     the life of the process, and its event loop
 *	boot.c        makes the machine
 *	last_words.c  explains why a machine failed
 *	control.c     requests of commands
 *	clock.c       the guest's time of day
 *	guest.c       messages to and from the guest's agent
 *	client.c      a command's connection
 */
#pragma once
#include <signal.h>

#include "agent/agent.h"
#include "engine/engine.h"
#include "engine/share.h"
#include "engine/streams.h"
#include "monitor/monitor.h"
#include "netsetup/net_tap.h"

#define GUEST_LOG_MAX 4096   /* bytes of the guest's console output that are kept for errors */
#define GUEST_LINES_MAX 1000 /* messages of the guest's agent that are written to the host's log */
#define CLIENTS_MAX 64

/* How long output is awaited of a process that was told to end, and has. */
#define LAST_WORDS_MS 1000
/* How often the monitor looks whether output that it awaits was taken. */
#define OUTPUT_LOOK_MS 20

/* How long the guest may take to end after SIGKILL. Podman waits for 5 seconds. */
#define KILL_GRACE_MS 3000

/* A command that is connected to the control socket. */
struct client {
	int sock; /* -EBADF: this entry is free */
	struct agent_reader reader;
	uint32_t process; /* > 0: the number of the exec that lives as long as this connection */
	uint64_t request; /* > 0: the id of the request whose reply the command waits for */
	bool watches;     /* the command is told when the guest's kernel kills for want of memory */
	bool ended;       /* the exec's process has exited with `status`; output may still flow */
	int status;
	bool told;       /* the exec got a signal that asks a process to end */
	int64_t give_up; /* CLOCK_MONOTONIC, ms: output is awaited until then; 0: for ever */
};

/* The monitor's life. It only ever goes to a later phase, and may skip phases. */
enum monitor_phase {
	PHASE_PREPARING, /* the monitor opens files and builds the machine */
	PHASE_BOOTING, /* the monitor is in its jail, so it can open and change nothing any more */
	PHASE_GREETED, /* the guest's agent has said hello */
	PHASE_CREATED, /* the guest's INIT waits for its start */
	PHASE_RUNNING, /* INIT has become the program */
	PHASE_EXITED,  /* the program has exited with `status`; output may still flow */
	PHASE_CUT, /* the guest ignored SIGKILL: it is switched off, its output is not awaited */
};

/* What boot.c decides and opens. The guest's container is made from it, and the end undoes it. */
struct boot {
	int64_t deadline; /* CLOCK_MONOTONIC, ms, for the container's creation; 0: it is created */
	int filter_slot;  /* the slot of the compiled system call filter; -1: there is none */
	struct net_config net; /* of the container's network namespace */
	struct net_tap taps[ENGINE_NICS_MAX];
};

struct monitor {
	const struct monitor_args *a;
	enum monitor_phase phase;
	int status; /* from PHASE_EXITED on: as waitpid(2) has it */
	struct boot boot;
	struct engine engine;
	struct jail jail;
	struct share share;
	struct streams streams;
	struct agent_reader reader;
	struct client clients[CLIENTS_MAX];
	int agent;   /* the stream to the guest's agent; -EBADF: the agent is not connected */
	int channel; /* to the runtime while the runtime creates; -EBADF afterwards */
	int starter; /* to the command that is told whether the program could be started */
	int start_socket, start_lock, control; /* as in struct monitor_args */
	int signals;                           /* a signalfd */
	int clock;             /* a timerfd that fails when the host's clock is set; -EBADF: none */
	int console;           /* our terminal's slave side, or -EBADF */
	int guest_log;         /* our end of the guest's console */
	bool told;             /* a signal came that asks the guest's process to end */
	bool awaits_output;    /* monitor_send_exits() has to be called again soon */
	int64_t kill_deadline; /* CLOCK_MONOTONIC, ms, for a guest that got SIGKILL; 0: none */
	uint32_t next_process;
	uint64_t next_request;
	unsigned lines; /* messages of the agent's that were written to the log so far */
	char log[GUEST_LOG_MAX];
	size_t log_len;
};

/* Whether the signal asks a process to end. */
static inline bool monitor_is_end(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT || sig == SIGKILL;
}

static inline void monitor_advance(struct monitor *m, enum monitor_phase to)
{
	if (m->phase < to)
		m->phase = to;
}

/* boot.c: makes a machine that engine_run() can let run. */
int monitor_boot(struct monitor *m) must_check;

/* guest.c: handles a message of the guest's agent. */
int monitor_on_frame(struct monitor *m, const struct agent_frame *f) must_check;
/* Takes the answer of the process that makes the shared root read-only (engine/share.h). */
int monitor_on_sealed(struct monitor *m) must_check;
int monitor_send_start(struct monitor *m) must_check;
int monitor_send_signal(struct monitor *m, uint32_t process, int sig, bool all) must_check;
int monitor_send_resize(struct monitor *m, uint32_t process, unsigned rows, unsigned columns)
	must_check;
/* Gives the container's terminal, if it has one, the size of ours. */
int monitor_send_size(struct monitor *m) must_check;

/*
 * clock.c: *ret can be read when the guest's clock has to be set, and then clock_changed() sets it.
 */
int clock_watch(int *ret) must_check;
void clock_changed(struct monitor *m);
void clock_tell(struct monitor *m);               /* the guest sets its clock to the host's */
void clock_on_signal(struct monitor *m, int sig); /* SIGCONT: the monitor was stopped */
void clock_write(struct json_out *o);             /* the member "time" of "create" and "clock" */

/* last_words.c: reads the guest's console and keeps the end; returns whether there was anything. */
bool monitor_on_log(struct monitor *m);
/* Adds the end of the guest's console output to the current error. Returns r. */
int monitor_last_words(struct monitor *m, int r) must_check;
/*
 * Adds to the current error that the other hypervisor may do, if the guest never said hello: that
 * is how a KVM looks that can't run Linux (vm_kvm_runs_linux()). An error of a server that has gone
 * (-EPIPE) stays as it is. Returns r.
 */
int monitor_name_other(const struct monitor *m, int r) must_check;

/* control.c: a command connects, and a command has sent something or hung up. */
int monitor_accept(struct monitor *m) must_check;
void monitor_on_client(struct monitor *m, struct client *c);

/* client.c */
void client_close(struct client *c);
/* Sends a frame of the guest's to the command as it is. */
void client_forward(struct client *c, const struct agent_frame *f);
/* Tells the command that its request failed; code 0 tells that it succeeded. */
void client_reply(struct client *c, int code, const char *message);
/*
 * Tells each proxy whose process has exited, once all of the process's output has been written.
 * Returns whether one is left that waits for that.
 */
bool monitor_send_exits(struct monitor *m);
