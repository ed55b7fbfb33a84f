// SPDX-License-Identifier: Apache-2.0
// The addresses of tunnels on their way into the Node, over the real SQLite engine; and that the
// node writer loses none of several patches.
#include "agent/app/tunnel_care.h"
#include "agent/datastore/sqlite_store.h"
#include "agent/ipam/ipam.h"
#include "tests/unit/store_fixture.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

namespace manx::app {
namespace {

class TunnelCareTest : public testing::Test {
protected:
    TunnelCareTest() {
        loop_ = std::move(*EventLoop::create());
        store_ = std::move(*datastore::open_sqlite(folder_.file("store.db")));
        EXPECT_TRUE(store_->create(
            key_, {{"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", {{"name", "n1"}}}}));
    }

    void put_pool(const nlohmann::json& spec) {
        const datastore::Key key{api::Kind::IpPool, "", "four"};
        const nlohmann::json pool = {{"apiVersion", "crd.projectcalico.org/v1"},
                                     {"kind", "IPPool"},
                                     {"metadata", {{"name", "four"}}},
                                     {"spec", spec}};
        if (store_->get(key)) {
            EXPECT_TRUE(store_->update(key, pool));
        } else {
            EXPECT_TRUE(store_->create(key, pool));
        }
    }

    nlohmann::json object() { return nlohmann::json::parse(store_->get(key_)->json); }

    api::Node node() { return *api::Node::from_json(object()); }

    // Runs the loop, once: each step is tried again and again until it says true; then the next.
    // False: they did not come to the end within some seconds.
    bool runs(const std::vector<std::function<bool()>>& steps) {
        size_t at = 0;
        auto check = loop_->add_periodic(std::chrono::milliseconds(5), [&] {
            if (steps[at]() && ++at == steps.size()) {
                loop_->quit(1);
            }
        });
        auto limit = loop_->add_timer(std::chrono::seconds(10), [&] { loop_->quit(0); });
        return loop_->run() == 1;
    }

    datastore::TemporaryFolder folder_;
    datastore::Key key_{api::Kind::Node, "", "n1"};
    std::unique_ptr<EventLoop> loop_;
    std::unique_ptr<datastore::Store> store_;
};

TEST_F(TunnelCareTest, WritesTheNodeAndReleasesAfterIt) {
    ipam::Options options;
    options.max_age = std::chrono::milliseconds(0);
    ipam::Allocator allocator(*store_, "n1", options);
    NodeWriter writer(*loop_, *store_, "n1");
    TunnelCare care(*loop_, *store_, allocator, writer, "n1", false);
    put_pool({{"cidr", "10.0.0.0/24"}, {"vxlanMode", "Always"}});
    care.node_changed(node());
    care.run(true);
    EXPECT_FALSE(node().vxlan_tunnel4) << "the datastore is locked";
    care.run(false);
    auto allocated = [&] {
        if (!node().vxlan_tunnel4) {
            return false;
        }
        auto held = allocator.addresses_of("vxlan-tunnel-addr-n1");
        EXPECT_TRUE(held && held->size() == 1 && held->front().address == node().vxlan_tunnel4);
        put_pool({{"cidr", "10.0.0.0/24"}});
        care.pools_changed();
        return true;
    };
    auto released = [&] {
        care.node_changed(node());
        care.run(false);
        return allocator.addresses_of("vxlan-tunnel-addr-n1")->empty();
    };
    ASSERT_TRUE(runs({allocated, released}));
    EXPECT_FALSE(object()
                     .at("metadata")
                     .value("annotations", nlohmann::json::object())
                     .contains(api::kNodeVxlanTunnel4))
        << "cleared before it was released";
}

TEST_F(TunnelCareTest, TheNodeWriterLosesNoneOfSeveralPatches) {
    NodeWriter writer(*loop_, *store_, "n1");
    writer.patch_addresses(annotation_patch({{api::kNodeIpv4, "10.9.0.1/24"}}));
    writer.patch_addresses(annotation_patch({{api::kNodeVxlanTunnel4, "10.0.0.1"}}));
    writer.patch_addresses(annotation_patch({{api::kNodeIpipTunnel4, "10.0.0.2"}}));
    auto written = [&] {
        if (!node().ipip_tunnel4) {
            return false;
        }
        EXPECT_TRUE(node().ipv4);
        EXPECT_TRUE(node().vxlan_tunnel4) << "of the patch between";
        writer.patch_addresses(annotation_patch({{api::kNodeVxlanTunnel4, ""}}));
        writer.patch_addresses(annotation_patch({{api::kNodeIpipTunnel4, ""}}));
        writer.patch_addresses(annotation_patch({{api::kNodeIpv6, "fd00::1/64"}}));
        return true;
    };
    ASSERT_TRUE(runs({written, [&] { return node().ipv6.has_value(); }}));
    EXPECT_FALSE(node().vxlan_tunnel4);
    EXPECT_FALSE(node().ipip_tunnel4) << "removed by the patch between";
}

} // namespace
} // namespace manx::app
