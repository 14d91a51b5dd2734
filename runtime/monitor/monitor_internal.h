/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data and functions that the files of the monitor share. Only the thread that runs the
 * monitor's event loop uses these data, except for struct streams, which the devices' thread uses
 * too. A file calls only functions of files that stand below it in this list:
 *
 * 	monitor.c     the life of the process, and its event loop
 * 	boot.c        makes the machine
 * 	last_words.c  explains why a machine failed
 * 	control.c     requests of commands
 * 	foreign.c     the machine of a foreign guest, an operating system with an init of its own
 * 	foreign_agent.c  the agent of caisson in a foreign guest, if it has one
 * 	foreign_qga.c qemu-guest-agent in a foreign guest, if it has one
 * 	qga.c         the connection to qemu-guest-agent
 * 	qga_messages.c  the requests to qemu-guest-agent, and its answers
 * 	console.c     the console of a foreign guest
 * 	seed.c        the disk by which cloud-init configures a foreign guest
 * 	clock.c       the guest's time of day
 * 	guest.c       messages to and from the guest's agent
 * 	template.c    machines that start from a template
 * 	template_file.c  the files of templates in the cache
 * 	template_pages.c  the files that say which pages of a template are used first
 * 	checkpoint.c  snapshots of the machine
 * 	hotplug.c     devices that commands attach to the running machine
 * 	disk_error.c  pauses the machine after an error of its disk on the host
 * 	disk_size.c   makes the machine's disk larger
 * 	spans.c       how long each part of the start took, for --timeline
 * 	guest_steps.c how long the guest took for each step, for --timeline
 * 	client.c      a command's connection
 */
#pragma once
#include <signal.h>

#include "agent/agent.h"
#include "engine/disk_server.h"
#include "engine/engine.h"
#include "engine/share.h"
#include "engine/streams.h"
#include "images/guest/guest_kernel.h"
#include "monitor/console.h"
#include "monitor/guest_steps.h"
#include "monitor/hotplug.h"
#include "monitor/monitor.h"
#include "monitor/qga.h"
#include "monitor/qga_messages.h"
#include "monitor/template.h"
#include "netsetup/net_tap.h"

/* how many of the last bytes of the guest's console output are stored for error messages */
#define GUEST_LOG_MAX 4096
/* how many messages of the guest's agent the monitor writes to the host's log at most */
#define GUEST_LINES_MAX 1000
#define CLIENTS_MAX 64
/*
 * The smallest limit of open files that a monitor works with: it waits for CLIENTS_MAX commands
 * among others, and each queue of a device has two eventfds.
 */
#define MONITOR_FILES 256

/*
 * How long, in ms, the monitor waits until the rest of a process's output is read, if the process
 * has ended after a signal that asked it to end.
 */
#define LAST_WORDS_MS 1000
/* How often, in ms, the monitor checks whether the rest of a process's output has been read. */
#define OUTPUT_LOOK_MS 20

/*
 * How long, in ms, the guest may take to end after SIGKILL. The time is shorter than podman's limit
 * of 5 seconds.
 */
#define KILL_GRACE_MS 3000

/* A change of the machine for which a command has asked. One change is made at a time. */
enum client_change {
	CHANGE_NONE,
	CHANGE_CHECKPOINT,
	CHANGE_DISK_SIZE, /* vm.image becomes larger */
	CHANGE_DEVICES,   /* a device is attached or detached */
};

/* What a command has asked qemu-guest-agent for. */
enum qga_kind { QGA_INFO, QGA_EXEC, QGA_STATUS };

/* What a command that uses qemu-guest-agent waits for, and the process that it has started. */
struct client_qga {
	uint64_t request; /* id of the request that is under way; 0: none */
	enum qga_kind kind;
	int64_t pid; /* of the process, which the guest has chosen; 0: it is not started */
	struct qga_status status;
	size_t taken; /* how many bytes of the status's output the command has taken */
};

