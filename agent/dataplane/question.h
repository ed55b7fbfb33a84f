// SPDX-License-Identifier: Apache-2.0
// Asks the pinned programs what they would make of the first packet of a flow, by
// BPF_PROG_TEST_RUN with a made packet that carries the marks of a question (maps/abi/verdict.h):
// judged by the live tables, and neither written, counted, reported nor sent.
#pragma once

#include "base/ip.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "maps/abi/verdict.h"

#include <cstdint>
#include <optional>
#include <string>

namespace manx::dataplane {

struct Question {
    IpAddress from; // both of one family
    IpAddress to;
    uint8_t protocol = 6;
    uint16_t source_port = 0; // ICMP: the identifier of an echo
    uint16_t port = 0;        // ICMP: type << 8 | code
};

struct Answer {
    manx_reason reason{};     // of the drop; none: allowed; deferred, not_ours: not judged here
    uint32_t egress_rule = 0; // that decided; 0: none
    uint32_t ingress_rule = 0;
    bool log = false;
};

class LivePrograms {
public:
    // NotFound: no programs are pinned there.
    static Result<LivePrograms> open(const std::string& bpffs);

    // As if the packet came by the device (from_workload, from_uplink), or left by it
    // (to_workload; ingress: the device it came by, 0: this host made it). nullopt: the packet
    // belongs to a flow that exists, and was not judged.
    Result<std::optional<Answer>> ask(manx_hook hook, const Question& question, uint32_t ifindex,
                                      uint32_t ingress = 0) const;

private:
    UniqueFd from_workload_;
    UniqueFd to_workload_;
    UniqueFd from_uplink_;
};

} // namespace manx::dataplane
