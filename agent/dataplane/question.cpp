// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/question.h"

#include <bpf/bpf.h>

#include <netinet/in.h>

#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace manx::dataplane {

namespace {

using Bytes = std::vector<uint8_t>;

void put16(Bytes& out, uint16_t value) {
    out.push_back(static_cast<uint8_t>(value >> 8));
    out.push_back(static_cast<uint8_t>(value));
}

void put(Bytes& out, std::span<const uint8_t> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}

// Headers as the programs read them; nobody looks at checksums.
Bytes transport_header(const Question& question) {
    constexpr uint8_t kTcpWords = 5;
    constexpr uint8_t kSyn = 2;
    Bytes out;
    switch (question.protocol) {
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        put16(out, question.port); // type, code
        put16(out, 0);
        put16(out, question.source_port); // identifier
        put16(out, 1);
        return out;
    case IPPROTO_TCP:
        put16(out, question.source_port);
        put16(out, question.port);
        out.resize(12);
        out.push_back(kTcpWords << 4);
        out.push_back(kSyn);
        out.resize(size_t{kTcpWords} * 4);
        return out;
    default:
        put16(out, question.source_port);
        put16(out, question.port);
        put16(out, 8); // UDP: length
        out.resize(12);
        return out;
    }
}

Bytes packet_of(const Question& question) {
    constexpr std::array<uint8_t, 12> kMacs{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    constexpr uint8_t kHops = 64;
    const Bytes transport = transport_header(question);
    Bytes out(kMacs.begin(), kMacs.end());
    if (question.from.is_v4()) {
        put16(out, 0x0800);
        put16(out, 0x4500);
        put16(out, static_cast<uint16_t>(20 + transport.size()));
        put16(out, 1);      // identification
        put16(out, 0x4000); // do not fragment
        out.push_back(kHops);
        out.push_back(question.protocol);
        put16(out, 0);
    } else {
        put16(out, 0x86dd);
        put16(out, 0x6000);
        put16(out, 0);
        put16(out, static_cast<uint16_t>(transport.size()));
        out.push_back(question.protocol);
        out.push_back(kHops);
    }
    put(out, question.from.bytes());
    put(out, question.to.bytes());
    put(out, transport);
    return out;
}

Result<UniqueFd> open_program(const std::string& bpffs, const char* name) {
    const std::string path = bpffs + "/progs/" + name;
    UniqueFd fd(bpf_obj_get(path.c_str()));
    if (!fd) {
        if (errno == ENOENT) {
            return fail(ErrorKind::NotFound, path + ": no program is pinned there");
        }
        return fail_errno("open " + path);
    }
    return fd;
}

} // namespace

Result<LivePrograms> LivePrograms::open(const std::string& bpffs) {
    LivePrograms out;
    TRY_ASSIGN(out.from_workload_, open_program(bpffs, "tc_from_workload"));
    TRY_ASSIGN(out.to_workload_, open_program(bpffs, "tc_to_workload"));
    TRY_ASSIGN(out.from_uplink_, open_program(bpffs, "tc_from_uplink"));
    return out;
}

Result<std::optional<Answer>> LivePrograms::ask(manx_hook hook, const Question& question,
                                                uint32_t ifindex, uint32_t ingress) const {
    const UniqueFd& program = hook == MANX_HOOK_FROM_WORKLOAD ? from_workload_
                              : hook == MANX_HOOK_TO_WORKLOAD ? to_workload_
                                                              : from_uplink_;
    Bytes packet = packet_of(question);
    packet.resize(std::max<size_t>(packet.size(), 60)); // Ethernet's shortest
    __sk_buff context{};
    context.ifindex = ifindex;
    context.ingress_ifindex = ingress;
    context.mark = MANX_MARK_QUESTION;
    context.priority = MANX_QUESTION_PRIORITY;
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.data_in = packet.data();
    options.data_size_in = static_cast<uint32_t>(packet.size());
    options.ctx_in = &context;
    options.ctx_size_in = sizeof(context);
    options.ctx_out = &context;
    options.ctx_size_out = sizeof(context);
    options.repeat = 1;
    if (bpf_prog_test_run_opts(program.get(), &options) < 0) {
        return fail_errno("ask the program of interface " + std::to_string(ifindex));
    }
    if (context.cb[MANX_ANSWER_GIVEN] == 0) {
        return std::nullopt;
    }
    return Answer{.reason = static_cast<manx_reason>(context.cb[MANX_ANSWER_REASON]),
                  .egress_rule = context.cb[MANX_ANSWER_EGRESS_RULE],
                  .ingress_rule = context.cb[MANX_ANSWER_INGRESS_RULE],
                  .log = context.cb[MANX_ANSWER_LOG] != 0};
}

} // namespace manx::dataplane