/* A caisson command that has connected to the monitor's control socket. */
struct client {
	int sock; /* socket of the connection; -EBADF: this entry of the table is free */
	struct agent_reader reader;
	/*
	 * number of the process in the guest if the command is the proxy of an exec; the guest
	 * kills the process when this connection ends; 0: the command is no exec
	 */
	uint32_t process;
	/* id of the request whose reply the command waits for; 0: the command waits for no reply */
	uint64_t request;
	/*
	 * whether the command wants a message when the guest's kernel kills a process because
	 * memory ran out
	 */
	bool watches;
	enum client_change change; /* the change that is under way for the command */
	struct client_qga qga;
	bool ended; /* the exec's process has exited with `status`; its output may still flow */
	int status;
	bool told; /* the exec's process got a signal that asks it to end */
	/*
	 * until when the monitor waits for the exec's output to be read (CLOCK_MONOTONIC, ms); 0:
	 * the monitor waits forever
	 */
	int64_t give_up;
};

enum checkpoint_step {
	CHECKPOINT_NONE,
	CHECKPOINT_SUSPENDING, /* the agent has been asked to suspend, and has not answered yet */
	/* the agent has answered that it cannot suspend, so it needs no message "resume" */
	CHECKPOINT_REFUSED,
	CHECKPOINT_SAVING, /* the engine saves the machine */
	/*
	 * the machine is paused; the command that asked for the checkpoint decides whether the
	 * machine ends or goes on
	 */
	CHECKPOINT_SAVED,
};

/* What the monitor stores in a snapshot for the monitor that will restore the machine. */
struct checkpoint_owner {
	uint32_t agent_port; /* vsock port at which the agent connects after a restore */
	uint32_t next_process;
};

/* the checkpoint of this container that is under way */
struct checkpoint {
	enum checkpoint_step step;
	uint64_t request; /* id of the message "suspend" */
	struct engine_save save;
	struct checkpoint_owner owner;
};

/*
 * The phases of the monitor's life. The monitor goes through the phases in this order, and may skip
 * some of them.
 */
enum monitor_phase {
	PHASE_PREPARING, /* the monitor opens files and builds the machine */
	PHASE_BOOTING, /* the monitor is in its jail, so it can no longer open or change anything */
	PHASE_GREETED, /* the guest's agent has sent "hello" */
	PHASE_CREATED, /* INIT in the guest waits for `start` */
	PHASE_RUNNING, /* INIT has become the program */
	PHASE_EXITED,  /* the program has exited with `status`; its output may still flow */
	PHASE_CUT,     /* the monitor ends the microVM without waiting for a reader of the output */
};

/*
 * What boot.c has prepared on the host. The monitor makes the message "create" to the guest from
 * this struct. When the monitor ends, clean_up() closes the taps.
 */
struct boot {
	/*
	 * until when the container must be created (CLOCK_MONOTONIC, ms); 0: the container is
	 * created
	 */
	int64_t deadline;
	struct net_config net; /* configuration of the container's network namespace */
	struct net_tap taps[ENGINE_NICS_MAX];
};

/* What spans.c knows of the times of the start. */
struct spans {
	/*
	 * when the monitor's current span, a timed part of the start, began, in ns of
	 * CLOCK_MONOTONIC
	 */
	uint64_t from;
	struct guest_steps guest; /* the first step of the guest begins when the machine runs */
};

struct monitor {
	const struct monitor_args *a;
	struct spans spans;
	enum monitor_phase phase;
	int status; /* from PHASE_EXITED on: exit status of the program, as waitpid(2) returns it */
	struct boot boot;
	struct engine engine;
	struct jail jail;
	struct share share;
	struct disk_server disk;
	struct streams streams;
	struct console console_io; /* a foreign guest's console; zeroed for another guest */
	struct checkpoint checkpoint;
	struct hotplug hotplug;
	struct template template;
	struct qga qga;
	bool qga_told; /* qemu-guest-agent was asked to power the machine off */
	struct agent_reader reader;
	struct client clients[CLIENTS_MAX];
	int agent; /* connection to the guest's agent; -EBADF: the agent is not connected */
	/* whether the agent of a foreign guest is connected and has sent "hello" */
	bool agent_greeted;
	/* socket to the runtime that creates the container; -EBADF once the container is created */
	int channel;
	/* connection of the command that waits for the program's start (`start` or `run`) */
	int starter;
	/* have the same meaning as in struct monitor_args */
	int start_socket, start_lock, control;
	int signals; /* signalfd with all signals of the monitor */
	/* timerfd whose read fails when the host's clock is set; -EBADF: there is no such timer */
	int clock;
	int console;   /* slave side of the monitor's terminal, or -EBADF */
	int guest_log; /* socket from which the guest's console output is read */
	bool told;     /* the guest's process got a signal that asks it to end */
	/*
	 * some output waits for a reader, so the monitor calls monitor_send_exits() every
	 * OUTPUT_LOOK_MS
	 */
	bool awaits_output;
	/*
	 * until when a guest that got SIGKILL must end (CLOCK_MONOTONIC, ms); 0: the guest got no
	 * SIGKILL
	 */
	int64_t kill_deadline;
	/*
	 * when a signal to the monitor pressed a foreign guest's power button for the first time
	 * (CLOCK_MONOTONIC, ms); 0: none has
	 */
	int64_t power_pressed;
	/* a positive errno: the machine is paused after this error of vm.image; 0: it is not */
	int disk_error;
	bool resizes_disk; /* vm.image is being made larger */
	/* until when that has to be done (CLOCK_MONOTONIC, ms); 0: no command waits for it */
	int64_t resize_deadline;
	bool failed; /* monitor_tell_failure() was called */
	bool frozen; /* `caisson pause` has stopped the CPUs of a foreign guest's machine */
	uint32_t next_process;
	uint64_t next_request;
	unsigned lines; /* how many messages of the agent were written to the log so far */
	char log[GUEST_LOG_MAX];
	size_t log_len;
};

