// SPDX-License-Identifier: Apache-2.0
// Frames through a dataplane as fast as one CPU makes and forwards them, for benchmarks.
//
//   bench_frames bare [--out DEVICE] DEVICE=ADDRESS,MAC...   in the current network namespace:
//       attaches the bare redirect at the ingress of these devices (and of --out), for IPv4
//   bench_frames send SENDER_NS RECEIVER_NS [options]        see usage()
//
// send: XDP live frames leave by the sender's device as if it had sent them, so that the host end
// gets them; they are counted and dropped at the ingress of the receiver's device. Prints one
// line of JSON. CPU time is this thread's and the CPU's ksoftirqd's, in which forwarding happens,
// so that the figure does not depend on what else runs on the machine.
#include "base/ip.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "traffic.skel.h"

#include <CLI/CLI.hpp>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <vector>

namespace {

using namespace manx;

using Skeleton = UniqueHandle<traffic_bpf, traffic_bpf::destroy>;

Result<Skeleton> load() {
    Skeleton skeleton(traffic_bpf::open_and_load());
    if (!skeleton) {
        return fail_errno("load the programs");
    }
    return skeleton;
}

Result<void> enter(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || setns(fd.get(), CLONE_NEWNET) < 0) {
        return fail_errno("enter " + path);
    }
    return {};
}

Result<uint32_t> index_of(const std::string& device) {
    const uint32_t index = if_nametoindex(device.c_str());
    if (index == 0) {
        return fail_errno("device " + device);
    }
    return index;
}

// A filter that stays when this process is gone.
Result<void> attach_ingress(uint32_t ifindex, const bpf_program* program) {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(ifindex);
    hook.attach_point = BPF_TC_INGRESS;
    if (int code = bpf_tc_hook_create(&hook); code < 0 && code != -EEXIST) {
        return fail_errno("clsact", -code);
    }
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.prog_fd = bpf_program__fd(program);
    options.handle = 1;
    options.priority = 1;
    options.flags = BPF_TC_F_REPLACE;
    if (int code = bpf_tc_attach(&hook, &options); code < 0) {
        return fail_errno("attach", -code);
    }
    return {};
}

// DEVICE=ADDRESS,MAC: the host end, and the address and MAC of the pod behind it.
struct BareWay {
    std::string device;
    IpAddress address;
    MacAddress mac;
};

Result<BareWay> parse_way(const std::string& text) {
    const size_t equals = text.find('=');
    const size_t comma = text.find(',');
    if (equals == std::string::npos || comma == std::string::npos || comma < equals) {
        return fail(ErrorKind::ConfigInvalid, text + ": expected DEVICE=ADDRESS,MAC");
    }
    BareWay way;
    way.device = text.substr(0, equals);
    TRY_ASSIGN(way.address, IpAddress::parse(text.substr(equals + 1, comma - equals - 1)));
    TRY_ASSIGN(way.mac, MacAddress::parse(text.substr(comma + 1)));
    return way;
}

Result<void> make_bare(const std::string& out, const std::vector<std::string>& texts) {
    TRY_ASSIGN(Skeleton skeleton, load());
    for (const auto& text : texts) {
        TRY_ASSIGN(const BareWay bare, parse_way(text));
        TRY_ASSIGN(const uint32_t ifindex, index_of(bare.device));

        struct {
            uint32_t ifindex = 0;
            std::array<uint8_t, ETH_ALEN> source{};
            std::array<uint8_t, ETH_ALEN> destination{};
        } way;

        way.ifindex = ifindex;
        way.source.fill(0xee);
        way.destination = bare.mac.bytes;
        if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.ways), bare.address.bytes().data(), &way,
                                BPF_ANY) < 0) {
            return fail_errno("fill the map");
        }
        TRY(attach_ingress(ifindex, skeleton->progs.tc_bare));
    }
    if (!out.empty()) {
        TRY_ASSIGN(skeleton->bss->out_ifindex, index_of(out));
        TRY(attach_ingress(skeleton->bss->out_ifindex, skeleton->progs.tc_bare));
    }
    return {};
}

