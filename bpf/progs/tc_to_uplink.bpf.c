// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Egress of an uplink: what leaves this node. Only what the stack forwards for a workload without
 * having been judged is looked at: the rest is this host's own, or was approved on its way in.
 */
#define HOOK MANX_HOOK_TO_UPLINK
#include "lib/datapath.bpf.h"

#include "lib/family4.bpf.h"
#include "progs/from_stack.tmpl.h"
#include "progs/to_uplink.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "progs/from_stack.tmpl.h"
#include "progs/to_uplink.tmpl.h"
#include "lib/family_end.bpf.h"

SEC("tc")
int tc_to_uplink(struct __sk_buff *ctx)
{
	if ((ctx->mark & MANX_MARK_KIND) == MANX_MARK_APPROVED)
		return pass(ctx, MANX_PASS_FROM_STACK);
	/* This host's own: what is forwarded has a device that it came from. */
	if (!ctx->ingress_ifindex && !is_deferred(ctx->mark))
		return leave(ctx, MANX_PASS_NOT_OURS);
	switch (ctx->protocol) {
	case bpf_htons(ETH_P_IP):
		return to_uplink4(ctx);
	case bpf_htons(ETH_P_IPV6):
		return to_uplink6(ctx);
	default:
		return leave(ctx, MANX_PASS_NOT_OURS);
	}
}

char manx_license[] SEC("license") = "GPL";
