// SPDX-License-Identifier: Apache-2.0
// A small node for packet tables: the programs loaded in a sandbox, two workloads, an uplink with a
// default route, a remote pod, a service and this host, in both families. Tests write policy and
// send packets; every packet must be counted with exactly one reason.
#pragma once

#include "loader/loader.h"
#include "maps/map.h"
#include "tests/harness/packet.h"
#include "tests/harness/program.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace manx::harness {

inline constexpr uint32_t kCaliA = 101;
inline constexpr uint32_t kCaliB = 102;
inline constexpr uint32_t kUplink = 201;

inline constexpr uint32_t kClassA = 11;
inline constexpr uint32_t kClassB = 12;
inline constexpr uint32_t kClassRemote = 13;
inline constexpr uint32_t kClassHost = 14;
inline constexpr uint32_t kClassService = 15;
inline constexpr uint32_t kClassNet = 16;

inline constexpr MacAddress kMacA{{0x02, 0, 0, 0, 0x0a, 0x01}};
inline constexpr MacAddress kMacB{{0x02, 0, 0, 0, 0x0a, 0x02}};
inline constexpr MacAddress kMacHost{{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};

// Addresses of one family.
struct Addresses {
    Family family;
    std::string a, b;     // workloads here, on kCaliA and kCaliB, slots 1 and 2
    std::string remote;   // a pod elsewhere, in a pool
    std::string external; // outside, class 0
    std::string net;      // outside, in a network of class kClassNet
    std::string host;     // this node
    std::string service;
};

const Addresses& addresses(Family family);

struct Workload {
    std::string address;
    uint32_t ifindex = 0;
    uint16_t slot = 0;
    uint32_t class_id = 0;
    MacAddress mac;
    uint32_t egress = MANX_SET_ALLOW;
    uint32_t ingress = MANX_SET_ALLOW;
    uint32_t staged_egress = MANX_SET_ALLOW;
    uint32_t staged_ingress = MANX_SET_ALLOW;
    uint16_t flags = 0;
};

// One range of a port table: up to last, protocol << 16 | port.
struct Range {
    uint32_t last = 0xffffffff;
    manx_action action = MANX_ACTION_ALLOW;
    uint32_t rule = 0;
    bool log = false;
    std::vector<Range> by_source = {}; // for MANX_ACTION_BY_SOURCE_PORT
};

constexpr uint32_t port_key(uint8_t protocol, uint16_t port) {
    return static_cast<uint32_t>(protocol) << 16 | port;
}

struct Sent {
    Outcome outcome;
    std::vector<manx_reason> reasons; // counted by this packet; exactly one if all is well
};

class Dataplane {
public:
    // Enters a sandbox: once per process. Throws where the machine cannot.
    Dataplane();

    // The workloads as they are in the beginning; change and write them again with put().
    [[nodiscard]] static Workload a(Family family);
    [[nodiscard]] static Workload b(Family family);
    void put(const Workload& workload);
    void forget(const Workload& workload);

    void set_class(const std::string& address, uint32_t class_id, uint32_t flags);
    void set_net(const std::string& cidr, uint32_t class_id, uint32_t flags);
    // The port table of (set, class).
    void set_policy(uint32_t set, uint32_t class_id, const std::vector<Range>& ranges);
    void set_flags(uint32_t config_flags);
    void set_timeout(manx_timeout_class timeout, uint32_t seconds);

    Sent send(manx_hook hook, const Packet& packet, Context context = {});

    [[nodiscard]] std::optional<manx_flow> live_flow(const std::string& src, const std::string& dst,
                                                     uint8_t protocol, uint16_t src_port,
                                                     uint16_t dst_port) const;
    [[nodiscard]] std::optional<manx_flow> new_flow(const std::string& src, const std::string& dst,
                                                    uint8_t protocol, uint16_t src_port,
                                                    uint16_t dst_port) const;
    [[nodiscard]] uint64_t rule_hits(uint32_t rule) const;
    [[nodiscard]] uint64_t dropped(uint32_t ifindex, manx_hook hook, manx_reason reason) const;
    std::vector<manx_event> take_events();

    loader::Loader& loader() { return *loader_; }

private:
    [[nodiscard]] std::vector<uint64_t> totals() const;
    [[nodiscard]] std::optional<manx_flow> find(bool live, const std::string& src,
                                                const std::string& dst, uint8_t protocol,
                                                uint16_t src_port, uint16_t dst_port) const;
    uint32_t write_ranges(const std::vector<Range>& ranges);

    std::unique_ptr<loader::Loader> loader_;
    uint32_t next_port_ = 0;
};

} // namespace manx::harness
