// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Expiry of live flows, in the kernel: a timer that takes tickets which are due. It goes on while
 * the agent is down. The program is run once by the loader, to arm the timer or to give an armed
 * one this version's callback; it is attached nowhere.
 */
#define HOOK 0
#include "lib/flow.bpf.h"

/* Per queue and run: bounds the time in a softirq to well below a millisecond. */
#define DRAIN_MAX 256
/* Between runs, and when tickets were left over. */
#define PERIOD_NS 500000000ULL
#define BUSY_NS	  2000000ULL

struct drain {
	__u32 now;
	__u32 checked;
	__u64 expired;
};

#include "lib/family4.bpf.h"
#include "lib/ticket.tmpl.h"
#include "lib/expiry.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "lib/ticket.tmpl.h"
#include "lib/expiry.tmpl.h"
#include "lib/family_end.bpf.h"

#define CLOCK_MONOTONIC 1
#define EBUSY		16

static int on_timer(void *map, __u32 *key, struct manx_expiry *expiry)
{
	struct drain drain = {.now = ticks()};

	drain4(&drain);
	drain6(&drain);
	expiry->runs++;
	expiry->checked += drain.checked;
	expiry->expired += drain.expired;
	bpf_timer_start(&expiry->timer, drain.checked >= DRAIN_MAX ? BUSY_NS : PERIOD_NS, 0);
	return 0;
}

SEC("tc")
int tc_expiry(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct manx_expiry *expiry = bpf_map_lookup_elem(&manx_expiry, &zero);
	int rc;

	if (!expiry)
		return -1;
	rc = bpf_timer_init(&expiry->timer, &manx_expiry, CLOCK_MONOTONIC);
	if (rc && rc != -EBUSY)
		return rc;
	rc = bpf_timer_set_callback(&expiry->timer, on_timer);
	if (rc)
		return rc;
	return bpf_timer_start(&expiry->timer, PERIOD_NS, 0);
}

char manx_license[] SEC("license") = "GPL";
