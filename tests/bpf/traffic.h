// SPDX-License-Identifier: Apache-2.0
// Fixture of tests with real packets between workloads that are namespaces of one node.
#pragma once

#include "base/ip.h"
#include "loader/loader.h"
#include "maps/map.h"
#include "tests/harness/sandbox.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

namespace manx {

// Two workloads of one node, pod1 and pod2, on cali1 and cali2.
class Traffic : public testing::Test {
protected:
    void SetUp() override {
        const Result<void> entered = harness::enter_sandbox();
        ASSERT_TRUE(entered) << entered.error().text();
        harness::must_run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "
                          "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0");
        options_.sizes.flows4 = 4096;
        options_.sizes.flows6 = 4096;
        options_.sizes.ports = 1024;
        options_.sizes.rules = 64;
        open();
        for (int pod = 1; pod <= 2; pod++) {
            add_pod(pod);
        }
    }

    void open() {
        loader_.reset();
        Result<loader::Loader> loader = loader::Loader::open("/sys/fs/bpf/manx", options_);
        if (!loader) {
            throw std::runtime_error(loader.error().text());
        }
        loader_ = std::make_unique<loader::Loader>(std::move(*loader));
    }

    // As the CNI server makes them: a gateway that is the host side, without a neighbour to ask.
    void add_pod(int pod) {
        const std::string n = std::to_string(pod);
        const std::string in = "ip netns exec pod" + n + " ";
        const std::string mac = "02:00:00:00:0a:0" + n;
        harness::must_run("ip netns add pod" + n);
        harness::must_run("ip link add cali" + n +
                          " address ee:ee:ee:ee:ee:ee type veth peer name eth0 "
                          "address " +
                          mac + " netns pod" + n);
        harness::must_run("ip link set cali" + n + " up");
        harness::must_run(
            in + "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
        harness::must_run(in + "ip link set lo up; " + in + "ip link set eth0 up");
        harness::must_run(in + "ip addr add 10.65.0." + n + "/32 dev eth0");
        harness::must_run(in + "ip addr add fd65::" + n + "/128 dev eth0 nodad");
        harness::must_run(in + "ip route add 169.254.1.1 dev eth0; " + in +
                          "ip route add default via 169.254.1.1 dev eth0");
        harness::must_run(in + "ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0");
        harness::must_run(in + "ip neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0");
        harness::must_run(in + "ip route add default via fe80::1 dev eth0");
        harness::must_run("ip route add 10.65.0." + n + "/32 dev cali" + n);
        harness::must_run("ip route add fd65::" + n + "/128 dev cali" + n);
        harness::must_run("ip neigh add 10.65.0." + n + " lladdr " + mac + " dev cali" + n);
        harness::must_run("ip neigh add fd65::" + n + " lladdr " + mac + " dev cali" + n);
        put_endpoint(pod, MANX_SET_ALLOW, MANX_SET_ALLOW);
        ASSERT_TRUE(loader_->attach_workload(harness::ifindex_of("cali" + n)));
    }

    void put_endpoint(int pod, uint32_t egress, uint32_t staged_egress) {
        const std::string n = std::to_string(pod);
        manx_endpoint endpoint{};
        endpoint.ifindex = harness::ifindex_of("cali" + n);
        endpoint.class_id = static_cast<uint32_t>(10 + pod);
        endpoint.slot = static_cast<uint16_t>(pod);
        endpoint.mac[0] = 2;
        endpoint.mac[4] = 0x0a;
        endpoint.mac[5] = static_cast<uint8_t>(pod);
        std::memset(endpoint.host_mac, 0xee, 6);
        const IpAddress four = *IpAddress::parse("10.65.0." + n);
        const IpAddress six = *IpAddress::parse("fd65::" + n);
        manx_addr6 key{};
        std::memcpy(key.addr, six.bytes().data(), 16);
        manx_slot_entry slot{};
        slot.ifindex = endpoint.ifindex;
        slot.class_id[0] = slot.class_id[1] = endpoint.class_id;
        slot.egress_set[0] = slot.egress_set[1] = endpoint.egress_set = egress;
        slot.staged_egress[0] = slot.staged_egress[1] = endpoint.staged_egress = staged_egress;
        ASSERT_TRUE(loader_->map(maps::kSlot)->update(endpoint.slot, slot));
        ASSERT_TRUE(loader_->map(maps::kEp4)->update({four.v4_network_order()}, endpoint));
        ASSERT_TRUE(loader_->map(maps::kEp6)->update(key, endpoint));
    }

    [[nodiscard]] uint64_t total(manx_hook hook, manx_reason reason) const {
        return (*loader_->per_cpu_map(maps::kTotals)->lookup(maps::total_index(hook, reason)))
            ->packets;
    }

    [[nodiscard]] uint64_t redirected() const {
        return total(MANX_HOOK_FROM_WORKLOAD, MANX_PASS_REDIRECT_PEER);
    }

    loader::LoadOptions options_;
    std::unique_ptr<loader::Loader> loader_;
};

} // namespace manx
