// SPDX-License-Identifier: Apache-2.0
// What a packet costs in the programs, by BPF_PROG_TEST_RUN on one CPU, interleaved with an empty
// tc program in the same run: every round visits each case once. Prints medians over the empty
// program, with the spread, and the ratios that bounds are set on.
#include "tests/harness/dataplane.h"

#include <bpf/bpf.h>

#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace manx;
using namespace manx::harness;

constexpr int kRounds = 60;
constexpr uint32_t kHotRepeat = 2000;
constexpr int kNewFlows = 300; // per round: each is a call of its own

struct Case {
    std::string name;
    std::function<double()> run; // ns per packet
    bool once = false;           // one packet per call: compared with the empty program so run
    std::vector<double> samples = {};
};

double median(std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

int load_empty() {
    const std::array<bpf_insn, 2> code{
        bpf_insn{
            .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
        bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    const int fd =
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "empty", "GPL", code.data(), code.size(), nullptr);
    if (fd < 0) {
        throw std::runtime_error("cannot load an empty program");
    }
    return fd;
}

double nanoseconds(int fd, const Bytes& packet, const Context& context, uint32_t repeat) {
    const Result<Outcome> outcome = run_program(fd, packet, context, repeat);
    if (!outcome) {
        throw std::runtime_error(outcome.error().text());
    }
    return static_cast<double>(outcome->duration.count());
}

Packet packet(const std::string& src, const std::string& dst, const Tcp& tcp_layer) {
    // A high TTL: repeat lowers it in place, packet after packet, so it is restored by the caller.
    return eth() / ip(src, dst).with_hops(255) / tcp_layer;
}

void connect(Dataplane& node, const std::string& src, uint32_t src_if, const std::string& dst,
             uint32_t dst_if) {
    const auto hook = [](uint32_t ifindex) {
        return ifindex == kUplink ? MANX_HOOK_FROM_UPLINK : MANX_HOOK_FROM_WORKLOAD;
    };
    node.send(hook(src_if), eth() / ip(src, dst) / tcp(1000, 80, kSyn), {.ifindex = src_if});
    node.send(hook(dst_if), eth() / ip(dst, src) / tcp(80, 1000, kSyn | kAck), {.ifindex = dst_if});
    node.send(hook(src_if), eth() / ip(src, dst) / tcp(1000, 80), {.ifindex = src_if});
}

// The kernel runs a program repeat times on the same packet: 250 leave hops of a TTL of 255.
constexpr uint32_t kPerCall = 250;

double hot(int fd, const Bytes& bytes, const Context& context) {
    double sum = 0;
    for (uint32_t i = 0; i < kHotRepeat / kPerCall; i++) {
        sum += nanoseconds(fd, bytes, context, kPerCall);
    }
    return sum / (kHotRepeat / kPerCall);
}

} // namespace

int main() try {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    (void)sched_setaffinity(0, sizeof(cpus), &cpus); // only steadies the figures

    Dataplane node;
    const int empty = load_empty();
    const int from_workload = *node.loader().program_fd("tc_from_workload");
    const int from_uplink = *node.loader().program_fd("tc_from_uplink");
    const int to_uplink = *node.loader().program_fd("tc_to_uplink");

    std::vector<Case> cases;
    uint16_t port = 2000;
    for (const Family family : kFamilies) {
        const Addresses& at = addresses(family);
        const std::string suffix = family == Family::V4 ? " v4" : " v6";
        connect(node, at.a, kCaliA, at.b, kCaliB);
        connect(node, at.a, kCaliA, at.remote, kUplink);
        const Bytes local = packet(at.a, at.b, tcp(1000, 80)).bytes();
        const Bytes out = packet(at.a, at.remote, tcp(1000, 80)).bytes();
        const Bytes in = packet(at.remote, at.a, tcp(80, 1000)).bytes();
        cases.push_back({"established, local pod, redirect_peer" + suffix,
                         [=] { return hot(from_workload, local, {.ifindex = kCaliA}); }});
        cases.push_back({"established, remote pod, redirect_neigh" + suffix,
                         [=] { return hot(from_workload, out, {.ifindex = kCaliA}); }});
        cases.push_back({"second hook of that, approved" + suffix, [=] {
                             return hot(to_uplink, out,
                                        {.ifindex = kUplink,
                                         .ingress_ifindex = kCaliA,
                                         .mark = MANX_MARK_APPROVED});
                         }});
        cases.push_back({"established, from the network to a pod" + suffix,
                         [=] { return hot(from_uplink, in, {.ifindex = kUplink}); }});
        for (const int rules : {1, 10000}) {
            // As the calculator compiles them: the first rules are for other classes, and the
            // pair's table is what is left.
            const uint32_t set = rules == 1 ? 5 : 6;
            for (int i = 1; i < rules && i < 900; i++) {
                node.set_policy(set, 1000U + static_cast<uint32_t>(i), {{.rule = 1}});
            }
            std::vector<Range> ranges;
            for (int i = 1; i < rules; i++) {
                ranges.push_back({.last = port_key(6, static_cast<uint16_t>(6 * i)),
                                  .action = i % 2 == 0 ? MANX_ACTION_ALLOW : MANX_ACTION_DENY,
                                  .rule = static_cast<uint32_t>(i % 1000)});
            }
            ranges.push_back({.rule = 7});
            node.set_policy(set, kClassB, ranges);
            cases.push_back({"first packet, " + std::to_string(rules) + " rules" + suffix,
                             [&node, &port, &at, family, set, from_workload] {
                                 Workload workload = Dataplane::a(family);
                                 workload.egress = set;
                                 node.put(workload);
                                 double sum = 0;
                                 for (int i = 0; i < kNewFlows; i++) {
                                     port = static_cast<uint16_t>(port < 60000 ? port + 1 : 2000);
                                     sum += nanoseconds(
                                         from_workload,
                                         packet(at.a, at.b, tcp(port, 65000, kSyn)).bytes(),
                                         {.ifindex = kCaliA}, 1);
                                 }
                                 return sum / kNewFlows;
                             },
                             true});
        }
    }
    const Bytes any = packet("10.0.0.1", "10.0.0.2", tcp(1, 2)).bytes();
    Case base{"empty program", [&] { return hot(empty, any, {.ifindex = kCaliA}); }};
    Case base_once{"empty program, one packet per call", [&] {
                       double sum = 0;
                       for (int i = 0; i < kNewFlows; i++) {
                           sum += nanoseconds(empty, any, {.ifindex = kCaliA}, 1);
                       }
                       return sum / kNewFlows;
                   }};
    std::vector<Case*> order{&base, &base_once};
    for (Case& one : cases) {
        order.push_back(&one);
    }
    for (int round = 0; round < kRounds; round++) {
        for (size_t i = 0; i < order.size(); i++) {
            Case& one = *order[(i + static_cast<size_t>(round)) % order.size()];
            one.samples.push_back(one.run());
        }
    }
    std::printf("%-52s %8s %10s %18s\n", "case", "ns", "over empty", "(quartiles)");
    for (Case* one : order) {
        std::vector<double> sorted = one->samples;
        std::sort(sorted.begin(), sorted.end());
        const double floor =
            one->once || one == &base_once ? median(base_once.samples) : median(base.samples);
        std::printf("%-52s %8.1f %10.1f %9.1f %8.1f\n", one->name.c_str(), median(one->samples),
                    median(one->samples) - floor, sorted[sorted.size() / 4],
                    sorted[sorted.size() * 3 / 4]);
    }
    for (const char* family : {" v4", " v6"}) {
        std::array<double, 2> cost{};
        for (const Case& one : cases) {
            if (one.name == std::string("first packet, 1 rules") + family) {
                cost[0] = median(one.samples);
            } else if (one.name == std::string("first packet, 10000 rules") + family) {
                cost[1] = median(one.samples);
            }
        }
        std::printf("first packet, 10000 rules / 1 rule%s: %.2f\n", family, cost[1] / cost[0]);
    }
    return EXIT_SUCCESS;
} catch (const std::exception& error) {

    std::fprintf(stderr, "flow_bench: %s\n", error.what());
    return EXIT_FAILURE;
}
