/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include <inttypes.h>
#include <sys/mount.h>

static const char *const texts[STEP_COUNT] = {
#define X(kind, name, text) [STEP_##kind] = (text),
	PLAN_STEP_KINDS(X)
#undef X
};

static int ns_text(uint64_t flags, struct strbuf *out)
{
	const char *sep = "";
	int r = 0;

	for (int t = 0; t < SPEC_NS_COUNT && r >= 0; t++) {
		if (!(flags & plan_ns_flag((enum spec_ns)t)))
			continue;
		r = strbuf_addf(out, "%s%s", sep, plan_ns_name((enum spec_ns)t));
		sep = " ";
	}
	return r;
}

/* Writes to `out` the names of the namespaces that a step CLONE or FORK makes. */
static int new_text(uint64_t flags, struct strbuf *out)
{
	int r = strbuf_addf(out, "new: ");

	if (r < 0)
		return r;
	return flags ? ns_text(flags, out) : strbuf_addf(out, "none");
}

static int maps_text(const char *what, struct spec_id_maps maps, struct strbuf *out)
{
	int r = 0;

	for (size_t i = 0; i < maps.n && r >= 0; i++)
		r = strbuf_addf(out, "%s%s %u->%u", out->len ? ", " : "", what,
			maps.v[i].container_id, maps.v[i].host_id);
	for (size_t i = 0; i < maps.n && r >= 0 && i + 1 == maps.n; i++)
		r = strbuf_addf(out, " (%u)", maps.v[i].size);
	return r;
}

static int mount_text(const struct spec_mount *m, struct strbuf *out)
{
	if (m->bind)
		return strbuf_addf(out, "%s (%s%s of %s)", m->destination,
			m->copy_symlink ? "link or " : "", m->rbind ? "recursive bind" : "bind",
			m->source ? m->source : "?");
	return strbuf_addf(out, "%s (%s)", m->destination, m->type ? m->type : "no type");
}

static int hooks_text(const struct step *s, struct strbuf *out)
{
	int r = strbuf_addf(out, "%s:", s->hooks.name);

	for (size_t i = 0; i < s->hooks.hooks.n && r >= 0; i++)
		r = strbuf_addf(out, " %s", s->hooks.hooks.v[i].path);
	return r;
}

static int capability_set_text(const char *name, uint64_t caps, struct strbuf *out)
{
	return strbuf_addf(out, "%s%s %016" PRIx64, out->len ? ", " : "", name, caps);
}

static int caps_text(const struct spec_capabilities *c, struct strbuf *out)
{
	if (!c)
		return strbuf_addf(out, "none");
	int r = capability_set_text("bounding", c->bounding, out);
	if (r >= 0)
		r = capability_set_text("effective", c->effective, out);
	if (r >= 0)
		r = capability_set_text("permitted", c->permitted, out);
	if (r >= 0)
		r = capability_set_text("inheritable", c->inheritable, out);
	return r < 0 ? r : capability_set_text("ambient", c->ambient, out);
}

static int device_text(const struct step *s, struct strbuf *out)
{
	const struct spec_device *d = s->device.device;

	return strbuf_addf(out, "%s (%c %u:%u)%s", d->path, d->type, d->major, d->minor,
		s->device.made   ? " as made before"
		: s->device.bind ? " bound from the host"
				 : "");
}

static int nodes_text(const struct step *s, struct strbuf *out)
{
	int r = 0;

	for (size_t i = 0; i < s->nodes.n && r >= 0; i++)
		r = strbuf_addf(out, "%s%s", i ? ", " : "", s->nodes.v[i].device->path);
	return r;
}

/*
 * Writes the name of the guest's network interface, and the socket of the vhost-user back end that
 * serves the interface.
 */
static int net_text(const struct spec_vm_net *n, struct strbuf *out)
{
	int r = strbuf_addf(out, "%s: %s", n->name, n->socket);

	if (r >= 0 && n->has_mac)
		r = strbuf_addf(out, ", mac " STR_MAC_FORMAT, STR_MAC_ARGS(n->mac));
	if (r >= 0 && n->mtu)
		r = strbuf_addf(out, ", mtu %u", n->mtu);
	for (size_t i = 0; i < n->addresses.n && r >= 0; i++)
		r = strbuf_addf(out, ", %s", n->addresses.v[i].text);
	for (size_t i = 0; i < n->gateways.n && r >= 0; i++)
		r = strbuf_addf(out, ", via %s", n->gateways.v[i].text);
	return r;
}

static int strings_text(const struct spec_strings *all, struct strbuf *out)
{
	int r = 0;

	for (size_t i = 0; i < all->n && r >= 0; i++)
		r = strbuf_addf(out, "%s%s", i ? " " : "", all->v[i]);
	return r;
}

static int user_text(const struct step *s, struct strbuf *out)
{
	const struct spec_user *u = &s->user.process->user;
	int r = strbuf_addf(out, "uid %u, gid %u, ", u->uid, u->gid);

	if (r >= 0 && s->user.keep_groups)
		return strbuf_addf(out, "the caller's other groups");
	return r < 0 ? r : strbuf_addf(out, "%zu more groups", u->nadditional_gids);
}

