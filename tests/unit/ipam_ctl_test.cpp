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
#include <functional>
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
        args.insert(args.begin(), "ipam");
        return run_any(std::move(args));
    }

    int run_any(std::vector<std::string> args) {
        args.insert(args.begin(), {"--datastore", path});
        std::istringstream in;
        std::ostringstream output;
        std::ostringstream errors;
        int code = ctl::run(args, in, output, errors);
        out = output.str();
        err = errors.str();
        return code;
    }

    void edit(api::Kind kind, const std::string& name,
              const std::function<void(nlohmann::json&)>& change) {
        datastore::Key key{kind, "", name};
        auto object = store->get(key);
        ASSERT_TRUE(object) << object.error().text();
        auto json = nlohmann::json::parse(object->json);
        change(json);
        ASSERT_TRUE(store->update(key, json));
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

TEST_F(IpamCtl, AReportedAddressThatAPodHasByNowIsKept) {
    std::string address = assign("late", false);
    std::string report = folder / "report.json";
    ASSERT_EQ(run({"check", "--settle", "0", "-o", report}), 0) << err;
    EXPECT_NE(out.find("Found 1 IPs that are allocated in IPAM but not"), std::string::npos) << out;
    put(api::Kind::Pod, "default", "late",
        {{"spec", {{"nodeName", "node1"}, {"containers", nlohmann::json::array()}}},
         {"status", {{"phase", "Running"}, {"podIPs", {{{"ip", address}}}}}}});
    ASSERT_EQ(run({"release", "--from-report", report}), 0) << err;
    EXPECT_EQ(out, "Released 0 IPs successfully\n"
                   "Report didn't contain any handles to clean up.\n");
    EXPECT_EQ(err, "Skipped " + address + ": in use\n");
    ASSERT_TRUE(store->remove({api::Kind::Pod, "default", "late"}));
    ASSERT_EQ(run({"release", "--from-report", report}), 0) << err;
    EXPECT_EQ(out, "Released 1 IPs successfully\n"
                   "Report didn't contain any handles to clean up.\n");
    ASSERT_EQ(run({"release", "--from-report", report}), 0) << err;
    EXPECT_NE(err.find("since the report"), std::string::npos) << err;
}

TEST_F(IpamCtl, RepairsWhatOthersDamaged) {
    assign("p", true);
    const char* block = "10-65-166-128-26";
    edit(api::Kind::IpamBlock, block, [](nlohmann::json& object) {
        object["spec"]["unallocated"] = {0, 7, 7};
        object["spec"]["allocations"][9] = 4;
    });
    edit(api::Kind::BlockAffinity, std::string("node1-") + block, [](nlohmann::json& object) {
        object["metadata"].erase("labels");
        object["metadata"].erase("annotations");
    });
    put(api::Kind::IpamHandle, "", "marked",
        {{"spec",
          {{"handleID", "marked"}, {"block", nlohmann::json::object()}, {"deleted", true}}}});
    ASSERT_EQ(run({"check", "--settle", "0", "--show-problem-ips"}), 0) << err;
    for (const char* line :
         {"  IPAMBlock 10.65.166.128/26 is invalid: its lists of free and taken IPs contradict "
          "each "
          "other\n",
          "  affinity of host:node1 to 10.65.166.128/26: lacks the labels by which its owner finds "
          "it\n",
          "  IPAMHandle marked is marked as deleted\n", "Check complete; found 3 problems.\n"}) {
        EXPECT_NE(out.find(line), std::string::npos) << line << out;
    }
    ASSERT_EQ(run({"check", "--settle", "0", "--fix"}), 0) << out << err;
    EXPECT_NE(out.find("Repaired 3 problems.\n"), std::string::npos) << out;
    ASSERT_EQ(run({"check", "--settle", "0"}), 0) << err;
    EXPECT_NE(out.find("Check complete; found 0 problems.\n"), std::string::npos) << out;
    // What cannot be read at all is named, and left.
    edit(api::Kind::IpamBlock, block,
         [](nlohmann::json& object) { object["spec"]["cidr"] = "10.65.0.0/26"; });
    EXPECT_EQ(run({"check", "--settle", "0", "--fix"}), 0) << out;
    EXPECT_NE(out.find("cannot be read: IPAMBlock 10-65-166-128-26: spec.cidr: "),
              std::string::npos)
        << out;
    EXPECT_NE(out.find("Check complete; found 1 problems.\n"), std::string::npos) << out;
    EXPECT_NE(out.find("1 objects cannot be read, and are left as they are"), std::string::npos)
        << out;
    EXPECT_TRUE(store->get({api::Kind::BlockAffinity, "", std::string("node1-") + block}));
}

TEST_F(IpamCtl, ADeletedPoolLeavesNothingButWhatIsInUse) {
    std::string address = assign("p", true);
    ASSERT_TRUE(allocator->claim_block(*Cidr::parse("10.65.1.0/26")));
    put(api::Kind::IpPool, "", "other", {{"spec", {{"cidr", "10.66.0.0/16"}}}});
    ASSERT_TRUE(allocator->claim_block(*Cidr::parse("10.66.1.0/26")));
    ASSERT_EQ(run_any({"delete", "ippool", "four"}), 0) << err;
    EXPECT_EQ(out, "Successfully deleted 1 'IPPool' resource(s)\n");
    EXPECT_EQ(err, "IPPool four: 1 addresses are in use and stay with those who have them, in "
                   "blocks 10.65.166.128/26\n");
    EXPECT_FALSE(store->get({api::Kind::IpPool, "", "four"}));
    EXPECT_FALSE(store->get({api::Kind::IpamBlock, "", "10-65-1-0-26"}));
    EXPECT_FALSE(store->get({api::Kind::BlockAffinity, "", "node1-10-65-1-0-26"}));
    EXPECT_FALSE(store->get({api::Kind::BlockAffinity, "", "node1-10-65-166-128-26"}));
    EXPECT_TRUE(store->get({api::Kind::BlockAffinity, "", "node1-10-66-1-0-26"}));
    // The last address takes its block along; then another block size is fine.
    ASSERT_EQ(run({"show", "--ip", address}), 0);
    EXPECT_TRUE(out.starts_with("IP " + address + " is in use")) << out;
    ASSERT_TRUE(allocator->release_by_handle("k8s-pod-network.p"));
    EXPECT_FALSE(store->get({api::Kind::IpamBlock, "", "10-65-166-128-26"}));
    std::string manifest = folder / "pool.yaml";
    std::ofstream(manifest) << "apiVersion: projectcalico.org/v3\nkind: IPPool\n"
                               "metadata: {name: four}\n"
                               "spec: {cidr: 10.65.0.0/16, blockSize: 28}\n";
    EXPECT_EQ(run_any({"create", "-f", manifest}), 0) << err;
}

TEST_F(IpamCtl, ASplitThatWasInterruptedIsFinished) {
    put(api::Kind::IpPool, "", "split-four-0", {{"spec", {{"cidr", "10.65.0.0/18"}}}});
    EXPECT_EQ(run({"split", "2", "--name", "four"}), 1); // nobody has locked the datastore
    EXPECT_NE(err.find("not locked"), std::string::npos) << err;
    put(api::Kind::ClusterInformation, "", "default", {{"spec", {{"datastoreReady", false}}}});
    EXPECT_EQ(run({"split", "2", "--name", "four"}), 1);
    EXPECT_NE(err.find("IPPool split-four-0 exists and has 10.65.0.0/18: expected 10.65.0.0/17"),
              std::string::npos)
        << err;
    edit(api::Kind::IpPool, "split-four-0",
         [](nlohmann::json& object) { object["spec"]["cidr"] = "10.65.0.0/17"; });
    ASSERT_EQ(run({"split", "2", "--name", "four"}), 0) << err;
    EXPECT_FALSE(store->get({api::Kind::IpPool, "", "four"}));
    for (const char* name : {"split-four-0", "split-four-1"}) {
        auto pool = store->get({api::Kind::IpPool, "", name});
        ASSERT_TRUE(pool);
        EXPECT_FALSE(nlohmann::json::parse(pool->json)["spec"].value("disabled", false)) << name;
    }
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
