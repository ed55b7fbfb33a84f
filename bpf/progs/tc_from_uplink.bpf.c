// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Ingress of an uplink: what the network sends. Packets to workloads of this node are judged and
 * delivered; everything else is left to the host stack, untouched.
 */
#define HOOK MANX_HOOK_FROM_UPLINK
#include "lib/datapath.bpf.h"

/* No verdict of tc. */
#define NOT_RELATED (-2)

#include "lib/family4.bpf.h"
#include "lib/go_on.tmpl.h"
#include "progs/from_uplink.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "lib/go_on.tmpl.h"
#include "progs/from_uplink.tmpl.h"
#include "lib/family_end.bpf.h"

SEC("tc")
int tc_from_uplink(struct __sk_buff *ctx)
{
	switch (ctx->protocol) {
	case bpf_htons(ETH_P_IP):
		return from_uplink4(ctx);
	case bpf_htons(ETH_P_IPV6):
		return from_uplink6(ctx);
	default:
		return leave(ctx, MANX_PASS_NOT_OURS);
	}
}

char manx_license[] SEC("license") = "GPL";
