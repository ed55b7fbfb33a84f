// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Egress of the host side of a workload's veth: what the host stack sends to the workload. What an
 * ingress program redirected does not come here, unless to the host side, and is marked then.
 */
#define HOOK MANX_HOOK_TO_WORKLOAD
#include "lib/datapath.bpf.h"

#include "lib/family4.bpf.h"
#include "progs/from_stack.tmpl.h"
#include "progs/to_workload.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "progs/from_stack.tmpl.h"
#include "progs/to_workload.tmpl.h"
#include "lib/family_end.bpf.h"

SEC("tc")
int tc_to_workload(struct __sk_buff *ctx)
{
	if ((ctx->mark & MANX_MARK_KIND) == MANX_MARK_APPROVED)
		return pass(ctx, MANX_PASS_FROM_STACK);
	switch (ctx->protocol) {
	case bpf_htons(ETH_P_IP):
		return to_workload4(ctx);
	case bpf_htons(ETH_P_IPV6):
		return to_workload6(ctx);
	case bpf_htons(ETH_P_ARP):
		return pass(ctx, MANX_PASS_ARP);
	default:
		return pass(ctx, MANX_PASS_NOT_OURS);
	}
}

char manx_license[] SEC("license") = "GPL";
