/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is known of a packet, and the transport header, which is the same for both families.
 */
#pragma once

/* A netfilter program has included its own. */
#ifndef CONTEXT
#include "lib/context_tc.bpf.h"
#endif

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>

/* <linux/icmp.h> drags the C library in. */
#define ICMP_ECHOREPLY	    0
#define ICMP_DEST_UNREACH   3
#define ICMP_ECHO	    8
#define ICMP_TIME_EXCEEDED  11
#define ICMP_PARAMETERPROB  12
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY   129

#define TCP_FIN		    0x01
#define TCP_SYN		    0x02
#define TCP_RST		    0x04
#define TCP_ACK		    0x10

enum packet_flags {
	PKT_OPTIONS = 1, /* IP options or a hop-by-hop header: the stack forwards it */
	PKT_FIRST_FRAGMENT = 2,
	PKT_LATER_FRAGMENT = 4,
	PKT_NO_PORTS = 8, /* a later fragment whose first one is not known */
	PKT_ICMP_ERROR = 16,
	PKT_NEIGHBOR = 32, /* neighbour discovery and multicast listener reports */
};

/* The family-neutral part; the addresses and the flow key are in struct packet4 and packet6. */
struct transport {
	__u16 src_port; /* HBO; as in a flow key */
	__u16 dst_port;
	__u16 policy_port; /* as in a port table */
	__u8 tcp_flags;
	__u8 flags; /* enum packet_flags */
};

static __always_inline __u32 ticks(void)
{
	return now_ns() >> MANX_TICK_SHIFT;
}

/* The first 16 bytes of a transport header, as far as they are there. */
struct transport_bytes {
	__be16 word[4];
	__u8 rest[8];
};

static __always_inline void read_ports(const struct transport_bytes *b, struct transport *t)
{
	t->src_port = bpf_ntohs(b->word[0]);
	t->dst_port = bpf_ntohs(b->word[1]);
	t->policy_port = t->dst_port;
}

/*
 * ICMP has no ports. An echo's identifier stands on the asking side, so that its reply is the other
 * direction of the same flow, and a request of the other side is not. All other types are flows of
 * one direction by type and code, told from echoes by the other side's port.
 */
static __always_inline void read_icmp(const struct transport_bytes *b, __u8 request, __u8 reply,
				      struct transport *t)
{
	__u16 type_code = bpf_ntohs(b->word[0]);
	__u8 type = type_code >> 8;

	t->policy_port = type_code;
	t->src_port = type == request ? bpf_ntohs(b->word[2]) : type == reply ? 0 : type_code;
	t->dst_port = type == reply ? bpf_ntohs(b->word[2]) : type == request ? 0 : 0xffff;
}

/*
 * 0, or MANX_DROP_MALFORMED where the header is cut short. near: a constant; offset is small enough
 * (the verifier's bound is 65,535) to read the packet in place.
 */
static __always_inline int parse_transport(CONTEXT *ctx, __u32 offset, __u8 protocol,
					   struct transport *t, int near)
{
	void *data = packet_start(ctx);
	void *end = packet_end(ctx);
	struct transport_bytes copy;
	struct transport_bytes *b = data + (near ? offset : 0);

	t->src_port = 0;
	t->dst_port = 0;
	t->policy_port = 0;
	t->tcp_flags = 0;
	switch (protocol) {
	case IPPROTO_TCP:
		if (!near || (void *)(b + 1) > end) {
			if (load_bytes(ctx, offset, &copy, sizeof(copy)))
				return MANX_DROP_MALFORMED;
			b = &copy;
		}
		read_ports(b, t);
		t->tcp_flags = b->rest[5];
		return 0;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_UDPLITE:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (!near || (void *)&b->rest > end) {
			if (load_bytes(ctx, offset, &copy, 8))
				return MANX_DROP_MALFORMED;
			b = &copy;
		}
		if (protocol == IPPROTO_ICMP) {
			__u8 type = bpf_ntohs(b->word[0]) >> 8;

			read_icmp(b, ICMP_ECHO, ICMP_ECHOREPLY, t);
			if (type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
			    type == ICMP_PARAMETERPROB)
				t->flags |= PKT_ICMP_ERROR;
		} else if (protocol == IPPROTO_ICMPV6) {
			__u8 type = bpf_ntohs(b->word[0]) >> 8;

			read_icmp(b, ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY, t);
			if (type < ICMPV6_ECHO_REQUEST)
				t->flags |= PKT_ICMP_ERROR;
		} else {
			read_ports(b, t);
		}
		return 0;
	default:
		return 0;
	}
}
