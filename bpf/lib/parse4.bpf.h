/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* IPv4: from the wire to struct packet4. */
#pragma once

#include "lib/address.bpf.h"

#include "lib/family4.bpf.h"
#include "lib/key.tmpl.h"
#include "lib/fragment.tmpl.h"
#include "lib/family_end.bpf.h"

#define IP4_MORE_FRAGMENTS 0x2000
#define IP4_OFFSET	   0x1fff

__noinline int parse_fragment4(CONTEXT *ctx, struct packet4 *p, __u32 frag, __u32 id)
{
	struct manx_frag4_key key = {.id = id};

	if (!p)
		return MANX_DROP_MALFORMED;
	key.src = p->src.addr;
	key.dst = p->dst.addr;
	key.protocol = p->key.protocol;
	if (frag & IP4_OFFSET) {
		/* RFC 1858: would overwrite the flags of a TCP header that was judged. */
		if (p->key.protocol == IPPROTO_TCP && (frag & IP4_OFFSET) == 1)
			return MANX_DROP_MALFORMED;
		p->t.flags |= PKT_LATER_FRAGMENT;
	} else {
		p->t.flags |= PKT_FIRST_FRAGMENT;
		if (parse_transport(ctx, p->transport_offset, p->key.protocol, &p->t, 0))
			return MANX_DROP_MALFORMED;
	}
	return fragment4(&key, &p->t);
}

/* 0, or MANX_DROP_MALFORMED. Afterwards tc can write the IPv4 header. */
static __always_inline int parse4(CONTEXT *ctx, struct packet4 *p)
{
	struct iphdr copy;
	struct iphdr *ip = network_header(ctx, &copy, sizeof(copy));
	__u32 header;
	__u16 frag;

	if (!ip)
		return MANX_DROP_MALFORMED;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return MANX_DROP_MALFORMED;
	p->src.addr = ip->saddr;
	p->dst.addr = ip->daddr;
	p->hops = ip->ttl;
	p->transport_offset = NETWORK_OFFSET + header;
	p->t.flags = header > sizeof(*ip) ? PKT_OPTIONS : 0;
	p->now = ticks();
	frag = bpf_ntohs(ip->frag_off);
	if (frag & (IP4_MORE_FRAGMENTS | IP4_OFFSET)) {
		p->key.protocol = ip->protocol;
		p->t.src_port = p->t.dst_port = p->t.policy_port = 0;
		p->t.tcp_flags = 0;
		if (parse_fragment4(ctx, p, frag, ip->id))
			return MANX_DROP_MALFORMED;
		p->side = make_key4(&p->key, &p->src, &p->dst, p->key.protocol, &p->t);
		return 0;
	} else {
		__u8 protocol = ip->protocol;

		if (parse_transport(ctx, NETWORK_OFFSET + header, protocol, &p->t, 1))
			return MANX_DROP_MALFORMED;
		p->side = make_key4(&p->key, &p->src, &p->dst, protocol, &p->t);
		return 0;
	}
}

/* The packet inside an ICMP error, at offset. Returns 0 where it cannot be read. */
static __always_inline int parse_inner4(CONTEXT *ctx, __u32 offset, struct packet4 *inner)
{
	struct iphdr ip;

	if (load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return 0;
	inner->src.addr = ip.saddr;
	inner->dst.addr = ip.daddr;
	inner->t.flags = 0;
	/* RFC 792 promises eight bytes of the transport header: no TCP flags. */
	if (bpf_ntohs(ip.frag_off) & IP4_OFFSET ||
	    parse_transport(ctx, offset + ip.ihl * 4,
			    ip.protocol == IPPROTO_TCP ? IPPROTO_UDP : ip.protocol, &inner->t, 0))
		return 0;
	inner->side = make_key4(&inner->key, &inner->src, &inner->dst, ip.protocol, &inner->t);
	return 1;
}