/* Says whether the signal asks a process to end. */
static inline bool monitor_is_end(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT || sig == SIGKILL;
}

static inline void monitor_advance(struct monitor *m, enum monitor_phase to)
{
	if (m->phase < to)
		m->phase = to;
}

/*
 * start.c: does the steps of the plan whose party is MONITOR, and starts the machine in the jail.
 */
int monitor_start(struct monitor *m) must_check;

/* boot.c: makes the machine and its engine, so that engine_run() can start the guest. */
int monitor_boot(struct monitor *m) must_check;

/*
 * The functions of guest.c send and handle the messages of the guest's agent. monitor_on_frame()
 * handles one message.
 */
int monitor_on_frame(struct monitor *m, const struct agent_frame *f) must_check;
/*
 * Reads the file server's answer to the request to make the shared root read-only (engine/share.h).
 */
int monitor_on_sealed(struct monitor *m) must_check;
/*
 * Reports the barrier "created" to the runtime, when INIT has reached it in the guest or the
 * machine was restored. Makes the shared root read-only before, if config.json asks for that.
 */
int monitor_reach_created(struct monitor *m) must_check;
int monitor_send_create(struct monitor *m) must_check;
int monitor_send_start(struct monitor *m) must_check;
int monitor_send_signal(struct monitor *m, uint32_t process, int sig, bool all) must_check;
int monitor_send_resize(struct monitor *m, uint32_t process, unsigned rows, unsigned columns)
	must_check;
/* If the container has a terminal, gives it the size of the monitor's terminal. */
int monitor_send_size(struct monitor *m) must_check;

/*
 * The functions of spans.c tell the runtime how long each part of the start took, if it has asked
 * for that (--timeline). A span is one such part.
 *
 * Each span of the monitor itself begins at the end of the span before. spans_step() ends a span
 * that is the step `s` of the plan, and spans_mark() ends any other span. spans_ran() notes that
 * the guest's kernel begins to run. spans_hello() and spans_asked() are called when "hello" comes
 * and when "create" is sent. spans_of_guest() passes on the message "steps".
 */
void spans_begin(struct monitor *m);
void spans_mark(struct monitor *m, const char *name, bool waits);
void spans_step(struct monitor *m, const struct step *s);
void spans_ran(struct monitor *m);
void spans_hello(struct monitor *m, const struct agent_frame *f);
void spans_asked(struct monitor *m);
int spans_of_guest(struct monitor *m, const struct agent_frame *f) must_check;

/*
 * The functions of clock.c keep the guest's clock right. clock_watch() makes *ret, a descriptor
 * that is readable when the guest's clock has to be set. The loop then calls clock_changed(), which
 * sets the clock.
 */
int clock_watch(int *ret) must_check;
void clock_changed(struct monitor *m);
void clock_tell(struct monitor *m); /* Sends the host's time to the guest, which sets its clock. */
/*
 * Sends the host's time to the guest if sig is SIGCONT, because the host's clock may have been set
 * while the monitor was stopped.
 */
void clock_on_signal(struct monitor *m, int sig);
/* Writes the member "time" of the messages "create", "clock" and "resume". */
void clock_write(struct json_out *o);

