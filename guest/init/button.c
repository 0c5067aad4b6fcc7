// SPDX-License-Identifier: Apache-2.0
/*
 * The power button: Linux reports ACPI events to the multicast group
 * acpi_mc_group of the generic netlink family acpi_event.
 * Source: Linux include/uapi/linux/genetlink.h, drivers/acpi/event.c.
 */
#include "init.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACPI_GENL_ATTR_EVENT 1

/* What the kernel sends as ACPI_GENL_ATTR_EVENT. */
struct acpi_genl_event {
    char device_class[20];
    char bus_id[15];
    uint32_t type;
    uint32_t data;
};

/* The attribute @type in [p, end), or NULL; *len: its payload's length. */
static const char *attr_find(const char *p, const char *end, unsigned type,
                             size_t *len)
{
    while ((size_t)(end - p) >= sizeof(struct nlattr)) {
        struct nlattr a;
        memcpy(&a, p, sizeof a);
        if (a.nla_len < sizeof a || a.nla_len > (size_t)(end - p))
            return NULL;
        if ((a.nla_type & NLA_TYPE_MASK) == type) {
            *len = a.nla_len - sizeof a;
            return p + sizeof a;
        }
        size_t step = NLA_ALIGN(a.nla_len);
        if (step > (size_t)(end - p))
            return NULL;
        p += step;
    }
    return NULL;
}

/* A received generic netlink message's attributes. */
static const char *genl_attrs(const char *buf, ssize_t n, const char **end)
{
    struct nlmsghdr h;
    if (n < (ssize_t)(NLMSG_HDRLEN + GENL_HDRLEN))
        return NULL;
    memcpy(&h, buf, sizeof h);
    if (h.nlmsg_len > (size_t)n || h.nlmsg_len < NLMSG_HDRLEN + GENL_HDRLEN ||
        h.nlmsg_type == NLMSG_ERROR)
        return NULL;
    *end = buf + h.nlmsg_len;
    return buf + NLMSG_HDRLEN + GENL_HDRLEN;
}

/* The number of the family's first multicast group, 0: none. */
static uint32_t group_find(const char *buf, ssize_t n)
{
    size_t len;
    const char *end, *p = genl_attrs(buf, n, &end);
    if (p)
        p = attr_find(p, end, CTRL_ATTR_MCAST_GROUPS, &len);
    if (!p)
        return 0;
    p = attr_find(p, p + len, 1, &len); /* groups are numbered from 1 */
    if (p)
        p = attr_find(p, p + len, CTRL_ATTR_MCAST_GRP_ID, &len);
    uint32_t id = 0;
    if (p && len >= sizeof id)
        memcpy(&id, p, sizeof id);
    return id;
}

static bool family_ask(int fd)
{
    static const char name[] = "acpi_event";
    struct {
        struct nlmsghdr h;
        struct genlmsghdr g;
        struct nlattr a;
        char name[NLA_ALIGN(sizeof name)];
    } req = {
        .h = {.nlmsg_len = sizeof req,
              .nlmsg_type = GENL_ID_CTRL,
              .nlmsg_flags = NLM_F_REQUEST},
        .g = {.cmd = CTRL_CMD_GETFAMILY, .version = 1},
        .a = {.nla_len = sizeof(struct nlattr) + sizeof name,
              .nla_type = CTRL_ATTR_FAMILY_NAME},
    };
    memcpy(req.name, name, sizeof name);
    return send(fd, &req, sizeof req, 0) == (ssize_t)sizeof req;
}

int button_open(void)
{
    char buf[4096];
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    if (fd < 0)
        return -1;
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK};
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || !family_ask(fd))
        goto fail;
    uint32_t group = group_find(buf, recv(fd, buf, sizeof buf, 0));
    if (group == 0 || setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP,
                                 &group, sizeof group) < 0)
        goto fail;
    return fd;
fail:
    close(fd);
    return -1;
}

bool button_pressed(int fd)
{
    char buf[4096];
    size_t len;
    const char *end;
    const char *p = genl_attrs(buf, recv(fd, buf, sizeof buf, 0), &end);
    if (p)
        p = attr_find(p, end, ACPI_GENL_ATTR_EVENT, &len);
    struct acpi_genl_event ev;
    if (!p || len < sizeof ev)
        return false;
    memcpy(&ev, p, sizeof ev);
    return strncmp(ev.device_class, "button/power", 12) == 0;
}
