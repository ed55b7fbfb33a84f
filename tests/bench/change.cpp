// SPDX-License-Identifier: Apache-2.0
// From a change in the datastore to the first packet that is judged by it, for benchmarks.
//
//   bench_change STORE CLIENT_NS SERVER_NS CLIENT_IP SERVER_IP --namespace NS --client POD
//
// Writes by the store's own interface and then sends datagrams from the client's namespace to the
// server's, each a flow of its own, until the verdict has changed and stays. A datagram has passed
// the programs when its send call returns. Prints one line of JSON for each change:
//   what, asked_ns (before the write), committed_ns (the write returned), judged_ns (the first
//   datagram of the new verdict was sent), probes, back (old verdicts after the first new one).
// Times are CLOCK_MONOTONIC, as in the agent's own records. Both pods have the label app=bench,
// the client role=client.
#include "agent/datastore/sqlite_store.h"
#include "base/ip.h"
#include "base/priority.h"
#include "base/unique_fd.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <random>
#include <sched.h>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace manx;
using nlohmann::json;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr uint16_t kOpenPort = 2000;
constexpr uint16_t kClosedPort = 1999;
constexpr int kSettled = 8; // probes of the new verdict in a row
constexpr auto kTimeout = 3s;

struct Options {
    std::string store;
    std::string client_ns;
    std::string server_ns;
    std::string client_ip;
    std::string server_ip;
    std::string ns = "default";
    std::string client = "client";
    int cycles = 50;
    int interval_us = 50;
};

Result<void> enter(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || setns(fd.get(), CLONE_NEWNET) < 0) {
        return fail_errno("enter " + path);
    }
    return {};
}

template <typename T>
const sockaddr* generic(const T& address) {
    return static_cast<const sockaddr*>(static_cast<const void*>(&address));
}

Result<sockaddr_in> ipv4(const std::string& text, uint16_t port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(port);
    if (inet_pton(AF_INET, text.c_str(), &out.sin_addr) != 1) {
        return fail(ErrorKind::ConfigInvalid, text + ": expected an IPv4 address");
    }
    return out;
}

int64_t ns_of(Clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

// Datagrams with a number, each from a port of its own.
class Prober {
public:
    static Result<Prober> create(const Options& options) {
        Prober out;
        TRY(enter(options.server_ns));
        TRY_ASSIGN(out.target_, ipv4(options.server_ip, kOpenPort));
        out.server_.reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!out.server_ ||
            bind(out.server_.get(), generic(out.target_), sizeof(out.target_)) < 0) {
            return fail_errno("server socket");
        }
        TRY(enter(options.client_ns));
        out.client_.reset(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP));
        if (!out.client_) {
            return fail_errno("client socket");
        }
        return out;
    }

    struct Probe {
        Clock::time_point sent;
        bool arrived = false;
    };

    void begin() {
        collect();
        probes_.clear();
        first_ = next_;
    }

    Result<void> send() {
        struct {
            udphdr header{};
            uint32_t number = 0;
        } packet;

        packet.header.source = htons(static_cast<uint16_t>(1024 + next_ % 64000));
        packet.header.dest = htons(kOpenPort);
        packet.header.len = htons(sizeof(packet));
        packet.number = next_++;
        if (sendto(client_.get(), &packet, sizeof(packet), 0, generic(target_), sizeof(target_)) <
            0) {
            return fail_errno("send");
        }
        probes_.push_back({Clock::now()});
        collect();
        return {};
    }

    void collect() {
        uint32_t number = 0;
        while (recv(server_.get(), &number, sizeof(number), 0) == sizeof(number)) {
            if (number >= first_ && number - first_ < probes_.size()) {
                probes_[number - first_].arrived = true;
            }
        }
    }

    [[nodiscard]] const std::vector<Probe>& probes() const { return probes_; }

    [[nodiscard]] bool settled(bool open) const {
        if (probes_.size() < kSettled) {
            return false;
        }
        for (size_t i = probes_.size() - kSettled; i < probes_.size(); i++) {
            if (probes_[i].arrived != open) {
                return false;
            }
        }
        return true;
    }

private:
    UniqueFd client_;
    UniqueFd server_;
    sockaddr_in target_{};
    std::vector<Probe> probes_;
    uint32_t next_ = 0;
    uint32_t first_ = 0;
};

class Bench {
public:
    Bench(const Options& options, datastore::Store& store, Prober& prober)
        : options_(options), store_(store), prober_(prober) {}

