/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a tc program is given: a packet from its Ethernet header on, which can be read in place, and
 * the verdicts of tc. lib/context_nf.bpf.h is the same for a netfilter program.
 */
#pragma once

#include "lib/maps.bpf.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#define CONTEXT	     struct __sk_buff
#define VERDICT_PASS (HOOK == MANX_HOOK_FROM_WORKLOAD ? TC_ACT_UNSPEC : TC_ACT_OK)
#define VERDICT_DROP TC_ACT_SHOT

/* Where the IP header is. */
#define NETWORK_OFFSET ETH_HLEN

static __always_inline __u64 now_ns(void)
{
	return bpf_ktime_get_coarse_ns();
}

static __always_inline __u32 packet_length(const CONTEXT *ctx)
{
	return ctx->len;
}

/* The device that the hook belongs to. */
static __always_inline __u32 device_of(const CONTEXT *ctx)
{
	return ctx->ifindex;
}

static __always_inline long load_bytes(CONTEXT *ctx, __u32 offset, void *to, __u32 size)
{
	return bpf_skb_load_bytes(ctx, offset, to, size);
}

/* What can be read in place. */
static __always_inline void *packet_start(const CONTEXT *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *packet_end(const CONTEXT *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* The first size bytes of the IP header, which can be written then; NULL: there are not as many. */
static __always_inline void *network_header(CONTEXT *ctx, void *copy, __u32 size)
{
	if (packet_start(ctx) + NETWORK_OFFSET + size > packet_end(ctx)) {
		if (bpf_skb_pull_data(ctx, NETWORK_OFFSET + size) ||
		    packet_start(ctx) + NETWORK_OFFSET + size > packet_end(ctx))
			return NULL;
	}
	return packet_start(ctx) + NETWORK_OFFSET;
}

/* Whether somebody only asks; see maps/abi/verdict.h. */
static __always_inline int is_question(const CONTEXT *ctx)
{
	return (ctx->mark & MANX_MARK_KIND) == MANX_MARK_QUESTION &&
	       ctx->priority == MANX_QUESTION_PRIORITY;
}

static __always_inline int answer(CONTEXT *ctx, __u32 reason)
{
	ctx->cb[MANX_ANSWER_REASON] = reason;
	ctx->cb[MANX_ANSWER_GIVEN] = 1;
	return VERDICT_DROP;
}
