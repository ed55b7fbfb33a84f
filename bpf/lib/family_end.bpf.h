/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Ends a family that lib/family4.bpf.h or lib/family6.bpf.h began. */
#undef FAMILY
#undef FN
#undef ADDR
#undef PREFIX
#undef FLOW_KEY
#undef FRAG_KEY
#undef TICKET
#undef PACKET
#undef MAP_EP
#undef MAP_CLASS
#undef MAP_NET
#undef MAP_FLOW
#undef MAP_NEW
#undef MAP_FRAG
#undef MAP_DUE
#undef SLOT_INDEX
#undef PREFIX_BITS
#undef ECHO_REQUEST
#undef PROTO_ICMP
#undef ECHO_REPLY