int plan_step_text(const struct step *s, struct strbuf *out)
{
	switch (s->kind) {
	case STEP_OPEN_ROOT:
	case STEP_OPEN_SOURCE:
		if (s->open.layers)
			return strbuf_addf(out, "overlay of %s %s", s->open.layers, s->open.lower);
		return strbuf_addf(out, "%s%s%s%s", s->open.path,
			s->open.in_root ? " (in the root)" : "",
			s->open.recursive ? " (recursive)" : "",
			s->open.idmap_uid.n || s->open.idmap_joined ? " (id-mapped)" : "");
	case STEP_DEVICE_NODES:
		return nodes_text(s, out);
	case STEP_CONNECT:
		return strbuf_addf(out, "%s (%s)", s->connect.mount->backend, s->connect.device);
	case STEP_CONNECT_NET:
		return net_text(s->net, out);
	case STEP_ATTACH_ROOT:
		return strbuf_addf(
			out, "%s%s", s->open.path, s->open.as_namespace ? " (new: mount)" : "");
	case STEP_OPEN_NAMESPACE:
	case STEP_JOIN:
		return strbuf_addf(out, "%s: %s", plan_ns_name(s->ns.type), s->ns.path);
	case STEP_CLONE:
		return new_text(s->clone.flags, out);
	case STEP_FORK:
		return new_text(s->fork.flags, out);
	case STEP_ENTER:
		return ns_text(s->number, out);
	case STEP_ID_MAP: {
		int r = maps_text("uid", s->map.uid, out);
		return r < 0 ? r : maps_text("gid", s->map.gid, out);
	}
	case STEP_MOUNT:
		return mount_text(s->mount.mount, out);
	case STEP_DEVICE:
		return device_text(s, out);
	case STEP_SYMLINK:
		return strbuf_addf(out, "%s -> %s", s->link.path, s->link.target);
	case STEP_SYSCTL:
		return strbuf_addf(out, "%s = %s", s->pair.key, s->pair.value);
	case STEP_NET_DEVICE:
		return strbuf_addf(out, "%s%s%s", s->pair.key, s->pair.value ? " as " : "",
			s->pair.value ? s->pair.value : "");
	case STEP_NETWORKS:
		return strings_text(&s->networks, out);
	case STEP_HOOKS:
		return hooks_text(s, out);
	case STEP_CAPABILITIES:
		return caps_text(s->caps.caps, out);
	case STEP_USER:
		return user_text(s, out);
	case STEP_FIND_PROGRAM:
		return strbuf_addf(out, "%s in %s",
			s->process->args.n ? s->process->args.v[0] : "?", s->process->cwd);
	case STEP_EXEC:
		return strings_text(&s->process->args, out);
	case STEP_PIVOT:
		return s->number == PLAN_PIVOT_MOVE
			       ? strbuf_addf(out, "by moving the mount and chroot")
		       : s->number == PLAN_PIVOT_IS_ROOT
			       ? strbuf_addf(out, "it is the root already")
			       : 0;
	case STEP_BARRIER:
	case STEP_HOSTNAME:
	case STEP_DOMAINNAME:
	case STEP_READONLY_PATH:
	case STEP_MASK_PATH:
		return strbuf_addf(out, "%s", s->text ? s->text : "");
	case STEP_AFFINITY:
		return strbuf_addf(out, "%s", s->text ? s->text : "all CPUs");
	default:
		return 0;
	}
}

const char *plan_place_name(enum step_place p)
{
	static const char *const names[] = {
		[PLACE_HOST] = "host",
		[PLACE_INIT] = "init",
		[PLACE_MONITOR] = "monitor",
		[PLACE_GUEST] = "guest",
	};

	return names[p];
}

static const char *waiting_place(const struct plan *p, const struct step *barrier)
{
	for (int w = PLACE_HOST; w <= PLACE_GUEST; w++)
		if (plan_awaits(p, (enum step_place)w, barrier) &&
			(w != PLACE_MONITOR || p->isolation == PLAN_VM) && w != PLACE_GUEST)
			return plan_place_name((enum step_place)w);
	return "nobody";
}

int plan_print(const struct plan *p, struct strbuf *out)
{
	/*
	 * The column with the party that does a step is as wide as the longest name of a party:
	 * "monitor" for a microVM, else "host".
	 */
	const int width = p->isolation == PLAN_VM ? 7 : 4;
	int r = strbuf_addf(out, "%4s  %-*s  %-18s %s\n", "#", width, "who", "step", "what");

	for (size_t i = 0; i < p->n && r >= 0; i++) {
		const struct step *s = &p->steps[i];
		_cleanup_strbuf_ struct strbuf text = {0};
		r = plan_step_text(s, &text);
		if (r >= 0 && text.len)
			str_clean(text.s, text.cap, text.s, text.len);
		if (r >= 0 && s->kind == STEP_BARRIER)
			r = strbuf_addf(out, "%4zu  %-*s  --- \"%s\": %s waits for %s ---\n", i + 1,
				width, plan_place_name(s->place), s->text, waiting_place(p, s),
				plan_place_name(s->place));
		else if (r >= 0)
			r = strbuf_addf(out, "%4zu  %-*s  %-*s%s%s%s%s%s\n", i + 1, width,
				plan_place_name(s->place), text.len || s->field ? 19 : 0,
				plan_step_name(s->kind), strbuf_str(&text),
				text.len && s->field ? "  " : "", s->field ? "[" : "",
				s->field ? s->field : "", s->field ? "]" : "");
	}
	return r;
}

int plan_print_json(const struct plan *p, struct json_out *out)
{
	json_out_array(out, NULL);
	for (size_t i = 0; i < p->n; i++) {
		const struct step *s = &p->steps[i];
		_cleanup_strbuf_ struct strbuf text = {0};
		int r = plan_step_text(s, &text);
		if (r < 0)
			return r;
		json_out_object(out, NULL);
		json_out_str(out, "step", plan_step_name(s->kind));
		json_out_str(out, "place", plan_place_name(s->place));
		if (s->field)
			json_out_str(out, "field", s->field);
		if (text.len)
			json_out_str(out, "what", text.s);
		json_out_str(out, "description", texts[s->kind]);
		json_out_end_object(out);
	}
	json_out_end_array(out);
	return 0;
}
