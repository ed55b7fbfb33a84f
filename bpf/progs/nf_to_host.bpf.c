// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Netfilter's LOCAL_IN, after the translation of addresses: what is delivered to this host. Only
 * what tc_from_workload deferred is looked at: a packet to a service, whose backend turned out to
 * be this host, and that no tc hook will see again.
 */
#include "lib/context_nf.bpf.h"

#define HOOK MANX_HOOK_TO_HOST
#include "lib/judge.bpf.h"

#include "lib/family4.bpf.h"
#include "progs/to_host.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "progs/to_host.tmpl.h"
#include "lib/family_end.bpf.h"

/* By the mark alone nothing is known to be allowed: policy may have changed since. */
static __noinline int judge_deferred(struct bpf_nf_ctx *ctx, __u32 mark)
{
	const struct manx_config *config = get_config();
	struct manx_slot_entry *slot = deferred_from(mark);
	int v6 = ctx->state->pf == NFPROTO_IPV6;

	if (!slot || !config)
		return count_drop(ctx, MANX_DROP_NOT_READY);
	if (slot->egress_set[v6] == MANX_SET_ALLOW && slot->staged_egress[v6] == MANX_SET_ALLOW &&
	    !(config->flags & MANX_CONFIG_HOST_DROP))
		return pass(ctx, MANX_PASS_TO_STACK);
	return v6 ? to_host6(ctx, config, slot) : to_host4(ctx, config, slot);
}

SEC("netfilter")
int nf_to_host(struct bpf_nf_ctx *ctx)
{
	__u32 mark = ctx->skb->mark;

	if (!is_deferred(mark))
		return VERDICT_PASS;
	return judge_deferred(ctx, mark) == VERDICT_PASS ? VERDICT_PASS : VERDICT_DROP;
}

char manx_license[] SEC("license") = "GPL";
