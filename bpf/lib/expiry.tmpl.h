/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: takes tickets that are due. The cost follows what is due: a flow that goes on is looked
 * at once per delay of a queue, and the delays grow with its age.
 */

/* The longest delay that neither outlasts the timeout nor, by much, the age of the flow. */
static __always_inline __u32 FN(next_queue)(__u32 left, __u32 age)
{
	const __u32 delays[MANX_DELAY_QUEUES] = MANX_DELAYS;
	__u32 queue = 0;

	for (int i = 1; i < MANX_DELAY_QUEUES; i++) {
		__u32 delay = delays[i] * MANX_TICKS_PER_S;

		/* left is mostly a little below a delay, so allow an eighth above it. */
		if (delay <= left + left / 8 && delay <= age + age / 8)
			queue = i;
	}
	return queue;
}

static __noinline int FN(check_ticket)(TICKET *ticket, __u32 now)
{
	const struct manx_config *config = get_config();
	struct manx_flow *flow;
	__u32 idle, timeout;

	if (!ticket || !config)
		return 0;
	flow = bpf_map_lookup_elem(&MAP_FLOW, &ticket->key);
	if (!flow || flow->created != ticket->created)
		return 0; /* closed, or another flow that has its own ticket */
	idle = idle_ticks(flow, now);
	timeout = timeout_ticks(config, flow->timeout);
	if (idle >= timeout) {
		bpf_map_delete_elem(&MAP_FLOW, &ticket->key);
		return 1;
	}
	if (FN(push_ticket)(ticket, FN(next_queue)(timeout - idle, now - flow->created), now)) {
		/* No room for tickets: the table that needs none takes the flow. */
		struct manx_flow copy = *flow;

		bpf_map_update_elem(&MAP_NEW, &ticket->key, &copy, BPF_ANY);
		bpf_map_delete_elem(&MAP_FLOW, &ticket->key);
	}
	return 0;
}

/* One ticket of queue N; 1 ends the loop over it. */
#define DRAIN_QUEUE(N)                                                                             \
	static long FN(drain##N##_)(__u32 index, struct drain * drain)                             \
	{                                                                                          \
		TICKET ticket;                                                                     \
                                                                                                   \
		if (bpf_map_peek_elem(&MAP_DUE(N), &ticket) ||                                     \
		    (__s32)(drain->now - ticket.due) < 0 ||                                        \
		    bpf_map_pop_elem(&MAP_DUE(N), &ticket))                                        \
			return 1;                                                                  \
		drain->checked++;                                                                  \
		drain->expired += FN(check_ticket)(&ticket, drain->now);                           \
		return 0;                                                                          \
	}

DRAIN_QUEUE(0)
DRAIN_QUEUE(1)
DRAIN_QUEUE(2)
DRAIN_QUEUE(3)

static __always_inline void FN(drain)(struct drain *drain)
{
	bpf_loop(DRAIN_MAX, FN(drain0_), drain, 0);
	bpf_loop(DRAIN_MAX, FN(drain1_), drain, 0);
	bpf_loop(DRAIN_MAX, FN(drain2_), drain, 0);
	bpf_loop(DRAIN_MAX, FN(drain3_), drain, 0);
}
#undef DRAIN_QUEUE