struct SendOptions {
    std::string sender_ns;
    std::string receiver_ns;
    std::string sender_device = "eth0";
    std::string receiver_device = "eth0";
    std::string source;
    std::string destination;
    std::string source_mac;
    std::string destination_mac = "ee:ee:ee:ee:ee:ee";
    uint16_t source_port = 1000;
    uint16_t destination_port = 2000;
    uint32_t flows = 1;
    uint32_t pairs = 1;
    uint32_t skip = 0;
    bool vary_destination = false;
    uint32_t frames = 500'000;
    int cpu = 0;
};

uint16_t checksum(const void* header, size_t size) {
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint16_t word = 0;
        std::memcpy(&word, static_cast<const uint8_t*>(header) + i, sizeof(word));
        sum += word;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~(sum + (sum >> 16)));
}

constexpr size_t kFrame = 64;
using Frame = std::array<uint8_t, kFrame>;

Result<Frame> make_frame(const SendOptions& options) {
    ethhdr eth{};
    iphdr ip{};
    udphdr udp{};
    TRY_ASSIGN(const MacAddress source, MacAddress::parse(options.source_mac));
    TRY_ASSIGN(const MacAddress destination, MacAddress::parse(options.destination_mac));
    std::memcpy(eth.h_source, source.bytes.data(), ETH_ALEN);
    std::memcpy(eth.h_dest, destination.bytes.data(), ETH_ALEN);
    eth.h_proto = htons(ETH_P_IP);
    ip.version = 4;
    ip.ihl = 5;
    ip.ttl = 64;
    ip.protocol = IPPROTO_UDP;
    ip.tot_len = htons(kFrame - sizeof(eth));
    if (inet_pton(AF_INET, options.source.c_str(), &ip.saddr) != 1 ||
        inet_pton(AF_INET, options.destination.c_str(), &ip.daddr) != 1) {
        return fail(ErrorKind::ConfigInvalid, "expected IPv4 addresses");
    }
    ip.check = checksum(&ip, sizeof(ip));
    udp.source = htons(options.source_port);
    udp.dest = htons(options.destination_port);
    udp.len = htons(kFrame - sizeof(eth) - sizeof(ip));
    Frame frame{};
    std::memcpy(frame.data(), &eth, sizeof(eth));
    std::memcpy(frame.data() + sizeof(eth), &ip, sizeof(ip));
    std::memcpy(frame.data() + sizeof(eth) + sizeof(ip), &udp, sizeof(udp));
    return frame;
}

uint64_t clock_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// The kernel's thread that softirqs are left to when there are many; empty where it is not seen.
std::string find_ksoftirqd(int cpu) {
    const std::string wanted = "ksoftirqd/" + std::to_string(cpu);
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
        std::ifstream comm(entry.path() / "comm");
        std::string name;
        if (std::getline(comm, name) && name == wanted) {
            return (entry.path() / "schedstat").string();
        }
    }
    return {};
}

struct Sample {
    uint64_t sent = 0;
    uint64_t arrived = 0;
    uint64_t wall_ns = 0;
    uint64_t cpu_ns = 0;
};

class Sender {
public:
    Sender(traffic_bpf& skeleton, uint32_t ifindex, const Frame& frame, std::string ksoftirqd)
        : skeleton_(skeleton), ifindex_(ifindex), frame_(frame), ksoftirqd_(std::move(ksoftirqd)) {}

    Result<Sample> send(uint32_t frames) {
        xdp_md context{};
        context.data_end = kFrame;
        context.ingress_ifindex = ifindex_;
        bpf_test_run_opts options{};
        options.sz = sizeof(options);
        options.data_in = frame_.data();
        options.data_size_in = kFrame;
        options.ctx_in = &context;
        options.ctx_size_in = sizeof(context);
        options.repeat = static_cast<int>(frames);
        options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
        options.batch_size = 64;
        const Sample before = now();
        if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_.progs.xdp_generate), &options) < 0) {
            return fail_errno("send frames: is GRO on at both ends of the device?");
        }
        const Sample after = now();
        return Sample{after.sent - before.sent, after.arrived - before.arrived,
                      after.wall_ns - before.wall_ns, after.cpu_ns - before.cpu_ns};
    }

