// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/dataplane.h"

#include "maps/flow_key.h"
#include "tests/harness/sandbox.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

namespace manx::harness {

namespace {

const std::string kBpffs = "/sys/fs/bpf/manx";

template <typename T>
T must(Result<T> result) {
    if (!result) {
        throw std::runtime_error(result.error().text());
    }
    if constexpr (!std::is_void_v<T>) {
        return std::move(*result);
    }
}

IpAddress address(const std::string& text) {
    return must(IpAddress::parse(text));
}

uint32_t word4(const IpAddress& ip) {
    return ip.v4_network_order();
}

std::array<uint32_t, 4> words6(const IpAddress& ip) {
    std::array<uint32_t, 4> words{};
    std::memcpy(words.data(), ip.bytes().data(), 16);
    return words;
}

manx_addr6 addr6(const IpAddress& ip) {
    manx_addr6 key{};
    std::memcpy(key.addr, ip.bytes().data(), 16);
    return key;
}

} // namespace

const Addresses& addresses(Family family) {
    static const Addresses v4{.family = Family::V4,
                              .a = "10.65.0.1",
                              .b = "10.65.0.2",
                              .remote = "10.65.1.9",
                              .external = "203.0.113.7",
                              .net = "198.51.100.5",
                              .host = "192.0.2.2",
                              .service = "10.96.0.10"};
    static const Addresses v6{.family = Family::V6,
                              .a = "fd65::1",
                              .b = "fd65::2",
                              .remote = "fd65:0:1::9",
                              .external = "2001:db8:ffff::7",
                              .net = "2001:db8:aaaa::5",
                              .host = "2001:db8::2",
                              .service = "fd96::10"};
    return family == Family::V4 ? v4 : v6;
}

Dataplane::Dataplane() {
    must(enter_sandbox());
    for (const auto& [name, index] :
         {std::pair{"cali1", kCaliA}, {"cali2", kCaliB}, {"up0", kUplink}}) {
        const std::string device = name;
        must_run("ip link add " + device + " index " + std::to_string(index) + " address " +
                 (index == kUplink ? "02:00:00:00:00:99" : kMacHost.text()) +
                 " type veth peer name p" + device);
        must_run("ip link set " + device + " up && ip link set p" + device + " up");
    }
    must_run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    must_run("ip addr add 192.0.2.2/24 dev up0; ip route add default via 192.0.2.1");
    must_run("ip addr add 2001:db8::2/64 dev up0 nodad; ip route add default via 2001:db8::1");
    loader::LoadOptions options;
    options.sizes = {.endpoints = 64,
                     .classes = 64,
                     .networks = 64,
                     .policies = 1024,
                     .ports = 65536,
                     .rules = 1024,
                     .flows4 = 1024,
                     .flows6 = 1024,
                     .new_flows4 = 4096,
                     .new_flows6 = 4096,
                     .fragments = 1024,
                     .counters = 256,
                     .events = 65536};
    loader_ = std::make_unique<loader::Loader>(must(loader::Loader::open(kBpffs, options)));
    // Not attached: the kernel's own packets would be counted among the tests'.
    must(must(loader_->map(maps::kUplinks)).update(kUplink, manx_uplink{}));
    for (const Family family : kFamilies) {
        const Addresses& at = addresses(family);
        put(a(family));
        put(b(family));
        set_class(at.remote, kClassRemote, MANX_CLASS_POD | MANX_CLASS_POOL);
        set_class(at.host, kClassHost, MANX_CLASS_LOCAL_HOST);
        set_class(at.service, kClassService, MANX_CLASS_SERVICE);
    }
    set_net("198.51.100.0/24", kClassNet, 0);
    set_net("2001:db8:aaaa::/48", kClassNet, 0);
}

Workload Dataplane::a(Family family) {
    Workload workload;
    workload.address = addresses(family).a;
    workload.ifindex = kCaliA;
    workload.slot = 1;
    workload.class_id = kClassA;
    workload.mac = kMacA;
    return workload;
}

Workload Dataplane::b(Family family) {
    Workload workload;
    workload.address = addresses(family).b;
    workload.ifindex = kCaliB;
    workload.slot = 2;
    workload.class_id = kClassB;
    workload.mac = kMacB;
    return workload;
}

void Dataplane::put(const Workload& workload) {
    const IpAddress ip = address(workload.address);
    manx_endpoint endpoint{};
    endpoint.ifindex = workload.ifindex;
    endpoint.class_id = workload.class_id;
    endpoint.egress_set = workload.egress;
    endpoint.ingress_set = workload.ingress;
    endpoint.staged_egress = workload.staged_egress;
    endpoint.staged_ingress = workload.staged_ingress;
    endpoint.slot = workload.slot;
    endpoint.flags = workload.flags;
    std::copy(workload.mac.bytes.begin(), workload.mac.bytes.end(), endpoint.mac);
    std::copy(kMacHost.bytes.begin(), kMacHost.bytes.end(), endpoint.host_mac);
    const size_t family = ip.is_v4() ? 0 : 1;
    auto slots = must(loader_->map(maps::kSlot));
    manx_slot_entry slot = *must(slots.lookup(workload.slot));
    slot.ifindex = workload.ifindex;
    slot.class_id[family] = workload.class_id;
    slot.egress_set[family] = workload.egress;
    slot.staged_egress[family] = workload.staged_egress;
    must(slots.update(workload.slot, slot));
    if (ip.is_v4()) {
        must(must(loader_->map(maps::kEp4)).update({word4(ip)}, endpoint));
    } else {
        must(must(loader_->map(maps::kEp6)).update(addr6(ip), endpoint));
    }
}

void Dataplane::forget(const Workload& workload) {
    const IpAddress ip = address(workload.address);
    if (ip.is_v4()) {
        must(must(loader_->map(maps::kEp4)).remove({word4(ip)}));
    } else {
        must(must(loader_->map(maps::kEp6)).remove(addr6(ip)));
    }
}

void Dataplane::set_class(const std::string& text, uint32_t class_id, uint32_t flags) {
    const IpAddress ip = address(text);
    const manx_class value{.class_id = class_id, .flags = flags};
    if (ip.is_v4()) {
        must(must(loader_->map(maps::kClass4)).update({word4(ip)}, value));
    } else {
        must(must(loader_->map(maps::kClass6)).update(addr6(ip), value));
    }
}

void Dataplane::set_net(const std::string& text, uint32_t class_id, uint32_t flags) {
    const Cidr cidr = must(Cidr::parse(text));
    const manx_class value{.class_id = class_id, .flags = flags};
    if (cidr.family() == Family::V4) {
        must(must(loader_->map(maps::kNet4))
                 .update({.length = cidr.length(), .addr = word4(cidr.address())}, value));
    } else {
        manx_prefix6 key{};
        key.length = cidr.length();
        std::memcpy(key.addr, cidr.address().bytes().data(), 16);
        must(must(loader_->map(maps::kNet6)).update(key, value));
    }
}

uint32_t Dataplane::write_ranges(const std::vector<Range>& ranges) {
    std::vector<manx_port> entries;
    for (const Range& range : ranges) {
        manx_port entry{};
        entry.last = range.last;
        entry.rule = range.rule;
        entry.action = static_cast<uint8_t>(range.action);
        entry.flags = range.log ? MANX_PORT_LOG : 0;
        if (!range.by_source.empty()) {
            entry.next = write_ranges(range.by_source);
            entry.next_count = static_cast<uint16_t>(range.by_source.size());
        }
        entries.push_back(entry);
    }
    const uint32_t offset = next_port_;
    std::vector<uint32_t> keys;
    for (size_t i = 0; i < entries.size(); i++) {
        keys.push_back(next_port_++);
    }
    must(must(loader_->map(maps::kPorts)).update_batch(keys, entries));
    return offset;
}

void Dataplane::set_policy(uint32_t set, uint32_t class_id, const std::vector<Range>& ranges) {
    const uint32_t offset = write_ranges(ranges);
    must(must(loader_->map(maps::kPolicy))
             .update({.set = set, .class_id = class_id},
                     {.offset = offset, .count = static_cast<uint32_t>(ranges.size())}));
}

void Dataplane::set_flags(uint32_t config_flags) {
    manx_config config = must(loader_->config());
    config.flags = config_flags;
    must(loader_->set_config(config));
}

void Dataplane::set_timeout(manx_timeout_class timeout, uint32_t seconds) {
    manx_config config = must(loader_->config());
    config.timeout_s[timeout] = seconds;
    must(loader_->set_config(config));
}

std::vector<uint64_t> Dataplane::totals() const {
    const auto map = must(loader_->per_cpu_map(maps::kTotals));
    std::vector<uint64_t> packets;
    for (uint32_t i = 0; i < MANX_TOTALS; i++) {
        packets.push_back(must(map.lookup(i))->packets);
    }
    return packets;
}

Sent Dataplane::send(manx_hook hook, const Packet& packet, Context context) {
    const int fd = must(loader_->program_fd(loader::kHookPrograms.at(static_cast<size_t>(hook))));
    const std::vector<uint64_t> before = totals();
    Sent sent;
    sent.outcome = must(run_program(fd, packet.bytes(), context));
    const std::vector<uint64_t> after = totals();
    for (uint32_t i = 0; i < MANX_TOTALS; i++) {
        for (uint64_t n = before[i]; n < after[i]; n++) {
            sent.reasons.push_back(static_cast<manx_reason>(i % MANX_REASON_MAX));
        }
    }
    return sent;
}

std::optional<manx_flow> Dataplane::find(bool live, const std::string& src, const std::string& dst,
                                         uint8_t protocol, uint16_t src_port,
                                         uint16_t dst_port) const {
    const IpAddress from = address(src);
    const IpAddress to = address(dst);
    if (from.is_v4()) {
        const auto key = maps::flow_key4(word4(from), word4(to), protocol, src_port, dst_port);
        return must(must(loader_->map(live ? maps::kFlow4 : maps::kFlow4New)).lookup(key.key));
    }
    const auto key = maps::flow_key6(words6(from), words6(to), protocol, src_port, dst_port);
    return must(must(loader_->map(live ? maps::kFlow6 : maps::kFlow6New)).lookup(key.key));
}

std::optional<manx_flow> Dataplane::live_flow(const std::string& src, const std::string& dst,
                                              uint8_t protocol, uint16_t src_port,
                                              uint16_t dst_port) const {
    return find(true, src, dst, protocol, src_port, dst_port);
}

std::optional<manx_flow> Dataplane::new_flow(const std::string& src, const std::string& dst,
                                             uint8_t protocol, uint16_t src_port,
                                             uint16_t dst_port) const {
    return find(false, src, dst, protocol, src_port, dst_port);
}

uint64_t Dataplane::rule_hits(uint32_t rule) const {
    return must(must(loader_->per_cpu_map(maps::kRuleHits)).lookup(rule))->flows;
}

uint64_t Dataplane::dropped(uint32_t ifindex, manx_hook hook, manx_reason reason) const {
    const manx_counter_key key{.ifindex = ifindex,
                               .hook = static_cast<uint16_t>(hook),
                               .reason = static_cast<uint16_t>(reason)};
    const auto found = must(must(loader_->per_cpu_map(maps::kCounters)).lookup(key));
    return found ? found->packets : 0;
}

std::vector<manx_event> Dataplane::take_events() {
    std::vector<manx_event> events;
    ring_buffer* ring = ring_buffer__new(
        must(loader_->map_fd(maps::kEventsName)),
        [](void* context, void* data, size_t) {
            manx_event event;
            std::memcpy(&event, data, sizeof(event));
            static_cast<std::vector<manx_event>*>(context)->push_back(event);
            return 0;
        },
        &events, nullptr);
    if (ring == nullptr) {
        throw std::runtime_error("cannot open the ring buffer");
    }
    ring_buffer__consume(ring);
    ring_buffer__free(ring);
    return events;
}

} // namespace manx::harness
