/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every exit of a program goes through here, with a reason. HOOK is the program's enum manx_hook.
 */
#pragma once

#include "lib/packet.bpf.h"

/* Events per CPU and second; what is above is counted only. */
#define EVENTS_PER_SECOND 256

static __always_inline void count(CONTEXT *ctx, __u32 reason)
{
	__u32 index = HOOK * MANX_REASON_MAX + reason;
	struct manx_counter *total = bpf_map_lookup_elem(&manx_totals, &index);

	if (total) {
		total->packets++;
		total->bytes += packet_length(ctx);
	}
}

/*
 * The packet stays with the kernel, and no other program is to look at it. What a workload sends
 * goes on to the filters of its device all the same: they are its shaper's.
 */
static __always_inline int pass(CONTEXT *ctx, __u32 reason)
{
	count(ctx, reason);
	return VERDICT_PASS;
}

__noinline int count_drop(CONTEXT *ctx, __u32 reason)
{
	struct manx_counter_key key = {
		.ifindex = device_of(ctx), .hook = HOOK, .reason = (__u16)reason};
	struct manx_counter *counter;

	if (is_question(ctx))
		return answer(ctx, reason);
	count(ctx, reason & (MANX_REASON_MAX - 1));
	counter = bpf_map_lookup_elem(&manx_counters, &key);
	if (counter) {
		counter->packets++;
		counter->bytes += packet_length(ctx);
	} else {
		struct manx_counter first = {.packets = 1, .bytes = packet_length(ctx)};

		bpf_map_update_elem(&manx_counters, &key, &first, BPF_NOEXIST);
	}
	return VERDICT_DROP;
}

/* Whether this CPU may emit one more event in this second. */
static __always_inline int may_emit(__u64 now_ns)
{
	__u32 zero = 0;
	__u32 second = now_ns >> 30;
	struct manx_limit *limit = bpf_map_lookup_elem(&manx_limit, &zero);

	if (!limit)
		return 0;
	if (limit->second != second) {
		limit->second = second;
		limit->used = 0;
	}
	return limit->used++ < EVENTS_PER_SECOND;
}

struct event_input {
	__u32 src[4]; /* IPv4 in the first word */
	__u32 dst[4];
	__u32 rule;
	__u16 src_port;
	__u16 dst_port;
	__u8 family;
	__u8 protocol;
	__u8 reason;
};

__noinline int emit(CONTEXT *ctx, const struct event_input *input)
{
	struct manx_event *event;
	__u64 now = now_ns();

	if (!input || is_question(ctx) || !may_emit(now))
		return 0;
	event = bpf_ringbuf_reserve(&manx_events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->time_ns = now;
	event->ifindex = device_of(ctx);
	event->rule = input->rule;
	__builtin_memcpy(event->src, input->src, sizeof(event->src));
	__builtin_memcpy(event->dst, input->dst, sizeof(event->dst));
	event->src_port = input->src_port;
	event->dst_port = input->dst_port;
	event->family = input->family;
	event->protocol = input->protocol;
	event->reason = input->reason;
	event->hook = HOOK;
	bpf_ringbuf_submit(event, 0);
	return 0;
}
