/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves the names of containers. Each network whose file says "dns" has a dnsmasq of its own, on
 * its bridge, as long as a container is attached. This dnsmasq answers with the names of the
 * network's containers, asks the host's name servers for all other names, and gives whole machines
 * their address by DHCP.
 *
 * Theory of operation. STATE/names/NETWORK/ has dnsmasq's configuration, its pid, and the
 * directories hosts and dhcp, with one file for each attachment. dnsmasq reads these files again on
 * SIGHUP. The directory hosts also tells whether the attachment that leaves is the last one.
 * Another process may have the recorded pid by now, so the command line of the process is compared
 * too. dnsmasq writes its pid once it has daemonized, and ends if it cannot. So a command that is
 * killed while it starts dnsmasq never leaves a dnsmasq without a pid behind.
 */
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/dir.h"
#include "netsetup/host/host_internal.h"

#define PROGRAM "dnsmasq"
#define ENTRY_MAX (CONTAINER_KEY_MAX + IFNAMSIZ + 4)
#define END_MS 1000 /* how long, in ms, dnsmasq may take to end */
/* how often dnsmasq is started, every 30 ms, while another process has the address */
#define TRIES 10

bool names_served(const struct network *n)
{
	char path[PATH_MAX];

	return n->dns && n->pool_count && program_find(PROGRAM, path);
}

/*
 * Makes the absolute path of the directory with the files of this network's dnsmasq. The command
 * line of dnsmasq contains this path too.
 */
static int names_path(struct host *h, const char *network, char ret[PATH_MAX])
{
	char link[40], state[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", h->state_dir);
	n = readlink(link, state, sizeof(state) - 1);
	if (n < 0)
		return err_sys("find the path of the state directory");
	state[n] = '\0';
	if ((size_t)snprintf(ret, PATH_MAX, "%s/names/%s", state, network) >= PATH_MAX - 32)
		return err_set(ENAMETOOLONG, "the path of the state directory is too long");
	return 0;
}

/* --- Starting and ending the process of dnsmasq --- */

/* Returns the pid of the network's dnsmasq, or 0 if it does not run. */
static pid_t find_process(const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0}, line = {0};
	char file[PATH_MAX + 16], conf[PATH_MAX + 40];
	uint64_t pid;

	snprintf(file, sizeof(file), "%s/pid", path);
	if (fd_read_file(AT_FDCWD, file, &text, 64) < 0) {
		err_clear();
		return 0;
	}
	text.s[strcspn(text.s, "\n")] = '\0';
	if (str_to_u64(text.s, &pid) < 0 || !pid || pid > INT_MAX)
		return 0;
	snprintf(file, sizeof(file), "/proc/%llu/cmdline", (unsigned long long)pid);
	if (fd_read_file(AT_FDCWD, file, &line, 8192) < 0)
		err_clear();
	snprintf(conf, sizeof(conf), "--conf-file=%s/conf", path);
	return line.s && memmem(line.s, line.len + 1, conf, strlen(conf) + 1) ? (pid_t)pid : 0;
}

/*
 * Ends dnsmasq, and waits for the end of the process itself, because dnsmasq removes its pid file
 * before it closes its sockets, and the next dnsmasq needs the same addresses.
 */
static void stop_process(const char *path)
{
	pid_t pid = find_process(path);
	_cleanup_fd_ int process = pid ? pidfd_open(pid, 0) : -EBADF;
	struct pollfd ended = {process, POLLIN, 0};

	/*
	 * Looks the process up once more after pidfd_open(), because dnsmasq may have ended before,
	 * and its pid may belong to another process by now.
	 */
	if (process < 0 || find_process(path) != pid ||
		pidfd_send_signal(process, SIGTERM, NULL, 0) < 0)
		return;
	if (poll(&ended, 1, END_MS) <= 0 && pidfd_send_signal(process, SIGKILL, NULL, 0) == 0)
		(void)poll(&ended, 1, END_MS);
}

/*
 * Runs dnsmasq once. dnsmasq goes to the background when it is ready to answer. Returns 1 if it
 * does so, or 0 with the last line that dnsmasq wrote, which says why not.
 */
static int try_start(const char *path, char *line, size_t size)
{
	char conf[PATH_MAX + 40];
	const char *const words[] = {PROGRAM, conf, NULL};

	snprintf(conf, sizeof(conf), "--conf-file=%s/conf", path);
	return program_run(words, line, size);
}

static int start_process(const struct network *n, const char *path)
{
	const struct timespec moment = {.tv_nsec = 30 * 1000 * 1000};
	char line[512];
	int r = try_start(path, line, sizeof(line));

	/*
	 * Starts dnsmasq again, because the old dnsmasq that a killed command was ending may still
	 * have the address for a moment.
	 */
	for (int i = 1; i < TRIES && r == 0 && strstr(line, "in use"); i++) {
		nanosleep(&moment, NULL);
		r = try_start(path, line, sizeof(line));
	}
	if (r != 0)
		return r < 0 ? r : 0;
	return err_set(EIO,
		"network %s: dnsmasq does not serve names on %s: %s (end the program that has "
		"port 53, or make the network with --no-dns)",
		n->name, n->interface, line[0] ? line : "it does not say why");
}

