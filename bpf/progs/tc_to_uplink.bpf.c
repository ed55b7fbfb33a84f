// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "lib/maps.bpf.h"

#include <linux/pkt_cls.h>

SEC("tc")
int tc_to_uplink(struct __sk_buff *ctx)
{
	return TC_ACT_UNSPEC;
}

char manx_license[] SEC("license") = "GPL";
