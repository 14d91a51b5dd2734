/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the result of spec_parse() for spec_full.json, which has every property. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "spec/spec.h"
#include "unit/rig/strings.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)

struct fixture {
	struct arena arena;
	const struct spec *spec;
};

static int load_full(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	if (fd_read_file(AT_FDCWD, UNIT_DIR "/spec_full.json", &text, SPEC_MAX_SIZE) < 0 ||
		spec_parse(&f->arena, strbuf_str(&text), text.len, "config.json", &f->spec) < 0)
		fail_msg("%s", err_msg());
	*state = f;
	return 0;
}

static int release(void **state)
{
	struct fixture *f = *state;

	arena_release(&f->arena);
	free(f);
	return 0;
}

static const struct spec *spec_of(void **state)
{
	return ((struct fixture *)*state)->spec;
}

static void test_top(void **state)
{
	const struct spec *s = spec_of(state);

	assert_string_equal(s->oci_version, "1.3.0");
	assert_string_equal(s->root_path, "rootfs");
	assert_true(s->root_readonly);
	assert_string_equal(s->hostname, "host");
	assert_string_equal(s->domainname, "domain");
	assert_int_equal(s->annotations.n, 2);
	assert_string_equal(spec_annotation(s, "com.example.key"), "value");
	assert_string_equal(spec_annotation(s, "com.example.empty"), "");
	assert_null(spec_annotation(s, "com.example"));
	assert_non_null(json_get(s->json, "linux"));
}

static void test_hooks(void **state)
{
	const struct spec *s = spec_of(state);
	const struct spec_hooks *all[] = {&s->hooks.prestart, &s->hooks.create_runtime,
		&s->hooks.create_container, &s->hooks.start_container, &s->hooks.poststart,
		&s->hooks.poststop};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		char path[] = "/h/1";
		path[3] = (char)('1' + i);
		assert_int_equal(all[i]->n, i == 5 ? 2 : 1);
		assert_string_equal(all[i]->v[0].path, path);
		assert_string_equal(all[i]->v[0].args.v[0], path + 3);
	}
	assert_strings(s->hooks.prestart.v[0].args, "1", "a");
	assert_strings(s->hooks.prestart.v[0].env, "k=v");
	assert_int_equal(s->hooks.prestart.v[0].timeout.v, 5);
	assert_int_equal(s->hooks.create_runtime.v[0].env.n, 0);
	assert_int_equal(s->hooks.poststop.v[0].timeout.v, 2147483647);
	assert_false(s->hooks.poststop.v[1].timeout.set);
	/* A list that config.json leaves out must be an empty list. */
	assert_int_equal(s->hooks.poststop.v[1].args.n, 0);
	assert_null(s->hooks.poststop.v[1].args.v[0]);
}

