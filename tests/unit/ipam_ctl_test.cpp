// SPDX-License-Identifier: Apache-2.0
// manxctl ipam, on a datastore file: the tables and messages that people's scripts read.
#include "agent/api/kind.h"
#include "agent/ctl/run.h"
#include "agent/datastore/sqlite_store.h"
#include "agent/ipam/ipam.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace manx::ipam {
namespace {

namespace fs = std::filesystem;

class IpamCtl : public testing::Test {
protected:
    void SetUp() override {
        const auto* info = testing::UnitTest::GetInstance()->current_test_info();
        folder = fs::temp_directory_path() / fmt::format("manx-ipam-{}-{}", info->name(), getpid());
        fs::remove_all(folder);
        fs::create_directories(folder);
        path = folder / "store.db";
        auto opened = datastore::open_sqlite(path);
        ASSERT_TRUE(opened) << opened.error().text();
        store = std::move(*opened);
        put(api::Kind::Node, "", "node1", nlohmann::json::object());
        put(api::Kind::Node, "", "node2", nlohmann::json::object());
        put(api::Kind::IpPool, "", "four", {{"spec", {{"cidr", "10.65.0.0/16"}}}});
        allocator = std::make_unique<Allocator>(*store, "node1");
    }

    void TearDown() override {
        allocator.reset();
        store.reset();
        fs::remove_all(folder);
    }

    void put(api::Kind kind, const std::string& ns, const std::string& name,
             nlohmann::json object) {
        object["apiVersion"] = std::string(api::info(kind).api_version);
        object["kind"] = std::string(api::info(kind).name);
        object["metadata"]["name"] = name;
        if (!ns.empty()) {
            object["metadata"]["namespace"] = ns;
        }
        auto created = store->create({kind, ns, name}, object);
        ASSERT_TRUE(created) << created.error().text();
    }

    std::string assign(const std::string& pod, bool with_pod) {
        Request request;
        request.handle = pod_handle("k8s-pod-network", pod);
        request.attrs = pod_attributes("node1", "default", pod, system_now());
        request.num4 = 1;
        auto done = allocator->auto_assign(request);
        EXPECT_TRUE(done) << done.error().text();
        std::string address = done ? done->v4[0].address.text() : "";
        if (with_pod) {
            put(api::Kind::Pod, "default", pod,
                {{"spec", {{"nodeName", "node1"}, {"containers", nlohmann::json::array()}}},
                 {"status", {{"phase", "Running"}, {"podIPs", {{{"ip", address}}}}}}});
        }
        return address;
    }

    int run(std::vector<std::string> args) {
        args.insert(args.begin(), {"--datastore", path, "ipam"});
        std::istringstream in;
        std::ostringstream output;
        std::ostringstream errors;
        int code = ctl::run(args, in, output, errors);
        out = output.str();
        err = errors.str();
        return code;
    }

