/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the monitor share. One thread, but for struct streams. */
#pragma once
#include "agent/agent.h"
#include "engine/engine.h"
#include "engine/share.h"
#include "engine/streams.h"
#include "monitor/monitor.h"
#include "netsetup/net_tap.h"

#define GUEST_LOG_MAX 4096   /* of the guest's console, its end: for errors */
#define GUEST_LINES_MAX 1000 /* of its agent's, in the host's log */
#define CLIENTS_MAX 64

/* A command that is connected to the control socket. */
struct client {
	int sock; /* -EBADF: free */
	struct agent_reader reader;
	uint32_t process; /* > 0: an exec's, whose life this connection is */
	uint64_t request; /* > 0: its answer is awaited */
	bool watches;     /* it is told when the guest's kernel kills for want of memory */
	bool ended;       /* its process has exited, with `status`; output may still flow */
	int status;
};

/* What a guest has to end in by SIGKILL; podman waits for 5 seconds. */
#define KILL_GRACE_MS 3000

struct monitor {
	const struct monitor_args *a;
	struct engine engine;
	struct jail jail;
	bool jailed; /* nothing can be opened or changed any more */
	struct share share;
	struct streams streams;
	struct agent_reader reader;
	struct client clients[CLIENTS_MAX];
	int agent;   /* stream to the guest's agent; -EBADF until it has connected */
	int channel; /* to the runtime while it creates; -EBADF afterwards */
	int starter; /* who is told whether the program could be started */
	int start_socket, start_lock, control;
	int signals;           /* signalfd */
	int console;           /* our terminal's slave side, or -EBADF */
	int guest_log;         /* our end of the guest's console */
	int64_t deadline;      /* of the boot: CLOCK_MONOTONIC, milliseconds; 0: none */
	int64_t kill_deadline; /* of a guest that was told to kill */
	uint32_t next_process;
	uint64_t next_request;
	bool greeted; /* the agent has said hello */
	bool created; /* the guest's INIT waits for its start */
	bool running; /* it has become the program */
	bool exited;  /* with `status`, as waitpid(2) has it */
	bool cut;     /* switched off, its output unread: it did not obey SIGKILL */
	int status;
	struct net_config net; /* of the container's network namespace */
	struct net_tap taps[ENGINE_NICS_MAX];
	unsigned lines;  /* that the agent has had logged */
	int filter_slot; /* of the compiled system call filter; -1: none */
	char log[GUEST_LOG_MAX];
	size_t log_len;
};

/* boot.c: everything up to a machine that only has to be let run */
int monitor_boot(struct monitor *m) must_check;

/* guest.c: what the guest says; a message of its agent */
int monitor_on_frame(struct monitor *m, const struct agent_frame *f) must_check;
/* An answer of the process that makes the root read-only. */
int monitor_on_sealed(struct monitor *m) must_check;
/* The agent has said hello: it is told what to make. */
int monitor_send_create(struct monitor *m) must_check;
int monitor_send_start(struct monitor *m) must_check;
int monitor_send_signal(struct monitor *m, uint32_t process, int sig, bool all) must_check;
int monitor_send_resize(struct monitor *m, uint32_t process, unsigned rows, unsigned columns)
	must_check;
/* The container's terminal, as large as it is here; nothing where it has none. */
int monitor_send_size(struct monitor *m) must_check;

/* words.c: what is told of a machine that failed */
/* What the guest's console says is kept, its end, for the case that this is its last word. */
bool monitor_on_log(struct monitor *m);
/* Adds the end of the guest's log to the message. */
int monitor_last_words(struct monitor *m, int r) must_check;
/*
 * Adds the other hypervisor, where the machine never got as far as to say hello: as where KVM is
 * there and can't run Linux (see vm_kvm_runs_linux()). Not where a server has gone (-EPIPE).
 */
int monitor_name_other(const struct monitor *m, int r) must_check;

/* control.c: what commands say */
int monitor_accept(struct monitor *m) must_check;
void monitor_on_client(struct monitor *m, struct client *c);
void client_close(struct client *c);
/* Hands a frame on to a client as it is. */
void client_forward(struct client *c, const struct agent_frame *f);