static void test_mounts(void **state)
{
	const struct spec *s = spec_of(state);
	const struct spec_mount *m = s->mounts;

	assert_int_equal(s->nmounts, 3);
	assert_string_equal(m->destination, "/data");
	assert_string_equal(m->type, "none");
	assert_string_equal(m->source, "volumes/data");
	assert_true(m->bind && m->rbind && m->ridmap && !m->idmap && !m->remount);
	assert_int_equal(m->attr_set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME);
	assert_int_equal(m->attr_clr, MOUNT_ATTR__ATIME);
	assert_int_equal(m->rec_attr_set, MOUNT_ATTR_NOSUID);
	assert_int_equal(m->rec_attr_clr, 0);
	assert_int_equal(m->sb_flags, MS_SYNCHRONOUS);
	assert_int_equal(m->propagation, MS_SLAVE | MS_REC);
	assert_strings(m->data, "x-custom=1");
	assert_int_equal(m->uid_mappings.n, 1);
	assert_int_equal(m->uid_mappings.v[0].container_id, 0);
	assert_int_equal(m->uid_mappings.v[0].host_id, 100000);
	assert_int_equal(m->gid_mappings.v[0].host_id, 200000);
	assert_int_equal(m->gid_mappings.v[0].size, 65536);
	m++;
	assert_int_equal(m->attr_set, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
	assert_true(m->tmpcopyup && !m->bind);
	assert_strings(m->data, "mode=755", "size=65536k");
	m++;
	assert_null(m->source);
	assert_int_equal(m->data.n, 0);
	assert_null(m->data.v[0]);
}

static void test_process(void **state)
{
	const struct spec_process *p = spec_of(state)->process;

	assert_true(p->terminal && p->no_new_privileges);
	assert_int_equal(p->console_height, 25);
	assert_int_equal(p->console_width, 80);
	assert_int_equal(p->user.uid, 1000);
	assert_int_equal(p->user.gid, 4294967294);
	assert_true(p->user.umask.set);
	assert_int_equal(p->user.umask.v, 077);
	assert_int_equal(p->user.nadditional_gids, 2);
	assert_int_equal(p->user.additional_gids[1], 6);
	assert_strings(p->args, "sh", "-c", "");
	assert_strings(p->env, "PATH=/bin", "TERM=xterm");
	assert_string_equal(p->cwd, "/root");
	assert_true(p->capabilities->bounding == (CAP(CHOWN) | CAP(CHECKPOINT_RESTORE)));
	assert_true(p->capabilities->effective == CAP(KILL));
	assert_true(p->capabilities->inheritable == CAP(SETUID));
	assert_true(p->capabilities->permitted == CAP(KILL));
	assert_true(p->capabilities->ambient == CAP(NET_RAW));
	assert_int_equal(p->nrlimits, 2);
	assert_int_equal(p->rlimits[0].resource, RLIMIT_NOFILE);
	assert_string_equal(p->rlimits[0].name, "RLIMIT_NOFILE");
	assert_int_equal(p->rlimits[0].soft, 1024);
	assert_true(p->rlimits[0].hard == UINT64_MAX);
	assert_string_equal(p->apparmor_profile, "acme_secure_profile");
	assert_string_equal(p->selinux_label, "system_u:system_r:svirt_lxc_net_t:s0:c124,c675");
	assert_true(p->oom_score_adj.set && p->oom_score_adj.v == -100);
	assert_int_equal(p->scheduler->policy, SCHED_DEADLINE);
	assert_int_equal(p->scheduler->nice, -5);
	assert_int_equal(p->scheduler->priority, 0);
	assert_int_equal(p->scheduler->flags, SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_RECLAIM);
	assert_int_equal(p->scheduler->runtime, 10000000);
	assert_int_equal(p->scheduler->deadline, 20000000);
	assert_true(p->scheduler->period == UINT64_MAX);
	assert_int_equal(p->io_priority.v, 3 << 13 | 4);
	assert_string_equal(p->exec_affinity_initial, "7");
	assert_string_equal(p->exec_affinity_final, "0-3,7");
}

static void test_namespaces(void **state)
{
	const struct spec *s = spec_of(state);

	for (int i = 0; i < SPEC_NS_COUNT; i++) {
		assert_true(s->ns[i].set);
		if (i != SPEC_NS_PID)
			assert_null(s->ns[i].path);
	}
	assert_string_equal(s->ns[SPEC_NS_PID].path, "/proc/1234/ns/pid");
	assert_int_equal(s->uid_mappings.n, 2);
	assert_int_equal(s->uid_mappings.v[0].size, 32000);
	assert_int_equal(s->uid_mappings.v[1].container_id, 32000);
	assert_int_equal(s->gid_mappings.v[0].host_id, UINT32_MAX - 1);
	assert_true(s->time_monotonic.set && s->time_boottime.set);
	assert_true(s->time_monotonic.secs == -172800);
	assert_int_equal(s->time_monotonic.nanosecs, 999999999);
	assert_true(s->time_boottime.secs == INT64_MAX);
}

static void test_devices(void **state)
{
	const struct spec *s = spec_of(state);
	const struct spec_device *d = s->devices;

	assert_int_equal(s->ndevices, 4);
	assert_string_equal(d[0].path, "/dev/fuse");
	assert_int_equal(d[0].type, 'c');
	assert_int_equal(d[0].major, 10);
	assert_int_equal(d[0].minor, 229);
	/* the parser must have removed the bits of S_IFCHR from the mode */
	assert_int_equal(d[0].file_mode.v, 0666);
	assert_int_equal(d[0].uid.v, 3);
	assert_int_equal(d[0].gid.v, 4);
	assert_int_equal(d[1].type, 'b');
	assert_false(d[1].file_mode.set || d[1].uid.set || d[1].gid.set);
	assert_int_equal(d[2].type, 'c');
	assert_int_equal(d[2].minor, 1048575);
	assert_int_equal(d[3].type, 'p');
	assert_int_equal(s->nnet_devices, 2);
	assert_string_equal(s->net_devices[0].name, "eth0");
	assert_string_equal(s->net_devices[0].new_name, "container_eth0");
	assert_string_equal(s->net_devices[1].name, "eth1");
	assert_null(s->net_devices[1].new_name);
}

static void test_resources(void **state)
{
	const struct spec *s = spec_of(state);
	const struct cg_resources *r = &s->resources;

	assert_string_equal(s->cgroups_path, "/myRuntime/myContainer");
	assert_true(s->has_resources);
	assert_int_equal(r->ndevices, 3);
	assert_false(r->devices[1].allow);
	assert_int_equal(r->devices[1].type, 'a');
	assert_int_equal(r->devices[1].major, -1);
	assert_int_equal(r->devices[1].minor, -1);
	assert_string_equal(r->devices[1].access, "rwm");
	assert_true(r->devices[0].allow);
	assert_int_equal(r->devices[0].type, 'c');
	assert_int_equal(r->devices[0].minor, 229);
	assert_int_equal(r->devices[2].major, 8);
	assert_int_equal(r->devices[2].minor, -1);
	assert_string_equal(r->devices[2].access, "");
	assert_true(r->memory.limit.v == INT64_MAX);
	assert_int_equal(r->memory.reservation.v, 536870912);
	assert_true(r->memory.swap.set && r->memory.swap.v == -1);
	assert_true(r->memory.kernel.v == -1);
	assert_int_equal(r->memory.kernel_tcp.v, 5);
	assert_int_equal(r->memory.swappiness.v, 60);
	assert_true(r->memory.disable_oom_killer.set && !r->memory.disable_oom_killer.v);
	assert_true(r->memory.use_hierarchy.v && r->memory.check_before_update.v);
	assert_true(r->cpu.shares.v == UINT64_MAX);
	assert_int_equal(r->cpu.quota.v, 1000000);
	assert_int_equal(r->cpu.burst.v, 1000000);
	assert_int_equal(r->cpu.period.v, 500000);
	assert_int_equal(r->cpu.realtime_runtime.v, 950000);
	assert_int_equal(r->cpu.realtime_period.v, 1000000);
	assert_string_equal(r->cpu.cpus, "2-3");
	assert_string_equal(r->cpu.mems, "0,7");
	assert_int_equal(r->cpu.idle.v, 1);
	assert_true(r->pids_limit.set && r->pids_limit.v == 0);
}

static void assert_values(struct cg_device_values list, uint64_t minor, uint64_t value)
{
	assert_int_equal(list.n, 1);
	assert_int_equal(list.v[0].major, 8);
	assert_int_equal(list.v[0].minor, minor);
	assert_true(list.v[0].value == value);
}

static void test_block_io_and_more(void **state)
{
	const struct cg_resources *r = &spec_of(state)->resources;

	assert_int_equal(r->block_io.weight.v, 10);
	assert_int_equal(r->block_io.leaf_weight.v, 1000);
	assert_int_equal(r->block_io.weight_device.n, 2);
	assert_int_equal(r->block_io.weight_device.v[0].value, 500);
	assert_int_equal(r->block_io.weight_device.v[1].minor, 16);
	assert_int_equal(r->block_io.weight_device.v[1].value, 501);
	assert_values(r->block_io.leaf_weight_device, 0, 300);
	assert_values(r->block_io.throttle_read_bps, 1, 600);
	assert_values(r->block_io.throttle_write_bps, 2, UINT64_MAX);
	assert_values(r->block_io.throttle_read_iops, 3, 602);
	assert_values(r->block_io.throttle_write_iops, 4, 603);
	assert_int_equal(r->nhugepages, 2);
	assert_string_equal(r->hugepages[0].page_size, "2MB");
	assert_true(r->hugepages[0].limit == UINT64_C(9223372036854772000));
	assert_int_equal(r->net_class_id.v, 1048577);
	assert_int_equal(r->nnet_priorities, 2);
	assert_int_equal(r->nrdma, 2);
	assert_string_equal(r->rdma[0].device, "mlx5_1");
	assert_int_equal(r->rdma[0].hca_handles.v, 3);
	assert_int_equal(r->rdma[0].hca_objects.v, 10000);
	assert_false(r->rdma[1].hca_handles.set);
	assert_int_equal(r->rdma[1].hca_objects.v, UINT32_MAX);
	assert_int_equal(r->nunified, 2);
	assert_string_equal(r->unified[0].file, "memory.high");
	assert_string_equal(r->unified[0].value, "1073741824");
}

static void test_linux(void **state)
{
	const struct spec *s = spec_of(state);

	assert_string_equal(s->intel_rdt->clos_id, "guaranteed_group");
	assert_strings(s->intel_rdt->schemata, "L3:0=7f0;1=1f", "MB:0=20;1=70");
	assert_string_equal(s->intel_rdt->l3_cache_schema, "L3:0=ffff0");
	assert_string_equal(s->intel_rdt->mem_bw_schema, "MB:0=20");
	assert_true(s->intel_rdt->enable_monitoring);
	assert_int_equal(s->memory_policy->mode, MPOL_INTERLEAVE | MPOL_F_STATIC_NODES);
	assert_string_equal(s->memory_policy->nodes, "2-3");
	assert_int_equal(s->rootfs_propagation, MS_SLAVE);
	assert_int_equal(s->sysctl.n, 4);
	assert_string_equal(s->sysctl.v[0].key, "net.ipv4.ip_forward");
	assert_string_equal(s->sysctl.v[0].value, "1");
	assert_strings(s->masked_paths, "/proc/kcore");
	assert_strings(s->readonly_paths, "/proc/sys", "/proc/bus");
	assert_string_equal(s->mount_label, "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811");
	assert_true(s->personality.set && s->personality.v == PER_LINUX32);
}

static void test_seccomp(void **state)
{
	const struct spec_seccomp *s = spec_of(state)->seccomp;

	assert_int_equal(s->default_action, SCMP_ACT_ERRNO(38));
	assert_int_equal(s->narchitectures, 2);
	assert_int_equal(s->architectures[0], SCMP_ARCH_X86_64);
	assert_int_equal(s->architectures[1], SCMP_ARCH_X32);
	assert_int_equal(s->flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	assert_string_equal(s->listener_path, "/run/agent.sock");
	assert_string_equal(s->listener_metadata, "opaque");
	assert_true(s->notify);
	assert_int_equal(s->nrules, 5);
	assert_strings(s->rules[0].names, "clone", "unshare");
	assert_int_equal(s->rules[0].action, SCMP_ACT_ERRNO(1));
	assert_int_equal(s->rules[0].nargs, 1);
	assert_int_equal(s->rules[0].args[0].index, 5);
	assert_true(s->rules[0].args[0].value == UINT64_MAX);
	assert_true(s->rules[0].args[0].value_two == UINT64_C(1) << 63);
	assert_int_equal(s->rules[0].args[0].op, SCMP_CMP_MASKED_EQ);
	assert_int_equal(s->rules[1].action, SCMP_ACT_NOTIFY);
	assert_int_equal(s->rules[2].action, SCMP_ACT_TRACE(65535));
	assert_int_equal(s->rules[3].action, SCMP_ACT_ALLOW);
	assert_int_equal(s->rules[4].action, SCMP_ACT_ERRNO(EPERM));
}

static void test_vm(void **state)
{
	const struct spec_vm *vm = spec_of(state)->vm;

	assert_string_equal(vm->hypervisor_path, "/usr/bin/qemu-system-x86_64");
	assert_strings(vm->hypervisor_parameters, "opts1=foo");
	assert_string_equal(vm->kernel_path, "/boot/vmlinuz");
	assert_strings(vm->kernel_parameters, "foo=bar", "hello world");
	assert_string_equal(vm->kernel_initrd, "/boot/initrd.img");
	assert_string_equal(vm->image_path, "/images/root.qcow2");
	assert_string_equal(vm->image_format, "qcow2");
	assert_string_equal(vm->device_tree, "/vm/devicetree.dtb");
	assert_int_equal(vm->vcpus.v, 2);
	assert_true(vm->memory.v == UINT64_MAX);
	assert_strings(vm->dtdevs, "path/to/dev1");
	assert_int_equal(vm->niomems, 2);
	assert_false(vm->iomems[1].first_gfn.set);
	assert_int_equal(vm->iomems[0].first_gfn.v, 12544);
	assert_int_equal(vm->iomems[0].first_mfn, 33024);
	assert_int_equal(vm->iomems[0].nr_mfns, 2);
	assert_int_equal(vm->nirqs, 2);
	assert_int_equal(vm->irqs[1], 22);
}

#define FULL(f) cmocka_unit_test_setup_teardown(f, load_full, release)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FULL(test_top),
		FULL(test_hooks),
		FULL(test_mounts),
		FULL(test_process),
		FULL(test_namespaces),
		FULL(test_devices),
		FULL(test_resources),
		FULL(test_block_io_and_more),
		FULL(test_linux),
		FULL(test_seccomp),
		FULL(test_vm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