private:
    [[nodiscard]] Sample now() const {
        uint64_t softirqs = 0;
        if (!ksoftirqd_.empty()) {
            std::ifstream(ksoftirqd_) >> softirqs;
        }
        return {skeleton_.bss->sent, skeleton_.bss->arrived, clock_ns(CLOCK_MONOTONIC),
                clock_ns(CLOCK_THREAD_CPUTIME_ID) + softirqs};
    }

    traffic_bpf& skeleton_;
    uint32_t ifindex_;
    const Frame& frame_;
    std::string ksoftirqd_;
};

Result<void> send(const SendOptions& options) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(options.cpu), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0) {
        return fail_errno("bind to a CPU");
    }
    TRY_ASSIGN(const Frame frame, make_frame(options));
    TRY_ASSIGN(Skeleton skeleton, load());
    std::memcpy(skeleton->bss->frame, frame.data(), frame.size());
    skeleton->bss->flows = options.flows;
    skeleton->bss->pairs = options.pairs;
    skeleton->bss->sent = options.skip;
    skeleton->bss->vary_destination = options.vary_destination ? 1 : 0;
    skeleton->bss->first_port =
        options.vary_destination ? options.destination_port : options.source_port;
    const std::string ksoftirqd = find_ksoftirqd(options.cpu);
    TRY(enter(options.receiver_ns));
    TRY_ASSIGN(const uint32_t receiver, index_of(options.receiver_device));
    TRY(attach_ingress(receiver, skeleton->progs.tc_arrive));
    TRY(enter(options.sender_ns));
    TRY_ASSIGN(const uint32_t ifindex, index_of(options.sender_device));
    Sender sender(*skeleton, ifindex, frame, ksoftirqd);
    // A run's start and end have a cost of their own, which the difference leaves out.
    TRY_ASSIGN(const Sample few, sender.send(std::min(options.frames / 10 + 1, 6400U)));
    TRY_ASSIGN(const Sample many, sender.send(options.frames));
    std::printf("{\"sent\": %lu, \"arrived\": %lu, \"wall_ns\": %lu, \"cpu_ns\": %lu}\n",
                many.sent - few.sent, many.arrived - few.arrived, many.wall_ns - few.wall_ns,
                many.cpu_ns - few.cpu_ns);
    return {};
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("frames through a dataplane, for benchmarks");
    app.require_subcommand(1);
    auto* bare = app.add_subcommand("bare", "attach the bare redirect");
    std::string out;
    std::vector<std::string> ways;
    bare->add_option("--out", out, "device towards everything else");
    bare->add_option("ways", ways, "DEVICE=ADDRESS,MAC")->required();
    auto* sending = app.add_subcommand("send", "send frames, count those that arrive");
    SendOptions options;
    sending->add_option("sender", options.sender_ns)->required();
    sending->add_option("receiver", options.receiver_ns)->required();
    sending->add_option("--from", options.source)->required();
    sending->add_option("--to", options.destination)->required();
    sending->add_option("--mac", options.source_mac, "of the sender")->required();
    sending->add_option("--router-mac", options.destination_mac);
    sending->add_option("--source-port", options.source_port);
    sending->add_option("--destination-port", options.destination_port);
    sending->add_option("--flows", options.flows, "ports in turn");
    sending->add_option("--pairs", options.pairs, "times that the destination port goes one on");
    sending->add_option("--skip", options.skip, "begin with this flow");
    sending->add_flag("--vary-destination", options.vary_destination);
    sending->add_option("--frames", options.frames);
    sending->add_option("--cpu", options.cpu);
    CLI11_PARSE(app, argc, argv);
    const auto done = *bare ? make_bare(out, ways) : send(options);
    if (!done) {
        std::fprintf(stderr, "bench_frames: %s\n", done.error().text().c_str());
        return 1;
    }
    return 0;
}