/* --- Writing the files that dnsmasq reads --- */

/*
 * Writes a file in place. If this process is killed, half a file may be left, which detach removes.
 * A temporary file that replaces the file later would be worse, because detach could not find it.
 */
static int write_file(const char *path, const char *name, const struct strbuf *text)
{
	char file[PATH_MAX + ENTRY_MAX];

	snprintf(file, sizeof(file), "%s/%s", path, name);
	_cleanup_fd_ int fd =
		open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_sys("open %s", file);
	int r = fd_write_all(fd, strbuf_str(text), text->len);
	return r < 0 ? err_set(-r, "write %s: %s", file, err_text(-r)) : 0;
}

static int add_dhcp(struct strbuf *out, const struct network *n, const char *path)
{
	char base[IP_TEXT], mask[INET_ADDRSTRLEN];
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n->pool_count; i++) {
		const struct pool *p = &n->pools[i];
		uint32_t bits = htonl(p->prefix ? UINT32_MAX << (32 - p->prefix) : 0);

		if (p->base.family != AF_INET)
			continue;
		inet_ntop(AF_INET, &bits, mask, sizeof(mask));
		r = strbuf_addf(out,
			"dhcp-range=%s,static,%s,12h\ndhcp-hostsfile=%s/dhcp\n%s"
			"dhcp-authoritative\nleasefile-ro\nquiet-dhcp\n",
			ip_text(&p->base, base), mask, path,
			n->internal ? "dhcp-option=option:router\n" : "");
	}
	return r;
}

/*
 * Writes dnsmasq's configuration. On an internal network dnsmasq asks no name server of the host,
 * because a query would be a way out. A name without a dot is a container's, so dnsmasq never sends
 * it to the host's name servers.
 */
static int write_conf(const struct network *n, const char *path)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = strbuf_addf(&out,
		"pid-file=%s/pid\ninterface=%s\nexcept-interface=lo\nbind-interfaces\nno-hosts\n"
		"addn-hosts=%s/hosts\ndomain-needed\nuser=%s\n%s\n",
		path, n->interface, path, getpwnam(PROGRAM) ? PROGRAM : "nobody",
		n->internal ? "no-resolv" : "resolv-file=/etc/resolv.conf");
	if (r >= 0)
		r = add_dhcp(&out, n, path);
	return r < 0 ? r : write_file(path, "conf", &out);
}

static const char *entry_name(const struct attachment *a, char ret[ENTRY_MAX])
{
	snprintf(ret, ENTRY_MAX, "%s.%s", a->key, a->interface);
	return ret;
}

static int write_entry(
	const char *path, const char *folder, const struct attachment *a, const struct strbuf *text)
{
	char name[ENTRY_MAX], file[ENTRY_MAX + 8];

	snprintf(file, sizeof(file), "%s/%s", folder, entry_name(a, name));
	return write_file(path, file, text);
}

static int write_entries(const char *path, const struct attachment *a, const char *const *names)
{
	_cleanup_strbuf_ struct strbuf hosts = {0}, dhcp = {0};
	char text[IP_TEXT], mac[IP_TEXT];
	int r = 0;

	for (size_t i = 0; r >= 0 && i < a->address_count; i++) {
		ip_text(&a->addresses[i], text);
		if (*names)
			r = strbuf_addf(&hosts, "%s", text);
		for (const char *const *p = names; r >= 0 && *p; p++)
			r = strbuf_addf(&hosts, " %s%s", *p, p[1] ? "" : "\n");
		if (r >= 0 && a->addresses[i].family == AF_INET)
			r = strbuf_addf(&dhcp, "%s,%s%s%s\n", mac_text(a->mac, mac), text,
				*names ? "," : "", *names ? *names : "");
	}
	if (r >= 0)
		r = write_entry(path, "dhcp", a, &dhcp);
	/*
	 * Writes the attachment's file in the directory hosts last, because this file marks the
	 * network as used.
	 */
	return r < 0 ? r : write_entry(path, "hosts", a, &hosts);
}

static int make_folders(struct host *h, const char *network)
{
	static const char *const folders[] = {"", "/hosts", "/dhcp"};
	char path[NETWORK_NAME_MAX + 32];

	if (mkdirat(h->state_dir, "names", 0755) < 0 && errno != EEXIST)
		return err_sys("make the directory names");
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "names/%s%s", network, folders[i]);
		if (mkdirat(h->state_dir, path, 0755) < 0 && errno != EEXIST)
			return err_sys("make the directory %s", path);
	}
	return 0;
}

int names_check(const char *name, const char *what)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	size_t len = strlen(name);

	if (len && len <= 253 && name[strspn(name, allowed)] == '\0' && name[0] != '-' &&
		name[0] != '.')
		return 0;
	return err_set(EINVAL,
		"%s %.100s: expected a name of letters, digits, \"-\", \"_\" and \".\"", what,
		name);
}

/*
 * Returns whether a name can stand in dnsmasq's files. An ID that cannot stand there is not served
 * as a name.
 */
