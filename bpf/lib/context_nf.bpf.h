/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a netfilter program is given: a packet from its IP header on, which is read by copy, and the
 * verdicts of netfilter. Included first, in place of lib/context_tc.bpf.h.
 */
#pragma once

#include "lib/maps.bpf.h"

/* The kernel's own structures, as far as they are needed; fields are found by BTF. */
struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

struct sk_buff {
	unsigned int len;
	__u32 mark;
} __attribute__((preserve_access_index));

struct nf_hook_state {
	__u8 pf;
	struct net_device *in;
} __attribute__((preserve_access_index));

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

extern int bpf_dynptr_from_skb(struct sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;

#define NFPROTO_IPV4   2
#define NFPROTO_IPV6   10

#define CONTEXT	       struct bpf_nf_ctx
#define VERDICT_PASS   1 /* NF_ACCEPT */
#define VERDICT_DROP   0 /* NF_DROP */
#define NETWORK_OFFSET 0

/* The coarse clock is not for netfilter programs; it is this one, a few milliseconds late. */
static __always_inline __u64 now_ns(void)
{
	return bpf_ktime_get_ns();
}

static __always_inline __u32 packet_length(const CONTEXT *ctx)
{
	return ctx->skb->len;
}

/* The device that the packet came in by. */
static __always_inline __u32 device_of(const CONTEXT *ctx)
{
	const struct net_device *in = ctx->state->in;

	return in ? in->ifindex : 0;
}

static __always_inline long load_bytes(CONTEXT *ctx, __u32 offset, void *to, __u32 size)
{
	struct bpf_dynptr packet;

	if (bpf_dynptr_from_skb(ctx->skb, 0, &packet))
		return -1;
	return bpf_dynptr_read(to, size, &packet, offset, 0);
}

/* Nothing can be read in place. */
static __always_inline void *packet_start(const CONTEXT *ctx)
{
	return NULL;
}

static __always_inline void *packet_end(const CONTEXT *ctx)
{
	return NULL;
}

static __always_inline void *network_header(CONTEXT *ctx, void *copy, __u32 size)
{
	return load_bytes(ctx, 0, copy, size) ? NULL : copy;
}

/* Questions are for tc programs: only those can answer. */
static __always_inline int is_question(const CONTEXT *ctx)
{
	return 0;
}

static __always_inline int answer(CONTEXT *ctx, __u32 reason)
{
	return VERDICT_DROP;
}
