/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* IPv6: from the wire to struct packet6. */
#pragma once

#include "lib/address.bpf.h"

#include "lib/family6.bpf.h"
#include "lib/key.tmpl.h"
#include "lib/fragment.tmpl.h"
#include "lib/family_end.bpf.h"

#define IP6_HOP_BY_HOP	   0
#define IP6_ROUTING	   43
#define IP6_FRAGMENT	   44
#define IP6_AUTH	   51
#define IP6_DESTINATION	   60
#define IP6_MORE_FRAGMENTS 1
#define IP6_OFFSET	   0xfff8

/* Extension headers that are followed; what has more is malformed to us. */
#define IP6_EXTENSIONS		  8

#define ICMP6_MLD_QUERY		  130
#define ICMP6_MLD_DONE		  132
#define ICMP6_ROUTER_SOLICITATION 133
#define ICMP6_REDIRECT		  137
#define ICMP6_MLD2_REPORT	  143

struct extension {
	__u8 next;
	__u8 length; /* in 8 bytes, not counting the first; in 4 bytes, less 2, for AUTH */
	__be16 frag;
	__be32 id;
};

struct extension_walk {
	struct manx_frag6_key frag_key;
	__u32 offset;
	__u16 frag;
	__u8 next;
	__u8 flags;
};

/* Walks to the transport header. 0, or MANX_DROP_MALFORMED. */
__noinline int walk_extensions(CONTEXT *ctx, struct extension_walk *walk)
{
	if (!walk)
		return MANX_DROP_MALFORMED;
#pragma clang loop unroll(disable)
	for (int i = 0; i < IP6_EXTENSIONS; i++) {
		struct extension header;

		switch (walk->next) {
		case IP6_HOP_BY_HOP:
			walk->flags |= PKT_OPTIONS;
			break;
		case IP6_ROUTING:
		case IP6_DESTINATION:
		case IP6_AUTH:
		case IP6_FRAGMENT:
			break;
		default:
			return 0;
		}
		if (load_bytes(ctx, walk->offset, &header, sizeof(header)))
			return MANX_DROP_MALFORMED;
		if (walk->next == IP6_FRAGMENT) {
			walk->offset += sizeof(header);
			walk->frag = bpf_ntohs(header.frag);
			walk->frag_key.id = header.id;
			walk->next = header.next;
			if (walk->frag & IP6_OFFSET) {
				walk->flags |= PKT_LATER_FRAGMENT;
				return 0; /* what follows is data */
			}
			if (walk->frag & IP6_MORE_FRAGMENTS)
				walk->flags |= PKT_FIRST_FRAGMENT;
			continue;
		}
		walk->offset +=
			walk->next == IP6_AUTH ? (header.length + 2) * 4 : (header.length + 1) * 8;
		walk->next = header.next;
	}
	return MANX_DROP_MALFORMED;
}

static __always_inline int has_extension(__u8 next)
{
	return next == IP6_HOP_BY_HOP || next == IP6_ROUTING || next == IP6_FRAGMENT ||
	       next == IP6_AUTH || next == IP6_DESTINATION;
}

/* Fills p->t and the key's protocol of a packet with extension headers. */
__noinline int parse_extensions(CONTEXT *ctx, struct packet6 *p)
{
	struct extension_walk walk = {.offset = NETWORK_OFFSET + sizeof(struct ipv6hdr)};

	if (!p)
		return MANX_DROP_MALFORMED;
	walk.next = p->key.protocol;
	if (walk_extensions(ctx, &walk))
		return MANX_DROP_MALFORMED;
	p->t.flags = walk.flags;
	p->t.src_port = p->t.dst_port = p->t.policy_port = 0;
	p->t.tcp_flags = 0;
	p->key.protocol = walk.next;
	p->transport_offset = walk.offset;
	if (!(walk.flags & PKT_LATER_FRAGMENT) &&
	    parse_transport(ctx, walk.offset, walk.next, &p->t, 0))
		return MANX_DROP_MALFORMED;
	if (walk.flags & (PKT_LATER_FRAGMENT | PKT_FIRST_FRAGMENT)) {
		__builtin_memcpy(walk.frag_key.src, &p->src, sizeof(p->src));
		__builtin_memcpy(walk.frag_key.dst, &p->dst, sizeof(p->dst));
		walk.frag_key.protocol = walk.next;
		fragment6(&walk.frag_key, &p->t);
	}
	return 0;
}

/* Neighbour discovery, and multicast listener reports of link-local scope (RFC 4861, 3810). */
static __always_inline int is_neighbor_traffic(const struct packet6 *p)
{
	__u8 type = p->t.policy_port >> 8;

	if (type >= ICMP6_ROUTER_SOLICITATION && type <= ICMP6_REDIRECT)
		return p->hops == 255;
	return ((type >= ICMP6_MLD_QUERY && type <= ICMP6_MLD_DONE) || type == ICMP6_MLD2_REPORT) &&
	       (is_link_local6(&p->src) || is_unspecified6(&p->src));
}

/* 0, or MANX_DROP_MALFORMED. Afterwards tc can write the IPv6 header. */
static __always_inline int parse6(CONTEXT *ctx, struct packet6 *p)
{
	struct ipv6hdr copy;
	struct ipv6hdr *ip = network_header(ctx, &copy, sizeof(copy));
	__u8 protocol;

	if (!ip)
		return MANX_DROP_MALFORMED;
	if (ip->version != 6)
		return MANX_DROP_MALFORMED;
	__builtin_memcpy(&p->src, &ip->saddr, sizeof(p->src));
	__builtin_memcpy(&p->dst, &ip->daddr, sizeof(p->dst));
	p->hops = ip->hop_limit;
	p->transport_offset = NETWORK_OFFSET + sizeof(*ip);
	p->t.flags = 0;
	p->now = ticks();
	protocol = ip->nexthdr;
	if (has_extension(protocol)) {
		p->key.protocol = protocol;
		if (parse_extensions(ctx, p))
			return MANX_DROP_MALFORMED;
		protocol = p->key.protocol;
	} else if (parse_transport(ctx, NETWORK_OFFSET + sizeof(*ip), protocol, &p->t, 1)) {
		return MANX_DROP_MALFORMED;
	}
	if (protocol == IPPROTO_ICMPV6 && is_neighbor_traffic(p))
		p->t.flags |= PKT_NEIGHBOR;
	p->side = make_key6(&p->key, &p->src, &p->dst, protocol, &p->t);
	return 0;
}

/* The packet inside an ICMPv6 error, at offset. Returns 0 where it cannot be read. */
static __always_inline int parse_inner6(CONTEXT *ctx, __u32 offset, struct packet6 *inner)
{
	struct extension_walk walk = {.offset = offset + sizeof(struct ipv6hdr)};
	struct ipv6hdr ip;

	if (load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	__builtin_memcpy(&inner->src, &ip.saddr, sizeof(inner->src));
	__builtin_memcpy(&inner->dst, &ip.daddr, sizeof(inner->dst));
	inner->t.flags = 0;
	walk.next = ip.nexthdr;
	if (walk_extensions(ctx, &walk) || walk.flags & PKT_LATER_FRAGMENT ||
	    parse_transport(ctx, walk.offset, walk.next == IPPROTO_TCP ? IPPROTO_UDP : walk.next,
			    &inner->t, 0))
		return 0;
	inner->side = make_key6(&inner->key, &inner->src, &inner->dst, walk.next, &inner->t);
	return 1;
}