/*
 * The functions of last_words.c explain why a machine failed. monitor_on_log() reads the output of
 * the guest's console and stores the last GUEST_LOG_MAX bytes. It returns whether there was any
 * output.
 */
bool monitor_on_log(struct monitor *m);
/* Says whether the last output of the guest's console contains the message of a kernel panic. */
bool monitor_saw_panic(const struct monitor *m);
/* Adds the end of the guest's console output to the current error message. Returns r. */
int monitor_last_words(struct monitor *m, int r) must_check;
/*
 * Adds to the current error message what the file server has just written to the log, into which
 * the guest's console writes too. Returns r.
 */
int monitor_server_words(struct monitor *m, int r) must_check;
/*
 * Tells the user why the machine failed, or that a disk has not all that the guest wrote. The
 * monitor writes the message to the file `failure`, from which `run` reads, prints and logs it. If
 * there is no such file, or another message is in it, the monitor logs the message itself.
 */
void monitor_tell_failure(struct monitor *m, const char *message);
/*
 * Adds to the current error message that QEMU may work, if the machine ran on KVM and the guest's
 * agent never sent "hello". KVM on some hosts cannot run Linux, and then the agent never sends
 * "hello" (vm_kvm_runs_linux()). The error of a server that has ended (-EPIPE) stays as it is.
 * Returns r.
 */
int monitor_name_other(const struct monitor *m, int r) must_check;

/*
 * seed.c: makes the disk from which cloud-init configures a foreign guest, as a file in memory.
 * *ret is its descriptor, or -EBADF if the guest gets no such disk.
 */
int monitor_make_seed(struct monitor *m, int *ret) must_check;

/*
 * foreign.c: the functions that the monitor's loop calls for a foreign guest. foreign_created() is
 * called once the machine is built, and foreign_start() when the command `start` asks for the
 * guest's start.
 */
bool foreign_here(const struct monitor *m);
int foreign_created(struct monitor *m) must_check;
int foreign_start(struct monitor *m) must_check;
int foreign_signal(struct monitor *m, int sig) must_check; /* a signal that the monitor got */
int foreign_request(struct monitor *m, struct client *c, struct agent_frame *f) must_check;
int foreign_ended(struct monitor *m) must_check; /* handles the machine's end */
/*
 * Returns 1 if the request can be answered although `caisson pause` may have stopped the machine's
 * CPUs, or fails with -EBUSY.
 */
int foreign_check_frozen(const struct monitor *m, const char *request) must_check;

/*
 * The functions of foreign_agent.c. foreign_take_agent() handles a new connection of the agent, and
 * foreign_on_agent() what the agent has sent. foreign_agent_answers() says whether the agent and
 * not foreign.c handles the request. foreign_shut_down() lets the agent ask the operating system to
 * power off, and returns 1, or 0 if there is no agent that could.
 */
void foreign_take_agent(struct monitor *m);
void foreign_on_agent(struct monitor *m);
bool foreign_agent_answers(
	const struct monitor *m, const struct client *c, const struct agent_frame *f);
int foreign_shut_down(struct monitor *m) must_check;

/*
 * The functions of foreign_qga.c. foreign_qga_open() takes the socket to the port of
 * qemu-guest-agent, and foreign_qga_answers() says whether an agent has opened the port.
 * foreign_qga_request() handles the requests of commands that begin with "qga".
 * foreign_qga_on_port() is called when the port was opened or closed. foreign_qga_shut_down() asks
 * the agent to power off, if there is one that was not asked yet.
 */
void foreign_qga_open(struct monitor *m, int sock);
bool foreign_qga_answers(const struct monitor *m);
int foreign_qga_request(struct monitor *m, struct client *c, const struct agent_frame *f)
	must_check;
void foreign_qga_on_port(struct monitor *m);
void foreign_qga_shut_down(struct monitor *m);

/*
 * The functions of control.c. monitor_accept() handles a new connection of a command.
 * monitor_on_client() handles a command that has sent a message or has hung up.
 */
int monitor_accept(struct monitor *m) must_check;
void monitor_on_client(struct monitor *m, struct client *c);

/*
 * The functions of checkpoint.c. checkpoint_begin() handles the request of `caisson checkpoint`,
 * checkpoint_on_reply() the agent's reply (it returns whether the reply was to "suspend"),
 * checkpoint_on_saved() the end of the engine's work, checkpoint_on_hang_up() the end of a command
 * that has not sent "end", and checkpoint_end() the message "end".
 */
