/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: the way out of a flow's packets: found once per flow and epoch, taken by each packet.
 */

static __always_inline void FN(way_to_endpoint)(struct __sk_buff *ctx,
						const struct manx_endpoint *endpoint,
						struct manx_way *way, __u16 *mtu)
{
	__u32 device_mtu = 0;

	way->out_ifindex = endpoint->ifindex;
	way->kind = endpoint->flags & MANX_EP_REDIRECT_HOST ? MANX_WAY_HOST : MANX_WAY_PEER;
	__builtin_memcpy(way->target, endpoint->mac, sizeof(way->target));
	/* Fails for a packet that is too long, and says the MTU all the same. */
	bpf_check_mtu(ctx, endpoint->ifindex, &device_mtu, 0, 0);
	*mtu = device_mtu > 0xffff ? 0xffff : device_mtu;
}

/*
 * By the kernel's routes, as it would forward the packet. Only out of a device that is an uplink of
 * ours; everything else (blackholes, tunnels, this host) is the stack's.
 */
__noinline int FN(way_by_route)(struct __sk_buff *ctx, const PACKET *p, struct manx_way *way,
				__u16 *mtu)
{
	struct bpf_fib_lookup fib = {
		.tot_len = 1, /* asks for the route's MTU */
	};
	long rc;

	if (!p || !way || !mtu)
		return -1;
	fib.ifindex = ctx->ifindex;
	fib.l4_protocol = p->key.protocol;
	fib.sport = bpf_htons(p->t.src_port);
	fib.dport = bpf_htons(p->t.dst_port);
	FN(set_route_key)(&fib, p);
	way->kind = MANX_WAY_STACK;
	rc = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	if (!bpf_map_lookup_elem(&manx_uplinks, &fib.ifindex))
		return 0;
	way->kind = MANX_WAY_NEIGH;
	way->out_ifindex = fib.ifindex;
	FN(set_next_hop)(way, &fib);
	if (fib.tot_len > 1) {
		*mtu = fib.tot_len;
	} else {
		/* In the place of what is not needed any more: the stack is short. */
		fib.rt_metric = 0;
		bpf_check_mtu(ctx, fib.ifindex, &fib.rt_metric, 0, 0);
		*mtu = fib.rt_metric > 0xffff ? 0xffff : fib.rt_metric;
	}
	return 0;
}

static __always_inline void FN(way_deferred)(const struct manx_endpoint *src, struct manx_way *way)
{
	way->kind = MANX_WAY_DEFER;
	way->target[0] = src->slot & 0xff;
	way->target[1] = src->slot >> 8;
}

/*
 * Both ways of a flow, for a packet of one direction: its own fully, the other one as far as it
 * ends here. src and dst are the endpoints of this packet's addresses.
 */
static __always_inline void FN(resolve_one)(struct __sk_buff *ctx, const PACKET *p,
					    const struct manx_endpoint *src,
					    const struct manx_endpoint *dst, __u32 dst_flags,
					    __u32 forward, struct manx_flow *flow,
					    struct manx_way *way, __u16 *mtu, struct manx_way *back,
					    __u16 *back_mtu)
{
	if (!(flow->flags & MANX_FLOW_BY_SLOT) || src)
		way->in_ifindex = src ? src->ifindex : 0;
	if (!(flow->flags & MANX_FLOW_BY_SLOT) || dst)
		back->in_ifindex = dst ? dst->ifindex : 0;
	/* Both ways, so that the stack's own tracking of connections sees all of it. */
	if ((flow->flags & MANX_FLOW_BY_STACK) || (src && (src->flags & MANX_EP_BY_STACK)) ||
	    (dst && (dst->flags & MANX_EP_BY_STACK))) {
		way->kind = MANX_WAY_STACK;
		back->kind = MANX_WAY_STACK;
		return;
	}
	if (dst)
		FN(way_to_endpoint)(ctx, dst, way, mtu);
	else if ((dst_flags & MANX_CLASS_LOCAL_HOST) && src)
		/* Judged as what it is; a node port becomes something else. */
		FN(way_deferred)(src, way);
	else if (forward && src && (src->flags & MANX_EP_NAT_OUTGOING) &&
		 !(dst_flags & MANX_CLASS_POOL))
		/* Masqueraded there; the answers to what came in directly are not. */
		way->kind = MANX_WAY_STACK;
	else if (src)
		FN(way_by_route)(ctx, p, way, mtu);
	else
		way->kind = MANX_WAY_STACK;
	if (src)
		FN(way_to_endpoint)(ctx, src, back, back_mtu);
	else
		back->kind = MANX_WAY_UNKNOWN;
}

/*
 * Used: else clang, which sees that nobody looks at the result, leaves what it likes in r0, and the
 * verifier refuses a pointer to the stack.
 */