    fs::path folder;
    std::string path;
    std::unique_ptr<datastore::Store> store;
    std::unique_ptr<Allocator> allocator;
    std::string out;
    std::string err;
};

TEST_F(IpamCtl, ShowsUsageAsCalicoctlDoes) {
    for (int i = 0; i < 5; i++) {
        assign(fmt::format("p{}", i), true);
    }
    ASSERT_EQ(run({"show", "--show-blocks"}), 0) << err;
    EXPECT_EQ(
        out,
        R"(+----------+------------------+-----------+------------+--------------+--------------+
| GROUPING | CIDR             | IPS TOTAL | IPS IN USE | IPS RESERVED | IPS FREE     |
+----------+------------------+-----------+------------+--------------+--------------+
| IP Pool  | 10.65.0.0/16     |     65536 |     5 (0%) |       0 (0%) | 65531 (100%) |
| Block    | 10.65.166.128/26 |        64 |     5 (8%) |       0 (0%) |     59 (92%) |
+----------+------------------+-----------+------------+--------------+--------------+
)");
    put(api::Kind::IpPool, "", "six", {{"spec", {{"cidr", "fd00::/64"}}}});
    put(api::Kind::IpPool, "", "ten", {{"spec", {{"cidr", "10.128.0.0/15"}}}});
    put(api::Kind::IpReservation, "", "r", {{"spec", {{"reservedCIDRs", {"10.65.0.0/24"}}}}});
    ASSERT_EQ(run({"show"}), 0) << err;
    EXPECT_NE(out.find("| 1.8447e+19 |"), std::string::npos) << out;
    EXPECT_NE(out.find("| 1.3107e+05 |"), std::string::npos) << out;
    EXPECT_NE(out.find(" 256 (0%) |"), std::string::npos) << out;
}

TEST_F(IpamCtl, ShowsOneAddressAndTheConfiguration) {
    std::string address = assign("web-0", true);
    ASSERT_EQ(run({"show", "--ip", address}), 0) << err;
    EXPECT_TRUE(out.starts_with("IP " + address +
                                " is in use\nHandle ID: k8s-pod-network.web-0\n"
                                "Active Owner Attributes:\n  namespace: default\n"
                                "  node: node1\n  pod: web-0\n  timestamp: "))
        << out;
    ASSERT_EQ(run({"show", "--ip", "10.65.0.9"}), 0);
    EXPECT_EQ(out, "10.65.0.9 is not assigned\n");
    AssignRequest plain{*IpAddress::parse("10.65.0.1"), "", {}, api::PoolUse::Workload};
    ASSERT_TRUE(allocator->assign_ip(plain));
    ASSERT_EQ(run({"show", "--ip", "10.65.0.1"}), 0);
    EXPECT_EQ(out, "IP 10.65.0.1 is in use\nHandle ID: <none>\n"
                   "No Active Owner attributes defined\n");
    ASSERT_EQ(run({"show", "--show-borrowed"}), 0);
    EXPECT_NE(out.find("\nNote: found 1 IP allocations without an explicit node association. "
                       "Unable to determine if they are borrowed.\n"),
              std::string::npos)
        << out;
    ASSERT_EQ(run({"configure", "--ip-cooldown-seconds", "60"}), 0);
    ASSERT_EQ(run({"release", "--ip", "10.65.0.1"}), 0) << err;
    EXPECT_EQ(run({"show", "--ip", "10.65.0.1"}), 1);
    EXPECT_NE(err.find("address 10.65.0.1 is in cooldown"), std::string::npos) << err;
    EXPECT_EQ(run({"configure", "--strictaffinity", "true", "--max-blocks-per-host", "4"}), 0);
    EXPECT_EQ(out, "Successfully set StrictAffinity to: true\n"
                   "Successfully set MaxBlocksPerHost to: 4\n");
    EXPECT_EQ(run({"configure", "--strictaffinity", "false"}), 1);
    EXPECT_EQ(run({"configure"}), 1);
    ASSERT_EQ(run({"show", "--show-configuration"}), 0);
    EXPECT_NE(out.find("| PROPERTY "), std::string::npos);
    EXPECT_NE(out.find("| StrictAffinity               | true    |"), std::string::npos) << out;
}

TEST_F(IpamCtl, ShowsWhatIsBorrowed) {
    assign("p", true);
    Allocator other(*store, "node2");
    AssignRequest request{*IpAddress::parse("10.65.166.140"), "k8s-pod-network.b",
                          pod_attributes("node2", "default", "b", system_now()),
                          api::PoolUse::Workload};
    ASSERT_TRUE(other.assign_ip(request));
    ASSERT_EQ(run({"show", "--show-borrowed"}), 0);
    EXPECT_NE(out.find("| 10.65.166.140 | node2          | 10.65.166.128/26 | node1       | pod  "
                       "| default/b    |"),
              std::string::npos)
        << out;
}

TEST_F(IpamCtl, ReleasesAddresses) {
    std::string address = assign("p", true);
    ASSERT_EQ(run({"release", "--ip", address}), 0) << err;
    EXPECT_EQ(out, "Successfully released IP address " + address + "\n");
    EXPECT_EQ(run({"release", "--ip", address}), 1);
    EXPECT_NE(err.find("IP address " + address + " is not assigned"), std::string::npos) << err;
    EXPECT_FALSE(store->get({api::Kind::IpamHandle, "", "k8s-pod-network.p"}));
    EXPECT_EQ(run({"release"}), 1);
}

TEST_F(IpamCtl, FindsAndRepairsFaultsOnline) {
    assign("fine", true);
    ASSERT_EQ(run({"check", "--settle", "0"}), 0) << err;
    EXPECT_NE(out.find("Check complete; found 0 problems.\n"), std::string::npos) << out;
    std::string leaked = assign("gone", false);
    nlohmann::json handle = {{"spec", {{"handleID", "stray"}, {"block", {{"10.65.0.0/26", 1}}}}}};
    put(api::Kind::IpamHandle, "", "stray", handle);
    ASSERT_TRUE(store->remove({api::Kind::IpamHandle, "", "k8s-pod-network.fine"}));
    put(api::Kind::BlockAffinity, "", "lost-10-65-9-0-26",
        {{"spec", {{"cidr", "10.65.9.0/26"}, {"node", "lost"}, {"state", "confirmed"}}}});
    std::string report = folder / "report.json";
    ASSERT_EQ(run({"check", "--settle", "0.05", "--show-problem-ips", "-o", report}), 0) << err;
    std::vector<std::string> lines{
        "Found 1 IPAM blocks.\n",
        " IPAM block 10.65.166.128/26 affinity=host:node1:\n",
        fmt::format("  {} leaked; attrs Main:k8s-pod-network.gone Extra:namespace=default,"
                    "node=node1,pod=gone,timestamp=",
                    leaked),
        "  node1 has 2 allocations\nNode with most allocations has 2; median is 2\n",
        "Found 0 invalid IPAMBlocks.\n",
        "Found 1 IPs that are allocated in IPAM but not actually in use.\n",
        "Found 0 in-use IPs that are not in active IP pools.\n",
        "Found 1 handles with no matching IPs (and 1 handles with matches).\n",
        "Found 1 handles mentioned in blocks with no matching handle resource.\n",
        "Check complete; found 4 problems.\n"};
    for (const std::string& line : lines) {
        EXPECT_NE(out.find(line), std::string::npos) << line << "\n" << out;
    }
    std::ifstream file(report);
    auto json = nlohmann::json::parse(file);
    EXPECT_EQ(json["allocations"][leaked][0]["inUse"], false);
    EXPECT_EQ(json["allocations"][leaked][0]["pod"], "gone");
    EXPECT_EQ(json["leakedHandles"][0]["ID"], "stray");
    ASSERT_EQ(run({"release", "--from-report", report}), 0) << err;
    EXPECT_EQ(out, "Released 1 IPs successfully\nReleased 1 handles; 0 skipped; 0 errors.\n");
    EXPECT_FALSE(store->get({api::Kind::IpamHandle, "", "stray"}));
    ASSERT_EQ(run({"release", "--from-report", report}), 0);
    EXPECT_EQ(out, "Released 0 IPs successfully\nReleased 0 handles; 1 skipped; 0 errors.\n");
    json["clusterGUID"] = "another";
    std::ofstream(folder / "other.json") << json;
    EXPECT_EQ(run({"release", "--force", "--from-report", folder / "other.json"}), 1);
    EXPECT_NE(err.find("clusterGUID another"), std::string::npos) << err;

    assign("gone-again", false);
    ASSERT_EQ(run({"check", "--settle", "0.05", "--fix"}), 0) << err;
    EXPECT_NE(out.find("Repaired 3 problems.\n"), std::string::npos) << out;
    ASSERT_EQ(run({"check", "--settle", "0"}), 0);
    EXPECT_NE(out.find("Check complete; found 0 problems.\n"), std::string::npos) << out;
    EXPECT_TRUE(store->get({api::Kind::IpamHandle, "", "k8s-pod-network.fine"}));
}

TEST_F(IpamCtl, SplitsAPool) {
    assign("p", true);
    EXPECT_EQ(run({"split", "3", "--name", "four"}), 1);
    put(api::Kind::ClusterInformation, "", "default", {{"spec", {{"datastoreReady", true}}}});
    EXPECT_EQ(run({"split", "2", "--name", "four"}), 1);
    EXPECT_NE(err.find("not locked"), std::string::npos) << err;
    ASSERT_EQ(run({"split", "2", "--cidr", "10.65.0.0/16", "--force"}), 0) << err;
    EXPECT_EQ(out, "IP Pool four was successfully split into 2 smaller pools.\n"
                   "Created split-four-0 with CIDR 10.65.0.0/17.\n"
                   "Created split-four-1 with CIDR 10.65.128.0/17.\n");
    ASSERT_EQ(run({"show"}), 0);
    EXPECT_NE(out.find("| 10.65.0.0/17   |     32768 |"), std::string::npos) << out;
    EXPECT_NE(out.find("| 10.65.128.0/17 |     32768 |"), std::string::npos) << out;
    EXPECT_FALSE(store->get({api::Kind::IpPool, "", "four"}));
    EXPECT_TRUE(store->get({api::Kind::IpPool, "", "split-four-1"}));
    assign("q", true);
}

} // namespace
} // namespace manx::ipam
