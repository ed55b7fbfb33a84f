// SPDX-License-Identifier: Apache-2.0
// Programs of the benchmarks, none of Manx: a generator of frames, the least that a redirect
// between pods can cost (the bound that others are compared with), and a counting end of the way.
// clang-format off: libbpf's headers want the kernel's types before them
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

char LICENSE[] SEC("license") = "Apache-2.0";

#define FRAME_SIZE 64

/* What is sent, set before the run; Ethernet, IPv4, UDP without a checksum. */
__u8 frame[FRAME_SIZE] = {};
__u32 vary_destination = 0; /* the destination's port counts instead of the source's */
__u32 flows = 0;            /* ports in turn: so many, then the first again */
__u32 first_port = 0;
__u32 pairs = 0; /* after all flows the other port goes one on: so many times */
__u32 sent = 0;
__u64 arrived = 0; /* one CPU sends and receives */

/* Live frames come back as the dataplane left them, so the headers are written anew. */
SEC("xdp")

int xdp_generate(struct xdp_md* ctx) {
    void* data = (void*)(long)ctx->data;
    __u16 varied, other;
    struct udphdr* udp;
    __u32 number;

    if (data + FRAME_SIZE > (void*)(long)ctx->data_end) {
        return XDP_ABORTED;
    }
    __builtin_memcpy(data, frame, FRAME_SIZE);
    udp = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
    number = sent++;
    varied = first_port + (flows > 1 ? number % flows : 0);
    other = pairs > 1 ? number / flows % pairs : 0;
    if (vary_destination) {
        udp->dest = bpf_htons(varied);
    } else {
        udp->source = bpf_htons(varied);
        udp->dest = bpf_htons(bpf_ntohs(udp->dest) + other);
    }
    return XDP_TX;
}

struct way {
    __u32 ifindex;
    __u8 source[ETH_ALEN];
    __u8 destination[ETH_ALEN];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, __u32); /* IPv4 address, network order */
    __type(value, struct way);
    __uint(max_entries, 64);
} ways SEC(".maps");

__u32 out_ifindex =
    0; /* where everything else goes, to the neighbour that routes say; 0: nowhere */

SEC("tc")

int tc_bare(struct __sk_buff* skb) {
    void* data = (void*)(long)skb->data;
    struct ethhdr* eth = data;
    struct iphdr* ip = data + sizeof(*eth);
    struct way* way;

    if ((void*)(ip + 1) > (void*)(long)skb->data_end || eth->h_proto != bpf_htons(ETH_P_IP)) {
        return TC_ACT_OK;
    }
    way = bpf_map_lookup_elem(&ways, &ip->daddr);
    if (!way) {
        return out_ifindex ? bpf_redirect_neigh(out_ifindex, NULL, 0, 0) : TC_ACT_OK;
    }
    __builtin_memcpy(eth->h_dest, way->destination, ETH_ALEN);
    __builtin_memcpy(eth->h_source, way->source, ETH_ALEN);
    return bpf_redirect_peer(way->ifindex, 0);
}

/* The end of the way in the receiving pod. */
SEC("tc")

int tc_arrive(struct __sk_buff* skb) {
    struct iphdr* ip = (void*)(long)skb->data + sizeof(struct ethhdr);

    if ((void*)(ip + 1) > (void*)(long)skb->data_end || ip->protocol != IPPROTO_UDP) {
        return TC_ACT_OK;
    }
    arrived++;
    return TC_ACT_SHOT;
}
