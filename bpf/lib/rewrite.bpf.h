/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What forwarding changes in a packet, and what differs by family on its way out. */
#pragma once

#include "lib/address.bpf.h"
#include "lib/count.bpf.h"

#define AF_INET	 2
#define AF_INET6 10

/* RFC 1141: the checksum of a header whose TTL is one less. */
static __always_inline int decrement_hops4(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct iphdr *ip = data + ETH_HLEN;
	__u32 check;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return -1;
	check = ip->check + bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	ip->ttl--;
	return 0;
}

static __always_inline int decrement_hops6(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct ipv6hdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return -1;
	ip->hop_limit--;
	return 0;
}

/* From the device that the packet was sent to, to the workload. */
static __always_inline int rewrite_macs(struct __sk_buff *ctx, const __u8 *target)
{
	void *data = (void *)(long)ctx->data;
	__u16 *eth = data;
	const __u16 *mac = (const __u16 *)target;

	if (data + ETH_HLEN > (void *)(long)ctx->data_end)
		return -1;
	eth[3] = eth[0];
	eth[4] = eth[1];
	eth[5] = eth[2];
	eth[0] = mac[0];
	eth[1] = mac[1];
	eth[2] = mac[2];
	return 0;
}

/* The transport header that each segment of a GSO packet repeats; the longest for TCP. */
static __always_inline __u32 gso_header_of(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : 8;
}

static __always_inline void set_route_key4(struct bpf_fib_lookup *fib, const struct packet4 *p)
{
	fib->family = AF_INET;
	fib->ipv4_src = p->src.addr;
	fib->ipv4_dst = p->dst.addr;
}

static __always_inline void set_route_key6(struct bpf_fib_lookup *fib, const struct packet6 *p)
{
	fib->family = AF_INET6;
	__builtin_memcpy(fib->ipv6_src, &p->src, sizeof(p->src));
	__builtin_memcpy(fib->ipv6_dst, &p->dst, sizeof(p->dst));
}

/* The next hop, or the destination where it is on the link. */
static __always_inline void set_next_hop4(struct manx_way *way, const struct bpf_fib_lookup *fib)
{
	/* RFC 5549: an IPv6 next hop does not fit; it is found by route. */
	__be32 next = fib->family == AF_INET ? fib->ipv4_dst : 0;

	__builtin_memset(way->target, 0, sizeof(way->target));
	__builtin_memcpy(way->target, &next, sizeof(next));
}

static __always_inline void set_next_hop6(struct manx_way *way, const struct bpf_fib_lookup *fib)
{
	__builtin_memset(way->target, 0, sizeof(way->target));
}

static __always_inline int redirect_to_next_hop4(const struct manx_way *way, __u32 out)
{
	struct bpf_redir_neigh next = {.nh_family = AF_INET};

	__builtin_memcpy(&next.ipv4_nh, way->target, sizeof(next.ipv4_nh));
	if (!next.ipv4_nh)
		return bpf_redirect_neigh(out, NULL, 0, 0);
	return bpf_redirect_neigh(out, &next, sizeof(next), 0);
}

static __always_inline int redirect_to_next_hop6(const struct manx_way *way, __u32 out)
{
	return bpf_redirect_neigh(out, NULL, 0, 0);
}
