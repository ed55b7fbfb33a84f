// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/pool_view.h"
#include "agent/cni/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace manx::cni {
namespace {

Record sample() {
    Record record;
    record.state = RecordState::Ready;
    record.network = "net";
    record.boot_id = "boot";
    record.mtu = 1450;
    auto& e = record.endpoint;
    e.ns = "default";
    e.pod = "web-0";
    e.container_id = "c1";
    e.interface = "cali0d7763386da";
    e.netns = "/run/netns/x";
    e.container_interface = "eth0";
    e.ifindex = 7;
    e.mac = *MacAddress::parse("02:00:00:00:00:01");
    e.host_mac = *MacAddress::parse("ee:ee:ee:ee:ee:ee");
    e.addresses = {*IpAddress::parse("192.0.2.1"), *IpAddress::parse("2001:db8::1")};
    e.slot = 12;
    e.labels = {{"app", "web"}};
    e.service_account = "default";
    e.named_ports = {{"http", 6, 80}};
    record.superseded = {{"net", "c0", "eth0", true}};
    return record;
}

class CniRecords : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = "/tmp/manx-records-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }

    void TearDown() override { std::filesystem::remove_all(folder_); }

    std::string folder_;
};

TEST_F(CniRecords, save_load_remove) {
    auto records = RecordFolder::open(folder_);
    ASSERT_TRUE(records);
    ASSERT_TRUE(records->save(sample()));
    auto synced = records->sync({"cali0d7763386da", "cali-removed-since"});
    ASSERT_TRUE(synced) << synced.error().text();
    std::vector<Error> broken;
    auto loaded = records->load(broken);
    ASSERT_TRUE(loaded);
    EXPECT_THAT(*loaded, testing::ElementsAre(sample()));
    EXPECT_TRUE(broken.empty());
    EXPECT_TRUE(records->remove("cali0d7763386da"));
    EXPECT_TRUE(records->remove("cali0d7763386da"));
    EXPECT_TRUE(records->load(broken)->empty());
}

// Earlier versions wrote what nobody reads any more, and did not know all of what is read now.
TEST(CniRecord, records_of_earlier_versions_are_read) {
    auto object = nlohmann::json::parse(render_record(sample()));
    ASSERT_TRUE(object["endpoint"].contains("anySource")) << "they do not read one without it";
    for (const bool any : {false, true}) {
        object["endpoint"]["anySource"] = any;
        object["endpoint"].erase("byStack");
        const auto read = parse_record(object.dump());
        ASSERT_TRUE(read) << read.error().text();
        EXPECT_EQ(*read, sample());
    }
    object["endpoint"].erase("anySource");
    EXPECT_TRUE(parse_record(object.dump())) << "nor do we ask for it";
}

TEST_F(CniRecords, half_written_and_broken_files_do_no_harm) {
    auto records = RecordFolder::open(folder_);
    ASSERT_TRUE(records->save(sample()));
    std::ofstream(folder_ + "/endpoints/cali2.json.new") << "{\"ver";
    std::ofstream(folder_ + "/endpoints/cali3.json") << "{\"version\": 1}";
    std::ofstream(folder_ + "/endpoints/cali4.json") << render_record(sample());
    std::vector<Error> broken;
    auto loaded = records->load(broken);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->size(), 1U);
    EXPECT_EQ(broken.size(), 2U);
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/endpoints/cali3.json.broken"));
}

// As an earlier version wrote it: what it says too much is left out.
TEST(CniRecord, of_an_earlier_version_is_read) {
    auto text = render_record(sample());
    const std::string slot = "\"slot\":12";
    text.replace(text.find(slot), slot.size(),
                 slot + R"(,"natOutgoing4":true,"natOutgoing6":false)");
    const auto record = parse_record(text);
    ASSERT_TRUE(record) << record.error().text();
    EXPECT_EQ(*record, sample());
}

TEST(CniHandle, network_and_container) {
    EXPECT_EQ(ipam_handle("k8s-pod-network", "ab12"), "k8s-pod-network.ab12");
}

TEST(CniPools, usable_families) {
    PoolView view;
    EXPECT_FALSE(view.has_usable(Family::V4));
    api::IpPool pool;
    pool.meta.name = "p";
    pool.cidr = *Cidr::parse("192.0.2.0/24");
    pool.node_selector = "zone == 'a'";
    view.upsert(pool);
    EXPECT_FALSE(view.has_usable(Family::V4)) << "not this node's";
    view.set_node_labels({{"zone", "a"}});
    EXPECT_TRUE(view.has_usable(Family::V4));
    EXPECT_FALSE(view.has_usable(Family::V6));
    pool.namespace_selector = "team == 'x'";
    view.upsert(pool);
    ASSERT_EQ(view.offers().size(), 1U);
    EXPECT_TRUE(view.offers().front().namespaces.matches({{"team", "x"}}));
    EXPECT_FALSE(view.offers().front().namespaces.matches(api::LabelMap{}));
    EXPECT_TRUE(view.has_named(Family::V4, "p"));
    EXPECT_TRUE(view.has_named(Family::V4, "192.0.2.0/24"));
    EXPECT_FALSE(view.has_named(Family::V6, "p"));
    EXPECT_FALSE(view.has_named(Family::V4, "q"));
    pool.disabled = true;
    view.upsert(pool);
    EXPECT_FALSE(view.has_usable(Family::V4));
    pool.disabled = false;
    view.upsert(pool);
    view.remove("p");
    EXPECT_FALSE(view.has_usable(Family::V4));
}

} // namespace
} // namespace manx::cni
