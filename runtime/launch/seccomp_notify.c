/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/seccomp_notify.h"

#include "base/fd.h"
#include "launch/handover.h"

static int process_state(const struct container *c, const struct seccomp_agent *to, struct arena *a,
	struct json_out *o)
{
	_cleanup_strbuf_ struct strbuf state = {0};
	struct json *node;

	int r = container_state_json(c, to->status, to->pid, &state);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&state), state.len, "state", &node);
	if (r >= 0)
		r = json_out_init(o, false);
	if (r < 0)
		return r;
	json_out_object(o, NULL);
	json_out_str(o, "ociVersion", c->oci_version ? c->oci_version : SPEC_VERSION);
	json_out_array(o, "fds");
	json_out_str(o, NULL, "seccompFd");
	json_out_end_array(o);
	json_out_i64(o, "pid", to->pid);
	json_out_str(o, "metadata",
		to->seccomp->listener_metadata ? to->seccomp->listener_metadata : "");
	json_out_node(o, "state", node);
	json_out_end_object(o);
	return 0;
}

/*
 * Sends the seccomp listener to the agent, with a message that runtime-spec calls "The Container
 * Process State" (config-linux.md).
 */
int seccomp_notify_send(const struct container *c, const struct seccomp_agent *to, int listener)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	if (!to->seccomp || !to->seccomp->listener_path)
		return err_set(EINVAL, "linux.seccomp.listenerPath: missing, but a rule's action "
				       "is SCMP_ACT_NOTIFY");
	int r = process_state(c, to, &a, &o);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	if (r < 0)
		return r;
	_cleanup_fd_ int sock =
		handover_connect(to->seccomp->listener_path, "linux.seccomp.listenerPath");
	return sock < 0 ? sock : fd_send(sock, text, len, listener);
}
