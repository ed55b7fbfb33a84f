/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Template: tickets of expiry. A live flow has one, in one of the queues of maps/abi/flow.h.
 */

/* Into the queue with this index, or the first above it that has room. 0, or an error. */
static __noinline int FN(push_ticket)(TICKET *ticket, __u32 queue, __u32 now)
{
	const __u32 delays[MANX_DELAY_QUEUES] = MANX_DELAYS;

	if (!ticket)
		return -1;
	switch (queue) {
	case 0:
		ticket->due = now + delays[0] * MANX_TICKS_PER_S;
		if (!bpf_map_push_elem(&MAP_DUE(0), ticket, 0))
			return 0;
	case 1: /* fall through */
		ticket->due = now + delays[1] * MANX_TICKS_PER_S;
		if (!bpf_map_push_elem(&MAP_DUE(1), ticket, 0))
			return 0;
	case 2: /* fall through */
		ticket->due = now + delays[2] * MANX_TICKS_PER_S;
		if (!bpf_map_push_elem(&MAP_DUE(2), ticket, 0))
			return 0;
	default: /* fall through */
		ticket->due = now + delays[3] * MANX_TICKS_PER_S;
		return bpf_map_push_elem(&MAP_DUE(3), ticket, 0);
	}
}
