/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Everything that the four tc hooks share, for both families. A program defines HOOK, includes
 * this, and then its own template twice.
 */
#pragma once

#include "lib/judge.bpf.h"
#include "lib/rewrite.bpf.h"
#include "lib/tc.bpf.h"

/* No verdict of tc: see lib/go_on.tmpl.h. */
#define GO_ANEW (-3)

#include "lib/family4.bpf.h"
#include "lib/way.tmpl.h"
#include "lib/related.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "lib/way.tmpl.h"
#include "lib/related.tmpl.h"
#include "lib/family_end.bpf.h"

/* What keeps a packet off the fast path whatever its flow says. */
#define SLOW_TCP_FLAGS (TCP_SYN | TCP_FIN | TCP_RST)
#define SLOW_FLAGS     (PKT_LATER_FRAGMENT | PKT_NO_PORTS | PKT_ICMP_ERROR | PKT_NEIGHBOR)

/* Whether the flow's ways and verdict are those of now. */
static __always_inline int is_current(const struct manx_flow *flow,
				      const struct manx_config *config)
{
	return flow->epoch == config->epoch && (!(config->flags & MANX_CONFIG_REJUDGE) ||
						flow->policy_epoch == config->policy_epoch);
}