static bool is_name(const char *name)
{
	if (names_check(name, "") >= 0)
		return true;
	err_clear();
	return false;
}

static const char **usable_names(
	struct host *h, const struct attachment *a, const char *const *more)
{
	size_t n = 0, count = 0;

	while (more && more[count])
		count++;
	const char **ret = arena_array(&h->arena, count + 2, sizeof(*ret));
	if (!ret)
		return NULL;
	if (is_name(a->key))
		ret[n++] = a->key;
	for (size_t i = 0; i < count; i++)
		if (is_name(more[i]))
			ret[n++] = more[i];
	ret[n] = NULL;
	return ret;
}

/* Makes the network's dnsmasq read its files again. If dnsmasq does not run, starts it. */
static int read_again(const struct network *n, const char *path)
{
	pid_t pid = find_process(path);

	if (pid && kill(pid, SIGHUP) == 0)
		return 0;
	int r = write_conf(n, path);
	return r < 0 ? r : start_process(n, path);
}

int names_add(struct host *h, const struct network *n, const struct attachment *a,
	const char *const *more)
{
	char path[PATH_MAX];

	if (!names_served(n))
		return 0;
	if (host_skips(h, "names of network %s: add those of %s", n->name, a->key))
		return 0;
	const char **names = usable_names(h, a, more);
	if (!names)
		return -ENOMEM;
	int r = names_path(h, n->name, path);
	if (r >= 0)
		r = make_folders(h, n->name);
	if (r >= 0)
		r = write_entries(path, a, names);
	return r < 0 ? r : read_again(n, path);
}

/* Returns whether no attachment of the network has an entry in the directory hosts. */
static bool is_unused(struct host *h, const char *network)
{
	char folder[NETWORK_NAME_MAX + 32];
	struct dirent *e;

	snprintf(folder, sizeof(folder), "names/%s/hosts", network);
	int fd = openat(h->state_dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = dir_take_fd(fd);
	bool unused = true;

	while (d && unused && (e = readdir(d)))
		unused = e->d_name[0] == '.';
	if (d)
		closedir(d);
	return unused;
}

int names_reload(struct host *h, const struct network *n)
{
	char path[PATH_MAX];

	if (h->state_dir < 0 || !names_served(n) || is_unused(h, n->name) ||
		host_skips(h, "names of network %s: have dnsmasq read them", n->name))
		return 0;
	int r = names_path(h, n->name, path);
	return r < 0 ? r : read_again(n, path);
}

/* --- Removing the names of an attachment --- */

/* Removes a directory and its files, all of which caisson or dnsmasq has made. */
static void remove_folder(struct host *h, const char *path)
{
	int fd = openat(h->state_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = dir_take_fd(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	(void)unlinkat(h->state_dir, path, AT_REMOVEDIR);
}

/*
 * Returns whether `folder`, the directory with a network's names, exists. If not, removes the
 * directory above it, which a killed process may have left empty.
 */
static bool is_there(struct host *h, const char *folder)
{
	if (faccessat(h->state_dir, folder, F_OK, 0) == 0)
		return true;
	if (!h->dry_run)
		(void)unlinkat(h->state_dir, "names", AT_REMOVEDIR);
	return false;
}

int names_stop(struct host *h, const char *network)
{
	char path[PATH_MAX], folder[NETWORK_NAME_MAX + 32];

	snprintf(folder, sizeof(folder), "names/%s", network);
	if (h->state_dir < 0 || !is_there(h, folder) ||
		host_skips(h, "names of network %s: end dnsmasq", network))
		return 0;
	int r = names_path(h, network, path);
	if (r < 0)
		return r;
	stop_process(path);
	snprintf(folder, sizeof(folder), "names/%s/hosts", network);
	remove_folder(h, folder);
	snprintf(folder, sizeof(folder), "names/%s/dhcp", network);
	remove_folder(h, folder);
	snprintf(folder, sizeof(folder), "names/%s", network);
	remove_folder(h, folder);
	(void)unlinkat(h->state_dir, "names", AT_REMOVEDIR);
	return 0;
}

int names_remove(struct host *h, const struct attachment *a)
{
	static const char *const folders[] = {"dhcp", "hosts"};
	char path[PATH_MAX], name[ENTRY_MAX], entry[NETWORK_NAME_MAX + ENTRY_MAX + 32];

	snprintf(entry, sizeof(entry), "names/%s", a->network);
	if (h->state_dir < 0 || !is_there(h, entry))
		return 0;
	if (host_skips(h, "names of network %s: remove those of %s", a->network, a->key))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(entry, sizeof(entry), "names/%s/%s/%s", a->network, folders[i],
			entry_name(a, name));
		if (unlinkat(h->state_dir, entry, 0) < 0 && errno != ENOENT)
			return err_sys("remove %s", entry);
	}
	if (is_unused(h, a->network))
		return names_stop(h, a->network);
	int r = names_path(h, a->network, path);
	pid_t pid = r < 0 ? 0 : find_process(path);
	if (pid)
		(void)kill(pid, SIGHUP);
	return r;
}
