/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * From a packet to its flow and its verdict, for both families: what all hooks share, of tc and of
 * netfilter.
 */
#pragma once

#include "lib/count.bpf.h"
#include "lib/deferred.bpf.h"
#include "lib/flow.bpf.h"
#include "lib/maps.bpf.h"
#include "lib/parse4.bpf.h"
#include "lib/parse6.bpf.h"
#include "lib/policy.bpf.h"

#include "lib/family4.bpf.h"
#include "lib/scratch.tmpl.h"
#include "lib/endpoint.tmpl.h"
#include "lib/ticket.tmpl.h"
#include "lib/flow.tmpl.h"
#include "lib/rejudge.tmpl.h"
#include "lib/stack_flow.tmpl.h"
#include "lib/family_end.bpf.h"

#include "lib/family6.bpf.h"
#include "lib/scratch.tmpl.h"
#include "lib/endpoint.tmpl.h"
#include "lib/ticket.tmpl.h"
#include "lib/flow.tmpl.h"
#include "lib/rejudge.tmpl.h"
#include "lib/stack_flow.tmpl.h"
#include "lib/family_end.bpf.h"
