// SPDX-License-Identifier: Apache-2.0
// What allocation costs on the SQLite engine: prints milliseconds, and fails only when they are out
// of all proportion (the machine may be busy).
#include "agent/api/kind.h"
#include "agent/datastore/sqlite_store.h"
#include "agent/ipam/ipam.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <unistd.h>

namespace manx::ipam {
namespace {

namespace fs = std::filesystem;
using Steady = std::chrono::steady_clock;

double milliseconds(Steady::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

TEST(IpamSpeed, OnSqlite) {
    fs::path folder = fs::temp_directory_path() / fmt::format("manx-ipam-speed-{}", getpid());
    fs::remove_all(folder);
    fs::create_directories(folder);
    {
        auto store = datastore::open_sqlite(folder / "store.db");
        ASSERT_TRUE(store) << store.error().text();
        auto put = [&](api::Kind kind, const std::string& name, nlohmann::json object) {
            object["apiVersion"] = std::string(api::info(kind).api_version);
            object["kind"] = std::string(api::info(kind).name);
            object["metadata"]["name"] = name;
            ASSERT_TRUE((*store)->create({kind, "", name}, object));
        };
        put(api::Kind::Node, "node1", nlohmann::json::object());
        put(api::Kind::IpPool, "four", {{"spec", {{"cidr", "10.65.0.0/16"}, {"blockSize", 24}}}});
        put(api::Kind::IpPool, "six", {{"spec", {{"cidr", "fd00::/64"}, {"blockSize", 120}}}});
        Allocator allocator(**store, "node1");
        ASSERT_TRUE(allocator.watch());
        auto request = [](int i) {
            Request r;
            r.handle = pod_handle("k8s-pod-network", fmt::format("{:064x}", i));
            r.attrs = pod_attributes("node1", "default", fmt::format("p{}", i), system_now());
            r.num4 = 1;
            r.num6 = 1;
            return r;
        };
        auto cold = Steady::now();
        ASSERT_TRUE(allocator.auto_assign(request(0)));
        double first = milliseconds(Steady::now() - cold);

        std::vector<double> each;
        for (int i = 1; i <= 50; i++) {
            auto r = request(i);
            auto start = Steady::now();
            ASSERT_TRUE(allocator.auto_assign(r));
            each.push_back(milliseconds(Steady::now() - start));
        }
        std::sort(each.begin(), each.end());

        std::vector<Request> burst;
        std::vector<std::string> handles;
        for (int i = 100; i < 150; i++) {
            burst.push_back(request(i));
            handles.push_back(burst.back().handle);
        }
        auto start = Steady::now();
        for (const auto& result : allocator.auto_assign_many(burst)) {
            ASSERT_TRUE(result) << result.error().text();
        }
        double together = milliseconds(Steady::now() - start);
        start = Steady::now();
        for (const auto& result : allocator.release_by_handles(handles)) {
            ASSERT_TRUE(result) << result.error().text();
        }
        double released = milliseconds(Steady::now() - start);
        fmt::print("dual stack: first pod, with claims {:.2f} ms; one by one p50 {:.2f} ms, p98 "
                   "{:.2f} ms; 50 at once {:.2f} ms; 50 released {:.2f} ms\n",
                   first, each[25], each[49], together, released);
        EXPECT_LT(each[25], 50);
        EXPECT_LT(together, 2000);
    }
    fs::remove_all(folder);
}

} // namespace
} // namespace manx::ipam