int checkpoint_begin(struct monitor *m, struct client *c, struct agent_frame *f) must_check;
bool checkpoint_on_reply(struct monitor *m, uint64_t id, const struct agent_frame *f);
void checkpoint_on_saved(struct monitor *m);
void checkpoint_on_hang_up(struct monitor *m);
int checkpoint_end(struct monitor *m, const struct client *c) must_check;
/*
 * Reads from the snapshot what the monitor that made the snapshot has stored in it for its
 * successor.
 */
int checkpoint_read_owner(const struct snapshot *s, struct checkpoint_owner *ret) must_check;
/*
 * checkpoint_on_hello() and checkpoint_on_resumed() handle the messages "hello" and "resumed" of an
 * agent whose machine was restored.
 */
int checkpoint_on_hello(struct monitor *m, bool suspended) must_check;
int checkpoint_on_resumed(struct monitor *m) must_check;

/*
 * The functions of disk_error.c. disk_error_on_engine() and disk_error_on_server() handle the
 * messages of the engine and of caisson-disk. disk_error_refuse() is the error of a request that a
 * paused machine cannot answer, and disk_error_continue() handles the request "continue".
 * disk_error_pause_again() is called when a checkpoint has let the machine's CPUs run.
 */
int disk_error_on_engine(struct monitor *m) must_check;
int disk_error_on_server(struct monitor *m) must_check;
int disk_error_refuse(const struct monitor *m, const char *request) must_check;
int disk_error_continue(struct monitor *m) must_check;
void disk_error_pause_again(struct monitor *m);

/*
 * The functions of disk_size.c. disk_size_begin() handles the request "grow", and the others
 * the end of the work of the engine and of caisson-disk.
 */
int disk_size_begin(struct monitor *m, struct client *c, const struct agent_frame *f) must_check;
void disk_size_on_engine(struct monitor *m, const struct engine_event *event);
void disk_size_on_server(struct monitor *m, const struct blk_message *message);
/* Lets the command fail that waits for a larger disk, if it has waited until now, in ms. */
void disk_size_check_deadline(struct monitor *m, int64_t now);

/* machine_size.c: these functions handle the requests "cpus" and "memory". */
int machine_size_set_cpus(struct monitor *m, struct client *c, const struct agent_frame *f)
	must_check;
int machine_size_memory(struct monitor *m, struct client *c, const struct agent_frame *f)
	must_check;

/*
 * checkpoint_send_suspend() and checkpoint_send_resume() send the agent "suspend" and "resume",
 * which agent/protocol.h describes. With `random`, "resume" has random bytes, because other
 * machines start with the same guest memory, and so with the same state of the kernel's random
 * numbers. With `streams`, "resume" has the ports of the container's streams, which the guest has
 * to connect again.
 */
int checkpoint_send_suspend(struct monitor *m, uint64_t request, uint32_t port) must_check;
int checkpoint_send_resume(struct monitor *m, bool random, bool streams) must_check;

/*
 * client.c: closes a command's connection to the monitor, and frees its entry in the table of
 * clients.
 */
void client_close(struct client *c);
/* Finds the command for which a change is under way. NULL: the command has ended. */
struct client *client_of_change(struct monitor *m, enum client_change change);
/*
 * client.c: returns -ESRCH with an error message if the container is not made yet or has ended, or,
 * with `agent`, if no agent is connected.
 */
int monitor_check_running(const struct monitor *m, bool agent) must_check;
/* Tells the command `start` that the program runs, and other commands that the container does. */
void monitor_end_start(struct monitor *m);
/*
 * Forwards a frame of the agent protocol, which came from the guest, unchanged to the caisson
 * command that is connected as `c`.
 */
void client_forward(struct client *c, const struct agent_frame *f);
/*
 * Tells the command that its request failed; code 0 tells the command that its request succeeded.
 */
void client_reply(struct client *c, int code, const char *message);
/* Does the same for a command whose device was detached, even if the code is not 0. */
void client_reply_detached(struct client *c, int code, const char *message);
/*
 * Tells the proxy of each exec that the exec's process has exited, once all output of the process
 * has been written. Returns whether any proxy still waits for output to be written.
 */
bool monitor_send_exits(struct monitor *m);
