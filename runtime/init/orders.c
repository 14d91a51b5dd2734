/* SPDX-License-Identifier: Apache-2.0 */
#include "init/orders.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "plan/image.h"

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

PACK_TYPE(orders_type, struct init_orders, PACK_EMBED(struct init_orders, plan, &plan_type),
	PACK_NUMBERS(struct init_orders, slots, nslots),
	PACK_EMBED(struct init_orders, env, &plan_strings_type),
	PACK_BOOL(struct init_orders, has_env), PACK_NUMBERS(struct init_orders, filter, nfilter),
	PACK_BOOL(struct init_orders, hide_late), PACK_BOOL(struct init_orders, tell_steps),
	PACK_STRING(struct init_orders, state_head), PACK_STRING(struct init_orders, state_tail));

int init_orders_pack(const struct init_orders *orders, struct strbuf *ret)
{
	return pack_write(&orders_type, orders, ret);
}

int init_orders_write(const struct init_orders *orders)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};

	int r = init_orders_pack(orders, &bytes);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd = memfd_create("orders", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_sys("make a memfd for the orders of the container's first process");
	r = fd_write_all(fd, bytes.s, bytes.len);
	if (r < 0) {
		errno = -r;
		return err_sys("write the orders of the container's first process");
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return err_sys("seal the orders of the container's first process");
	return take_fd(&fd);
}

static int check(const struct init_orders *o)
{
	if (o->has_env && !o->env.v)
		return err_set(EPROTO, "the orders lack the environment of the program");
	return plan_check_slots(&o->plan, o->nslots);
}

int init_orders_unpack(void *bytes, size_t len, struct init_orders **ret)
{
	void *orders;

	int r = pack_read(&orders_type, bytes, len, &orders);
	if (r < 0)
		return r;
	*ret = orders;
	return check(orders);
}

int init_orders_read(int fd, struct init_orders **ret)
{
	struct stat st;
	void *bytes;

	if (fstat(fd, &st) < 0)
		return err_sys("look at the orders");
	/*
	 * The file with the orders is mapped as private, so that what this process writes to the
	 * mapping does not change the file.
	 */
	bytes = mmap(NULL, (size_t)st.st_size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return err_sys("map the orders");
	return init_orders_unpack(bytes, (size_t)st.st_size, ret);
}