static __noinline __attribute__((used)) int FN(resolve)(struct __sk_buff *ctx, const PACKET *p,
							const struct FN(parties) * who,
							__u32 forward, struct manx_flow *flow)
{
	__u32 flags = who->dst_class.flags;

	if (p->side)
		FN(resolve_one)(ctx, p, who->src, who->dst, flags, forward, flow, &flow->way[1],
				&flow->mtu[1], &flow->way[0], &flow->mtu[0]);
	else
		FN(resolve_one)(ctx, p, who->src, who->dst, flags, forward, flow, &flow->way[0],
				&flow->mtu[0], &flow->way[1], &flow->mtu[1]);
	return 0;
}

/*
 * Whether the flow is one of workloads that are gone: an address is not where it was when the flow
 * was judged. Asked when the epoch has changed.
 */
static __noinline int FN(is_of_others)(const PACKET *p, const struct manx_flow *flow)
{
	const struct manx_endpoint *src, *dst;
	__u32 from, to, sender, receiver;

	if (!p || !flow)
		return 0;
	src = FN(find_endpoint)(&p->src);
	dst = FN(find_endpoint)(&p->dst);
	from = src ? src->ifindex : 0;
	to = dst ? dst->ifindex : 0;
	if (flow->flags & MANX_FLOW_BY_SLOT) {
		/* The opener's address may be another by now; its slot is its own. */
		__u32 slot = flow->slot;
		const struct manx_slot_entry *opener = bpf_map_lookup_elem(&manx_slot, &slot);
		__u32 ifindex = opener ? opener->ifindex : 0;

		if (is_forward(flow, p->side))
			from = from ?: ifindex;
		else
			to = to ?: ifindex;
	}
	sender = p->side ? flow->way[1].in_ifindex : flow->way[0].in_ifindex;
	receiver = p->side ? flow->way[0].in_ifindex : flow->way[1].in_ifindex;
	return sender != from || receiver != to;
}

/*
 * Routes or endpoints have changed, or this direction has not been resolved yet: writes the flow
 * anew with its ways as they are now, and finds it again.
 */
static __noinline int FN(refresh)(struct __sk_buff *ctx, const PACKET *p,
				  const struct manx_config *config, struct FN(found) * found)
{
	struct FN(parties) who;
	struct manx_flow flow;

	if (!found->flow)
		return 0;
	flow = *found->flow;
	FN(meet)(p, &who);
	flow.epoch = config->epoch;
	FN(resolve)(ctx, p, &who, is_forward(&flow, p->side), &flow);
	if (FN(write_flow)(p, &flow, found->live))
		return 0;
	found->flow = found->live ? bpf_map_lookup_elem(&MAP_FLOW, &p->key)
				  : bpf_map_lookup_elem(&MAP_NEW, &p->key);
	return 0;
}

/* Whether the packet is longer than the way takes. */
static __always_inline int FN(is_too_big)(struct __sk_buff *ctx, const PACKET *p, __u32 mtu)
{
	if (ctx->len <= mtu + ETH_HLEN || !mtu)
		return 0;
	if (ctx->gso_size)
		return ctx->gso_size + p->transport_offset - ETH_HLEN +
			       gso_header_of(p->key.protocol) >
		       mtu;
	return 1;
}

/*
 * Takes the way out: the end of every allowed packet at an ingress hook. reason: what is counted
 * in place of the way's own.
 */
static __always_inline int FN(take)(struct __sk_buff *ctx, const PACKET *p,
				    const struct manx_way *way, __u32 mtu, __u32 reason)
{
	__u32 out = way->out_ifindex;
	__u8 kind = way->kind;

	if (kind == MANX_WAY_STACK || kind == MANX_WAY_UNKNOWN) {
		approve(ctx);
		return pass(ctx, reason ?: MANX_PASS_TO_STACK);
	}
	if (kind == MANX_WAY_DEFER) {
		if (reason == MANX_PASS_RELATED)
			approve(ctx);
		else
			defer(ctx, way->target[0] | (__u32)way->target[1] << 8,
			      MANX_MARK_HOST_ALLOWED);
		return pass(ctx, reason ?: MANX_PASS_TO_STACK);
	}
	if (p->hops <= 1 || (p->t.flags & PKT_OPTIONS) || FN(is_too_big)(ctx, p, mtu)) {
		approve(ctx);
		return pass(ctx, MANX_PASS_SLOW_PATH);
	}
	if (kind == MANX_WAY_NEIGH) {
		if (FN(decrement_hops)(ctx))
			return count_drop(ctx, MANX_DROP_MALFORMED);
		approve(ctx);
		count(ctx, reason ?: MANX_PASS_REDIRECT_NEIGH);
		return FN(redirect_to_next_hop)(way, out);
	}
	if (FN(decrement_hops)(ctx) || rewrite_macs(ctx, way->target))
		return count_drop(ctx, MANX_DROP_MALFORMED);
	if (kind == MANX_WAY_HOST) {
		approve(ctx);
		count(ctx, reason ?: MANX_PASS_REDIRECT_HOST);
		return bpf_redirect(out, 0);
	}
	count(ctx, reason ?: MANX_PASS_REDIRECT_PEER);
	return bpf_redirect_peer(out, 0);
}
