/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How commands talk to a container's monitor: with frames of the agent protocol (agent/protocol.h)
 * over the Unix socket CONTROL_SOCKET in the container's state directory, which only root can
 * enter.
 *
 *	request                                          answer
 *	exec {stdio: [..]}, descriptors of stdio,        failed; or running, and later exited
 *	  blob
 *	signal {signal, all}                             reply
 *	freeze {frozen}                                  reply
 *	ps, stats, update with its blob                  reply
 *	cpus {count, clamp}                              reply, when so many vCPUs are on line;
 *	                                                 clamp: a count above the maximum is the
 *	                                                 maximum, and no error
 *	memory {limit, grow}                             reply with wanted and given, the bytes
 *	                                                 that the balloon is to have and has, and
 *	                                                 requested and plugged, those that the guest
 *	                                                 is to have and has beyond those at its
 *	                                                 start. limit: the container's new memory
 *	                                                 limit; 0: that of config.json; 2^64-1: no
 *	                                                 limit; absent: nothing changes. grow: the
 *	                                                 guest gets memory, and gives none
 *	memory {undo, balloon}                           the same reply. The guest is asked again
 *	                                                 for what it was asked for before
 *	checkpoint {}, two empty files for state and     reply, when the machine is saved and paused
 *	  memory of the machine
 *	end {}, on the same connection                   none: the machine ends; if the connection
 *	                                                 ends instead, the machine goes on
 *	attach {kind: "net", name, net, offloads}, the   reply, when the guest uses the device
 *	  descriptor of a tap
 *	attach {kind: "disk", name, serial, readOnly},   reply, when the container has the disk
 *	  the descriptor of the raw image, or the
 *	  vhost-user socket, a pidfd and the control
 *	  socket of caisson-disk
 *	attach {kind: "mount", name, share, attr}        reply, when the container has the mount
 *	share {}                                         reply with pid, that of the file server
 *	detach {kind, name, force}                       reply, when the guest has released it, or
 *	                                                 with "force" a device that it should have;
 *	                                                 with an errno and detached: true, a disk
 *	                                                 that has not all that the guest wrote
 *	continue {}                                      reply, when a machine that was paused after
 *	                                                 an error of its disk goes on
 *	grow {size}                                      reply, when the guest's disk is larger
 *	watch {}                                         oom {}, each time that the guest sends one
 *
 * A foreign guest's monitor (foreign.c) answers signal, and these:
 *
 * 	address {}                                       reply with net (net_config.h), agent:
 * 	                                                 whether an agent in the guest answers exec
 * 	                                                 and ps, and guestAgent: whether
 * 	                                                 qemu-guest-agent is there
 * 	console {}, the descriptor of a stream socket    reply; output flows out of the socket's
 * 	  that does not block                            other end, and input into it
 * 	qgainfo {}                                       reply with version, that of
 * 	                                                 qemu-guest-agent, and exec: whether it may
 * 	                                                 run commands
 * 	qgaexec {args, env, capture}, with standard      reply with pid, that in the guest.
 * 	  input as the blob                              qemu-guest-agent runs the program
 * 	qgastatus {}, on the same connection             reply with exited, and if it is true status
 * 	                                                 (as of waitpid(2)), outTruncated and
 * 	                                                 errTruncated
 * 	qgaoutput {}, after that                         reply with stream and the next piece of the
 * 	                                                 output as its blob; an empty one: the end
 *
 * After exec, the same connection takes signal {signal} and resize {rows, columns} for its process,
 * and the process is killed when the connection ends.
 *
 * To add a request: handle_request() in control.c decides whether the monitor answers it or the
 * guest. forward_request() sends a request unchanged to the guest; its handler in the guest is
 * added as agent/protocol.h says.
 */
#pragma once
#include "agent/agent.h"

#define CONTROL_SOCKET "vm.sock"

/*
 * control_listen() returns a listening socket in the state directory `dir`. control_connect()
 * returns a socket that is connected to the listening socket.
 */
int control_listen(int dir) must_check;
int control_connect(int dir) must_check;

/*
 * Sends a request, with the blob if it is not NULL, and waits up to timeout_ms for the reply.
 * Returns -ETIMEDOUT if no reply comes in that time. If the reply has an errno, returns -errno with
 * the reply's message. The caller releases *ret in all cases.
 */
int control_call(int sock, struct agent_writer *w, const struct strbuf *blob, int timeout_ms,
	struct agent_frame *ret) must_check;

/* Sends a request with n descriptors, without waiting for its reply. */
int control_send_fds(int sock, struct agent_writer *w, const int *fds, unsigned n) must_check;

/*
 * Waits up to timeout_ms for the reply to a request that the caller has sent. Returns what
 * control_call() returns.
 */
int control_wait(int sock, int timeout_ms, struct agent_frame *ret) must_check;