    // Closes and opens the way in all ways that a cluster's people do.
    Result<void> cycle() {
        TRY(change("policy created", false, [&] { return store_.create(key(), policy(false)); }));
        TRY(change("policy's port", true, [&] { return store_.update(key(), policy(true)); }));
        TRY(change("pod's label", false, [&] { return label("other"); }));
        TRY(change("pod's label", true, [&] { return label("client"); }));
        TRY(change("policy's port", false, [&] { return store_.update(key(), policy(false)); }));
        return change("policy deleted", true, [&]() -> Result<datastore::Object> {
            TRY(store_.remove(key()));
            return datastore::Object{};
        });
    }

    Result<void> clean() {
        auto removed = store_.remove(key());
        return removed || removed.error().kind == ErrorKind::NotFound ? Result<void>() : removed;
    }

private:
    [[nodiscard]] datastore::Key key() const {
        return {api::Kind::K8sNetworkPolicy, options_.ns, "bench-change"};
    }

    [[nodiscard]] json policy(bool open) const {
        return {
            {"apiVersion", "networking.k8s.io/v1"},
            {"kind", "NetworkPolicy"},
            {"metadata", {{"name", "bench-change"}, {"namespace", options_.ns}}},
            {"spec",
             {{"podSelector", {{"matchLabels", {{"app", "bench"}}}}},
              {"policyTypes", {"Ingress"}},
              {"ingress",
               {{{"from", {{{"podSelector", {{"matchLabels", {{"role", "client"}}}}}}}},
                 {"ports", {{{"protocol", "UDP"}, {"port", open ? kOpenPort : kClosedPort}}}}}}}}}};
    }

    Result<datastore::Object> label(const std::string& role) {
        return store_.patch({api::Kind::Pod, options_.ns, options_.client},
                            {{"metadata", {{"labels", {{"role", role}}}}}});
    }

    Result<void> change(const std::string& what, bool open,
                        const std::function<Result<datastore::Object>()>& write) {
        std::this_thread::sleep_for(std::chrono::microseconds(3000 + random_() % 7000));
        // The verdict is the old one at the beginning, or nothing is measured.
        prober_.begin();
        TRY(prober_.send());
        std::this_thread::sleep_for(200us);
        prober_.collect();
        if (prober_.probes().front().arrived == open) {
            return fail(ErrorKind::Bug, what + ": the verdict was the new one before the change");
        }
        prober_.begin();
        const auto asked = Clock::now();
        if (auto written = write(); !written) {
            return Unexpected(written.error());
        }
        const auto committed = Clock::now();
        while (!prober_.settled(open)) {
            if (Clock::now() - committed > kTimeout) {
                return fail(ErrorKind::Unavailable, what + ": not enforced in time");
            }
            TRY(prober_.send());
            std::this_thread::sleep_for(std::chrono::microseconds(options_.interval_us));
        }
        prober_.collect();
        const auto& probes = prober_.probes();
        size_t first = 0;
        while (probes[first].arrived != open) {
            first++;
        }
        size_t back = 0;
        for (size_t i = first; i < probes.size(); i++) {
            back += probes[i].arrived != open ? 1 : 0;
        }
        std::printf("{\"what\": \"%s\", \"asked_ns\": %ld, \"committed_ns\": %ld, "
                    "\"judged_ns\": %ld, \"probes\": %zu, \"back\": %zu}\n",
                    what.c_str(), ns_of(asked), ns_of(committed), ns_of(probes[first].sent),
                    probes.size(), back);
        return {};
    }

    const Options& options_;
    datastore::Store& store_;
    Prober& prober_;
    std::minstd_rand random_{1};
};

Result<void> run(const Options& options) {
    prctl(PR_SET_TIMERSLACK, 1);
    // What is measured is the agent, not how long its observer waits for a CPU.
    (void)setpriority(PRIO_PROCESS, 0, -20);
    prefer_short_turns();
    TRY_ASSIGN(auto store, datastore::open_sqlite(options.store));
    TRY_ASSIGN(Prober prober, Prober::create(options));
    Bench bench(options, *store, prober);
    TRY(bench.clean());
    for (int i = 0; i < options.cycles; i++) {
        TRY(bench.cycle());
    }
    return {};
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("from a change in the datastore to the first packet judged by it");
    Options options;
    app.add_option("store", options.store, "the SQLite file")->required();
    app.add_option("client-ns", options.client_ns, "network namespace")->required();
    app.add_option("server-ns", options.server_ns, "network namespace")->required();
    app.add_option("client-ip", options.client_ip)->required();
    app.add_option("server-ip", options.server_ip)->required();
    app.add_option("--namespace", options.ns, "of both pods");
    app.add_option("--client", options.client, "name of the client's pod");
    app.add_option("--cycles", options.cycles, "of six changes");
    app.add_option("--interval", options.interval_us, "us between probes");
    CLI11_PARSE(app, argc, argv);
    if (auto done = run(options); !done) {
        std::fprintf(stderr, "bench_change: %s\n", done.error().text().c_str());
        return 1;
    }
    return 0;
}
