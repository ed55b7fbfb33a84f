// SPDX-License-Identifier: Apache-2.0
// Fills a datastore with a cluster of some size, for benchmarks, by the store's own interface:
//
//   bench_cluster STORE [--nodes N] [--pods N] [--local N] [--policies N] [--storm WRITES]
//
// With --storm it changes what is there instead, at random: labels and addresses of remote pods,
// ports of policies, pods that go and come.
//
// Pods are labelled, spread and protected as calc_bench's are: 50 namespaces of 20 apps each;
// Kubernetes' policies with peers by label, a block, numbered and named ports. The local pods are
// objects of node-1 without addresses, default order local-0 and so on: the CNI plugin adds them.
#include "agent/datastore/sqlite_store.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <random>
#include <string>

namespace {

using namespace manx;
using nlohmann::json;

constexpr int kNamespaces = 50;
constexpr int kApps = 20;

struct Options {
    std::string store;
    int nodes = 250;
    int pods = 10'000;
    int local = 250;
    int policies = 1000;
    int storm = 0;
};

std::string ns_name(int i) {
    return fmt::format("ns-{}", i % kNamespaces);
}

std::string app_name(int i) {
    return fmt::format("app-{}", i % kApps);
}

class Filler {
public:
    explicit Filler(datastore::Store& store) : store_(store) {}

