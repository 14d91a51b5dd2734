/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent as a service of an operating system that caisson runs as a whole machine, into whose
 * disk `caisson machine install-agent` has put the agent.
 *
 * Theory of operation. There is no container. An exec is one more process of the operating system,
 * beside those that its init has started: it enters no namespace and no other root. The process has
 * a plan like any other, which the agent makes from the program that the monitor sends
 * (agent/program.h). As in a container, INIT forks once before the program, and the child is the
 * agent's, because the agent adopts orphans (PR_SET_CHILD_SUBREAPER).
 */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "agent/program.h"
#include "base/fd.h"
#include "guest/guest.h"

#define SYSTEMD_RUNS "/run/systemd/system" /* this directory exists if systemd is the init */
/* signal for systemd that means "systemctl poweroff" (systemd(1)): SIGRTMIN+4 */
#define SYSTEMD_POWEROFF 4
/* how many processes `caisson ps` lists at most */
#define PIDS_MAX 65536

int service_adopt_orphans(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? err_sys("adopt orphans") : 0;
}

/*
 * Fills `steps` with the steps of an exec, in the order of plan_build_exec(), without those for
 * namespaces.
 */
static void add_steps(const struct spec_process *program, struct step *steps, size_t *ret_n)
{
	/*
	 * The bounding set keeps all capabilities, so that sudo(8) works for an ordinary user, and
	 * root has all of them, as in a session of the operating system.
	 */
	static const struct spec_capabilities of_root = {.bounding = UINT64_MAX,
						      .effective = UINT64_MAX,
						      .permitted = UINT64_MAX},
					      of_user = {.bounding = UINT64_MAX};
	const struct {
		enum step_kind kind;
		bool left_out;
	} kinds[] = {{STEP_CLONE, false}, {STEP_FIND_PROGRAM, false},
		{STEP_CONSOLE, !program->terminal}, {STEP_USER, false}, {STEP_CAPABILITIES, false},
		{STEP_NO_NEW_PRIVS, !program->no_new_privileges}, {STEP_CLOSE, false},
		{STEP_FORK, false}, {STEP_EXEC, false}};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].left_out)
			continue;
		struct step *s = &steps[n++];
		*s = (struct step){.kind = kinds[i].kind,
			.place = kinds[i].kind == STEP_CLONE ? PLACE_GUEST : PLACE_INIT,
			.slot = -1};
		if (s->kind == STEP_USER)
			s->user.process = program;
		else if (s->kind == STEP_CAPABILITIES)
			s->caps.caps = program->user.uid ? &of_user : &of_root;
		else if (s->kind != STEP_CLONE && s->kind != STEP_CLOSE && s->kind != STEP_FORK)
			s->process = program;
	}
	*ret_n = n;
}

int service_take_exec(struct process *p, const struct agent_frame *f)
{
	struct spec_process *program = arena_alloc(&p->arena, sizeof(*program));
	struct agent_orders *orders = arena_alloc(&p->arena, sizeof(*orders));
	struct step *steps = arena_array(&p->arena, STEP_COUNT, sizeof(*steps));

	if (!program || !orders || !steps)
		return -ENOMEM;
	int r = agent_program_unpack(&p->arena, f->blob, f->blob_len, program);
	if (r < 0)
		return r;
	*orders = (struct agent_orders){.uid = program->user.uid,
		.plan = {.steps = steps,
			.exec = true,
			.process = program,
			.terminal = program->terminal}};
	add_steps(program, steps, &orders->plan.n);
	p->orders = orders;
	p->plan = orders->plan;
	p->wanted = true;
	return 0;
}

int service_pids(struct arena *a, pid_t **ret, size_t *ret_n)
{
	pid_t *pids = arena_array(a, PIDS_MAX, sizeof(*pids));
	DIR *proc = opendir("/proc");
	size_t n = 0;

	if (!proc || !pids) {
		int r = pids ? err_sys("open /proc") : -ENOMEM;
		if (proc)
			closedir(proc);
		return r;
	}
	for (struct dirent *e; n < PIDS_MAX && (e = readdir(proc));)
		if (isdigit((unsigned char)e->d_name[0]))
			pids[n++] = (pid_t)atoi(e->d_name);
	closedir(proc);
	*ret = pids;
	*ret_n = n;
	return 0;
}

/* Executes poweroff(8) in a child process, which the agent's loop reaps. */
static int run_poweroff(void)
{
	char *const words[] = {(char *)"poweroff", NULL};
	pid_t pid = fork();

	if (pid < 0)
		return err_sys("make a process for poweroff");
	if (pid > 0)
		return 0;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv("/sbin/poweroff", words);
	execv("/usr/sbin/poweroff", words);
	_exit(127);
}

void service_power_off(struct guest *g)
{
	int r = 0;

	if (access(SYSTEMD_RUNS, F_OK) < 0)
		r = run_poweroff();
	else if (kill(1, SIGRTMIN + SYSTEMD_POWEROFF) < 0)
		r = err_sys("ask systemd to power off");
	if (r < 0)
		guest_log(g, "%s", err_msg());
}
