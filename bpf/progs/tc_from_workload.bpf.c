// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Ingress of the host side of a workload's veth: what the workload sends. An established flow is
 * one look-up and a redirect; a new one is judged for both ends.
 */
#define HOOK MANX_HOOK_FROM_WORKLOAD
#include "lib/datapath.bpf.h"

#include "lib/family4.bpf.h"
#include "lib/go_on.tmpl.h"
#include "progs/from_workload.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "lib/go_on.tmpl.h"
#include "progs/from_workload.tmpl.h"
#include "lib/family_end.bpf.h"

SEC("tc")
int tc_from_workload(struct __sk_buff *ctx)
{
	switch (ctx->protocol) {
	case bpf_htons(ETH_P_IP):
		return from_workload4(ctx);
	case bpf_htons(ETH_P_IPV6):
		return from_workload6(ctx);
	case bpf_htons(ETH_P_ARP):
		return pass(ctx, MANX_PASS_ARP);
	default:
		return count_drop(ctx, MANX_DROP_UNKNOWN_PROTOCOL);
	}
}

char manx_license[] SEC("license") = "GPL";