    Result<void> put(api::Kind kind, const std::string& ns, const std::string& name, json object) {
        const auto& info = api::info(kind);
        object["apiVersion"] = info.api_version;
        object["kind"] = info.name;
        object["metadata"]["name"] = name;
        if (!ns.empty()) {
            object["metadata"]["namespace"] = ns;
        }
        TRY(store_.create({kind, ns, name}, object));
        return {};
    }

private:
    datastore::Store& store_;
};

std::string remote_ipv4(int i) {
    return fmt::format("10.{}.{}.{}", 128 + i / 64000, i / 250 % 256, i % 250 + 1);
}

json pod(int i, const std::string& node) {
    return {
        {"metadata",
         {{"labels",
           {{"app", app_name(i / kNamespaces)},
            {"pod-template-hash", fmt::format("{:x}", i / kNamespaces * 7919)}}}}},
        {"spec",
         {{"nodeName", node},
          {"serviceAccountName", "default"},
          {"containers",
           {{{"name", "main"},
             {"image", "registry.example/app:1"},
             {"ports", {{{"name", "http"}, {"containerPort", 8080}, {"protocol", "TCP"}}}}}}}}}};
}

json running(json pod, int i) {
    const std::string ip = remote_ipv4(i);
    pod["status"] = {{"phase", "Running"},
                     {"podIP", ip},
                     {"podIPs", {{{"ip", ip}}, {{"ip", fmt::format("fd00:2::{:x}", i + 1)}}}}};
    return pod;
}

json policy(int i) {
    const int which = i / kNamespaces;
    const auto app = [](int n) {
        return json{{"podSelector", {{"matchLabels", {{"app", app_name(n)}}}}}};
    };
    const json team = {
        {"namespaceSelector", {{"matchLabels", {{"team", fmt::format("team-{}", i % 5)}}}}}};
    return {
        {"spec",
         {{"podSelector", app(which)["podSelector"]},
          {"policyTypes", {"Ingress", "Egress"}},
          {"ingress",
           {{{"from", {app(which + 1)}}, {"ports", {{{"protocol", "TCP"}, {"port", 1000 + i}}}}},
            {{"from", {team}}, {"ports", {{{"protocol", "TCP"}, {"port", "http"}}}}}}},
          {"egress",
           {{{"to", {app(which + 2)}}},
            {{"to", {{{"ipBlock", {{"cidr", fmt::format("192.0.{}.0/24", i % 250)}}}}}}}}}}}};
}

Result<void> fill(const Options& options) {
    TRY_ASSIGN(auto store, datastore::open_sqlite(options.store));
    Filler filler(*store);
    for (int i = 1; i <= options.nodes; i++) {
        const std::string address = fmt::format("172.16.{}.{}", i / 250, i % 250 + 1);
        TRY(filler.put(
            api::Kind::Node, "", fmt::format("node-{}", i),
            {{"metadata",
              {{"annotations", {{"projectcalico.org/IPv4Address", address + "/16"}}},
               {"labels", {{"kubernetes.io/hostname", fmt::format("node-{}", i)}}}}},
             {"status", {{"addresses", {{{"type", "InternalIP"}, {"address", address}}}}}}}));
    }
    TRY(filler.put(api::Kind::IpPool, "", "pool4",
                   {{"spec", {{"cidr", "10.65.0.0/16"}, {"blockSize", 24}}}}));
    TRY(filler.put(api::Kind::IpPool, "", "pool6",
                   {{"spec", {{"cidr", "fd00:10:65::/64"}, {"blockSize", 120}}}}));
    for (int i = 0; i < kNamespaces; i++) {
        TRY(filler.put(api::Kind::Namespace, "", ns_name(i),
                       {{"metadata",
                         {{"labels",
                           {{"kubernetes.io/metadata.name", ns_name(i)},
                            {"team", fmt::format("team-{}", i % 5)}}}}}}));
        TRY(filler.put(api::Kind::ServiceAccount, ns_name(i), "default", json::object()));
    }
    for (int i = 0; i < options.local; i++) {
        TRY(filler.put(api::Kind::Pod, ns_name(i), fmt::format("local-{}", i), pod(i, "node-1")));
    }
    for (int i = 0; i < options.pods; i++) {
        const std::string node = fmt::format("node-{}", 2 + i % std::max(options.nodes - 1, 1));
        TRY(filler.put(api::Kind::Pod, ns_name(i), fmt::format("remote-{}", i),
                       running(pod(i, node), i)));
    }
    for (int i = 0; i < options.policies; i++) {
        TRY(filler.put(api::Kind::K8sNetworkPolicy, ns_name(i), fmt::format("policy-{}", i),
                       policy(i)));
    }
    return {};
}

// What was there, and in the end is again, but for labels, addresses and ports.
Result<void> storm(const Options& options) {
    TRY_ASSIGN(auto store, datastore::open_sqlite(options.store));
    Filler filler(*store);
    std::minstd_rand random(std::random_device{}());
    const auto any = [&](int below) {
        return static_cast<int>(random() % static_cast<unsigned>(below));
    };
    for (int i = 0; i < options.storm; i++) {
        const int n = any(options.pods);
        const std::string node = fmt::format("node-{}", 2 + n % std::max(options.nodes - 1, 1));
        const datastore::Key key{api::Kind::Pod, ns_name(n), fmt::format("remote-{}", n)};
        switch (any(4)) {
        case 0:
            TRY(store->patch(key, {{"metadata", {{"labels", {{"app", app_name(any(kApps))}}}}}}));
            break;
        case 1: {
            const int m = any(options.policies);
            json changed = policy(m);
            changed["spec"]["ingress"][0]["ports"][0]["port"] = 1000 + any(60'000);
            TRY(store->patch({api::Kind::K8sNetworkPolicy, ns_name(m), fmt::format("policy-{}", m)},
                             changed));
            break;
        }
        case 2:
            TRY(store->patch(key, running(json::object(), n + options.pods * (1 + any(2)))));
            break;
        default:
            TRY(store->remove(key));
            TRY(filler.put(key.kind, key.ns, key.name, running(pod(n, node), n)));
        }
    }
    return {};
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("fills a datastore with a cluster, for benchmarks");
    Options options;
    app.add_option("store", options.store, "the SQLite file")->required();
    app.add_option("--nodes", options.nodes);
    app.add_option("--pods", options.pods, "of other nodes");
    app.add_option("--local", options.local, "pods of node-1");
    app.add_option("--policies", options.policies);
    app.add_option("--storm", options.storm, "so many writes that change what is there");
    CLI11_PARSE(app, argc, argv);
    if (auto done = options.storm > 0 ? storm(options) : fill(options); !done) {
        std::fprintf(stderr, "bench_cluster: %s\n", done.error().text().c_str());
        return 1;
    }
    return 0;
}
