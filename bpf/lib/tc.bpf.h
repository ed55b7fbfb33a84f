/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What only tc programs do: mark packets for the next hook, and answer questions. */
#pragma once

#include "lib/count.bpf.h"
#include "lib/policy.bpf.h"

/* Not ours: the kernel and other programs of this hook see it. */
static __always_inline int leave(struct __sk_buff *ctx, __u32 reason)
{
	count(ctx, reason);
	return TC_ACT_UNSPEC;
}

/* Volatile: clang would write half of it, which the verifier refuses for a context. */
static __always_inline void set_mark(struct __sk_buff *ctx, __u32 mark)
{
	*(volatile __u32 *)&ctx->mark = (ctx->mark & ~MANX_MARK_MASK) | mark;
}

/* To the host stack; the hook that it leaves by lets it pass. */
static __always_inline void approve(struct __sk_buff *ctx)
{
	set_mark(ctx, MANX_MARK_APPROVED);
}

/* To the host stack, which may translate its destination: judged where that has become known. */
static __always_inline void defer(struct __sk_buff *ctx, __u32 slot, __u32 host_allowed)
{
	set_mark(ctx, MANX_MARK_DEFERRED | host_allowed |
			      (slot & (MANX_SLOTS - 1)) << MANX_MARK_SLOT_SHIFT);
}

/* The end of a question that was judged; reason: of the drop, or 0. */
static __always_inline int answer_judged(struct __sk_buff *ctx, const struct judgement *j,
					 __u32 reason)
{
	ctx->cb[MANX_ANSWER_EGRESS_RULE] = j->egress_rule;
	ctx->cb[MANX_ANSWER_INGRESS_RULE] = j->ingress_rule;
	ctx->cb[MANX_ANSWER_LOG] = j->log != 0;
	return answer(ctx, reason);
}
