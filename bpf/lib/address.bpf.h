/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses of both families, and the packets that carry them. */
#pragma once

#include "lib/packet.bpf.h"

struct packet4 {
	struct manx_flow4_key key; /* of its flow; of the inner packet's for an ICMP error */
	struct manx_addr4 src;
	struct manx_addr4 dst;
	__u32 now; /* ticks */
	__u16 transport_offset;
	__u8 side; /* of the key that sent it */
	__u8 hops; /* TTL, hop limit */
	struct transport t;
};

struct packet6 {
	struct manx_flow6_key key;
	struct manx_addr6 src;
	struct manx_addr6 dst;
	__u32 now;
	__u16 transport_offset;
	__u8 side;
	__u8 hops;
	struct transport t;
};

static __always_inline int same4(const struct manx_addr4 *a, const struct manx_addr4 *b)
{
	return a->addr == b->addr;
}

static __always_inline int same6(const struct manx_addr6 *a, const struct manx_addr6 *b)
{
	return a->addr[0] == b->addr[0] && a->addr[1] == b->addr[1] && a->addr[2] == b->addr[2] &&
	       a->addr[3] == b->addr[3];
}

/* The order of flow keys: any total order that maps/flow_key.h computes too. */
static __always_inline int before4(const struct manx_addr4 *a, const struct manx_addr4 *b)
{
	return a->addr < b->addr;
}

static __always_inline int before6(const struct manx_addr6 *a, const struct manx_addr6 *b)
{
	if (a->addr[3] != b->addr[3])
		return a->addr[3] < b->addr[3];
	if (a->addr[2] != b->addr[2])
		return a->addr[2] < b->addr[2];
	if (a->addr[1] != b->addr[1])
		return a->addr[1] < b->addr[1];
	return a->addr[0] < b->addr[0];
}

static __always_inline int is_link_local6(const struct manx_addr6 *a)
{
	return (a->addr[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline int is_unspecified6(const struct manx_addr6 *a)
{
	return !(a->addr[0] | a->addr[1] | a->addr[2] | a->addr[3]);
}

/* Never forwarded. Multicast of any scope: this host forwards none. */
static __always_inline int is_on_link6(const struct manx_addr6 *a)
{
	return is_link_local6(a) || (a->addr[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* IPv4 has no neighbour discovery among its packets. */
static __always_inline int is_on_link4(const struct manx_addr4 *a)
{
	return 0;
}

static __always_inline void event_addresses4(struct event_input *event, const struct packet4 *p)
{
	event->src[0] = p->src.addr;
	event->src[1] = event->src[2] = event->src[3] = 0;
	event->dst[0] = p->dst.addr;
	event->dst[1] = event->dst[2] = event->dst[3] = 0;
}

static __always_inline void event_addresses6(struct event_input *event, const struct packet6 *p)
{
	__builtin_memcpy(event->src, p->src.addr, 16);
	__builtin_memcpy(event->dst, p->dst.addr, 16);
}
