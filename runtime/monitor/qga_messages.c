/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/qga_messages.h"

#include <limits.h>

#include "base/base64.h"

#define WHO "qemu-guest-agent in the machine: "
/* how many bytes of standard output, and of standard error, the agent keeps */
#define KEPT_MAX ((size_t)16 << 20)

/* Begins a request with this name, whose arguments the caller adds. */
static int begin(struct json_out *o, const char *name)
{
	int r = json_out_init(o, false);

	if (r < 0)
		return r;
	json_out_object(o, NULL);
	json_out_str(o, "execute", name);
	json_out_object(o, "arguments");
	return 0;
}

/* Ends the request, and appends it to *ret. */
static int finish(struct json_out *o, struct strbuf *ret)
{
	const char *text;
	size_t len;

	json_out_end_object(o);
	json_out_end_object(o);
	int r = json_out_text(o, &text, &len);
	if (r >= 0)
		r = strbuf_add(ret, text, len);
	return r < 0 ? r : strbuf_add(ret, "\n", 1);
}

int qga_write_info(struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = begin(&o, "guest-info");

	return r < 0 ? r : finish(&o, ret);
}

int qga_write_shutdown(struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = begin(&o, "guest-shutdown");

	if (r < 0)
		return r;
	json_out_str(&o, "mode", "powerdown");
	return finish(&o, ret);
}

static bool is_list_of_strings(const struct json *list)
{
	if (!list || list->type != JSON_ARRAY)
		return false;
	for (const struct json *j = list->first; j; j = j->next)
		if (j->type != JSON_STRING)
			return false;
	return true;
}

int qga_write_exec(const struct qga_command *command, struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf input = {0};

	if (!is_list_of_strings(command->args) || !command->args->first ||
		!is_list_of_strings(command->env))
		return err_set(EINVAL, "guest-exec: args and env: expected arrays of strings, and "
				       "args with a program");
	int r = base64_encode(&input, command->input, command->input_len);
	if (r >= 0)
		r = begin(&o, "guest-exec");
	if (r < 0)
		return r;
	json_out_str(&o, "path", command->args->first->text);
	json_out_array(&o, "arg");
	for (const struct json *j = command->args->first->next; j; j = j->next)
		json_out_str(&o, NULL, j->text);
	json_out_end_array(&o);
	json_out_node(&o, "env", command->env);
	if (command->input_len)
		json_out_str(&o, "input-data", strbuf_str(&input));
	json_out_bool(&o, "capture-output", command->capture);
	return finish(&o, ret);
}

int qga_write_status(int64_t pid, struct strbuf *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = begin(&o, "guest-exec-status");

	if (r < 0)
		return r;
	json_out_i64(&o, "pid", pid);
	return finish(&o, ret);
}

int qga_read_info(const struct json *answer, struct qga_info *ret)
{
	const struct json *list = json_get(answer, "supported_commands");
	const char *version = json_get_str(answer, "version");

	*ret = (struct qga_info){0};
	if (!list || list->type != JSON_ARRAY)
		return err_set(EPROTO, WHO "guest-info: supported_commands: expected an array");
	for (const struct json *j = list->first; j; j = j->next) {
		const char *name = json_get_str(j, "name");
		if (name && streq(name, "guest-exec"))
			ret->exec = json_get_true(j, "enabled");
	}
	str_clean(ret->version, sizeof(ret->version), version ? version : "?",
		version ? strlen(version) : 1);
	return 0;
}

int qga_read_exec(const struct json *answer, int64_t *ret_pid)
{
	if (json_get_i64(answer, "pid", ret_pid) < 0 || *ret_pid < 1 || *ret_pid > INT_MAX)
		return err_set(EPROTO, WHO "guest-exec: pid: expected a process id");
	return 0;
}

static int read_output(const struct json *answer, const char *key, struct strbuf *ret)
{
	const struct json *text = json_get(answer, key);

	if (!text)
		return 0;
	if (text->type != JSON_STRING)
		return err_set(EPROTO, WHO "guest-exec-status: %s: expected a string", key);
	int r = base64_decode(ret, text->text, strlen(text->text));
	return r == -EINVAL ? err_set(EPROTO, WHO "guest-exec-status: %s: expected base64", key)
			    : r;
}

/* Reads how the command has ended: by exitcode 0 to 255, or by signal 1 to 64. */
static int read_end(const struct json *answer, int *ret)
{
	int64_t code = 0, sig = 0;
	int by_code = json_get_i64(answer, "exitcode", &code),
	    by_signal = json_get_i64(answer, "signal", &sig);

	if (by_code >= 0 && by_signal == -ENOENT && code >= 0 && code <= 255)
		*ret = (int)code << 8;
	else if (by_signal >= 0 && by_code == -ENOENT && sig >= 1 && sig <= 64)
		*ret = (int)sig;
	else
		return err_set(EPROTO, WHO "guest-exec-status: expected exitcode, from 0 to 255, "
					   "or signal, from 1 to 64");
	return 0;
}

int qga_read_status(const struct json *answer, struct qga_status *ret)
{
	const struct json *exited = json_get(answer, "exited");

	qga_status_release(ret);
	if (!exited || exited->type != JSON_BOOL)
		return err_set(EPROTO, WHO "guest-exec-status: exited: expected a boolean");
	if (!exited->boolean)
		return 0;
	int r = read_end(answer, &ret->status);
	if (r >= 0)
		r = read_output(answer, "out-data", &ret->out);
	if (r >= 0)
		r = read_output(answer, "err-data", &ret->err);
	if (r < 0) {
		qga_status_release(ret);
		return r;
	}
	ret->exited = true;
	/*
	 * The lengths are looked at too, because agents before QEMU 7.2.20 and 10.1.1 say false if
	 * they have cut the output.
	 */
	ret->out_truncated = json_get_true(answer, "out-truncated") || ret->out.len >= KEPT_MAX;
	ret->err_truncated = json_get_true(answer, "err-truncated") || ret->err.len >= KEPT_MAX;
	return 0;
}

void qga_status_release(struct qga_status *s)
{
	strbuf_release(&s->out);
	strbuf_release(&s->err);
	*s = (struct qga_status){0};
}
