// SPDX-License-Identifier: Apache-2.0
// The CNI half of the agent as a program of its own, for tests that kill it: the real server, IPAM
// and SQLite store, and a sink that takes every endpoint at its word, but not while there is a file
// STATE_DIR/hold: so a test gets between the steps of an ADD. With STATE_DIR/behind its policy
// never is as new as the pod. A file STATE_DIR/die holds a number of writes to the datastore:
// instead of the one after them the agent takes the file away and kills itself.
//
//   cni_test_agent STORE STATE_DIR SOCKET NODE [PODS]
//
// With PODS it first fills the store: node, pools, and pods default/pod-0 and so on. Prints "ready"
// once it serves.
#include "agent/api/pool.h"
#include "agent/app/datastore_lock.h"
#include "agent/app/syncer.h"
#include "agent/cni/ipam_addresses.h"
#include "agent/cni/server.h"
#include "agent/datastore/sqlite_store.h"
#include "agent/ipam/ipam.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "tests/cni/seed.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

class Believer : public manx::cni::EndpointSink {
public:
    Believer(manx::EventLoop& loop, std::string hold) : loop_(loop), hold_(std::move(hold)) {}

    void enforce(const manx::dataplane::LocalEndpoint& endpoint, Done done) override {
        if (access(hold_.c_str(), F_OK) != 0) {
            loop_.post([done = std::move(done)] { done({}); });
            return;
        }
        auto timer = loop_.add_timer(std::chrono::milliseconds(10),
                                     [this, endpoint, done] { enforce(endpoint, done); });
        if (timer) {
            held_.push_back(std::move(*timer));
        }
    }

    manx::Result<void> prepare(uint32_t /*ifindex*/) override { return {}; }

    manx::Result<std::vector<std::string>> missing_programs(uint32_t /*ifindex*/) override {
        return std::vector<std::string>{};
    }

    void clean_up(uint32_t /*ifindex*/) override {}

    void forget(const std::string& /*interface*/) override {}

private:
    manx::EventLoop& loop_;
    std::string hold_;
    std::vector<manx::EventSource> held_;
};

class MortalStore : public manx::datastore::Store {
public:
    using Key = manx::datastore::Key;
    using Object = manx::datastore::Object;

    MortalStore(Store& store, std::string die) : store_(store), die_(std::move(die)) {}

    manx::Result<Object> get(const Key& key) override { return store_.get(key); }

    manx::Result<manx::datastore::ListResult>
    list(manx::api::Kind kind, const manx::datastore::ListOptions& options) override {
        return store_.list(kind, options);
    }

    manx::Result<Object> create(const Key& key, const nlohmann::json& object) override {
        count();
        return store_.create(key, object);
    }

    manx::Result<Object> update(const Key& key, const nlohmann::json& object) override {
        count();
        return store_.update(key, object);
    }

    manx::Result<Object> patch(const Key& key, const nlohmann::json& merge_patch,
                               const manx::datastore::Precondition& precondition) override {
        count();
        return store_.patch(key, merge_patch, precondition);
    }

    manx::Result<void> remove(const Key& key,
                              const manx::datastore::Precondition& precondition) override {
        count();
        return store_.remove(key, precondition);
    }

    manx::Result<std::unique_ptr<manx::datastore::Watch>>
    watch(manx::api::Kind kind, manx::datastore::WatchHandler handler) override {
        return store_.watch(kind, std::move(handler));
    }

    void when_delivered(std::function<void()> fn) override { store_.when_delivered(std::move(fn)); }

private:
    void count() {
        const std::lock_guard lock(mutex_);
        std::ifstream file(die_);
        int left = 0;
        if (!(file >> left)) {
            return;
        }
        if (left == 0) {
            unlink(die_.c_str());
            raise(SIGKILL);
        }
        std::ofstream(die_) << left - 1;
    }

    Store& store_;
    std::string die_;
    std::mutex mutex_;
};

manx::Result<int> run(int argc, char** argv) {
    TRY_ASSIGN(auto loop, manx::EventLoop::create());
    TRY_ASSIGN(auto sqlite, manx::datastore::open_sqlite(argv[1]));
    MortalStore store(*sqlite, std::string(argv[2]) + "/die");
    if (argc > 5) {
        TRY(manx::test::seed_cluster(store, argv[4], std::atoi(argv[5])));
    }
    manx::ipam::Allocator allocator(store, argv[4]);
    TRY(allocator.watch());
    manx::cni::IpamAddresses addresses(allocator, argv[4]);
    Believer sink(*loop, std::string(argv[2]) + "/hold");
    manx::app::Syncer syncer(*loop, store);
    const std::string behind = std::string(argv[2]) + "/behind";
    const auto when_current = [&](std::function<void()> fn) {
        if (access(behind.c_str(), F_OK) != 0) {
            syncer.when_applied(std::move(fn));
        }
    };
    TRY_ASSIGN(auto server, manx::cni::CniServer::create(
                                {*loop, store, addresses, sink, when_current}, {argv[3], argv[2]}));
    syncer.on<manx::api::IpPool>(
        manx::api::Kind::IpPool,
        [&](const auto& pool, const auto& /*key*/) { server->upsert_pool(pool); },
        [&](const auto& key) { server->remove_pool(key.name); });
    manx::app::DatastoreLock lock;
    syncer.on<manx::api::ClusterInformation>(
        manx::api::Kind::ClusterInformation,
        [&](const auto& object, const auto& /*key*/) { lock.upsert(object); },
        [&](const auto& key) { lock.remove(key.name); });
    bool told = false;
    syncer.on_batch([&](bool synced) {
        if (!synced) {
            return;
        }
        server->set_not_ready(lock.reason(syncer.invalid()));
        if (!std::exchange(told, true)) {
            std::puts("ready");
            std::fflush(stdout);
        }
    });
    TRY_ASSIGN(auto stop, loop->add_signal(SIGTERM, [&] { loop->quit(0); }));
    TRY(syncer.start());
    TRY(server->start());
    return loop->run();
}

} // namespace

int main(int argc, char** argv) {
    manx::log::configure(std::getenv("MANX_LOG_LEVEL") != nullptr ? std::getenv("MANX_LOG_LEVEL")
                                                                  : "warn");
    if (argc < 5) {
        std::fputs("usage: cni_test_agent STORE STATE_DIR SOCKET NODE [PODS]\n", stderr);
        return 2;
    }
    auto code = run(argc, argv);
    if (!code) {
        std::fprintf(stderr, "cni_test_agent: %s\n", code.error().text().c_str());
        return 1;
    }
    return *code;
}
