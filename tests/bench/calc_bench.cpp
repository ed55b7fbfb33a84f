// SPDX-License-Identifier: Apache-2.0
// The policy compiler at scale: 250 local pods, 10,000 remote ones, 1,000 and 10,000 policies, and
// 100,000 CIDRs in network sets. Prints the time to full, the time per change (p50, p99) and the
// memory. calc_bench [policies] [cidrs] for one size only.
#include "agent/api/namespace.h"
#include "agent/api/network_set.h"
#include "agent/api/pod.h"
#include "agent/calc/policy_calculator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <malloc.h>
#include <random>
#include <unistd.h>

namespace {

using namespace manx;
using Clock = std::chrono::steady_clock;

constexpr int kNamespaces = 50;
constexpr int kAppsPerNamespace = 20;
constexpr int kRemote = 10'000;
constexpr int kLocal = 250;

double resident_mib() {
    malloc_trim(0);
    std::ifstream statm("/proc/self/statm");
    long total = 0;
    long resident = 0;
    statm >> total >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1048576.0;
}

std::string ns_name(int i) {
    return fmt::format("ns-{}", i % kNamespaces);
}

std::string app_name(int i) {
    return fmt::format("app-{}", i % kAppsPerNamespace);
}

api::Pod pod(int i, bool local, const std::string& revision = "1") {
    api::Pod out;
    out.meta.name = fmt::format("{}-{}", local ? "local" : "remote", i);
    out.meta.ns = ns_name(i);
    out.meta.labels = {{"app", app_name(i / kNamespaces)},
                       {"pod-template-hash", fmt::format("{:x}", (i / kNamespaces) * 7919)},
                       {"revision", revision}};
    out.node_name = local ? "n1" : fmt::format("n{}", 2 + i % 249);
    out.service_account = "default";
    const auto n = static_cast<uint32_t>(i + 256);
    out.ips = {IpAddress::v4((local ? 0x0a010000U : 0x0a020000U) + n),
               *IpAddress::parse(fmt::format("fd00:{}::{:x}", local ? 1 : 2, n))};
    out.named_ports = {{.name = "http", .protocol = 6, .port = 8080}};
    return out;
}

dataplane::LocalEndpoint local_endpoint(int i) {
    const api::Pod from = pod(i, true);
    dataplane::LocalEndpoint out;
    out.ns = from.meta.ns;
    out.pod = from.meta.name;
    out.interface = fmt::format("cali{:011x}", i);
    out.ifindex = static_cast<uint32_t>(i + 10);
    out.slot = static_cast<uint16_t>(i);
    out.addresses = from.ips;
    out.labels = from.meta.labels;
    out.service_account = from.service_account;
    return out;
}

// As Kubernetes' policies become: peers by label in the namespace, a block, numbered and named
// ports.
api::Policy policy(int i, uint16_t port) {
    api::Policy out;
    out.kind = api::Kind::K8sNetworkPolicy;
    out.ns = ns_name(i);
    out.name = fmt::format("policy-{}", i);
    out.order = 1000;
    out.ingress = out.egress = true;
    const auto in_ns = api::Selector::equals(api::kNamespaceLabel, out.ns);
    const auto app = [&](int n) {
        return api::Selector::all_of({in_ns, api::Selector::equals("app", app_name(n))});
    };
    const int which = i / kNamespaces;
    out.subject = app(which);
    api::PolicyRule rule;
    rule.action = api::Action::Allow;
    rule.protocol = api::kProtocolTcp;
    rule.source.selector = app(which + 1);
    rule.destination.ports.ranges = {{port, port}};
    out.ingress_rules.push_back(rule);
    rule.source.selector = api::Selector::equals("pcns.team", fmt::format("team-{}", i % 5));
    rule.destination.ports = {.ranges = {}, .names = {"http"}};
    rule.index = 1;
    out.ingress_rules.push_back(rule);
    rule = {};
    rule.action = api::Action::Allow;
    rule.destination.selector = app(which + 2);
    out.egress_rules.push_back(rule);
    rule.destination = {};
    rule.destination.nets = {*Cidr::parse(fmt::format("192.0.{}.0/24", i % 250))};
    rule.index = 1;
    out.egress_rules.push_back(rule);
    return out;
}

api::NetworkSet network_set(int i, int nets) {
    api::NetworkSet out;
    out.kind = api::Kind::GlobalNetworkSet;
    out.name = fmt::format("set-{}", i);
    out.labels = {{"list", fmt::format("list-{}", i)}};
    for (int n = 0; n < nets; ++n) {
        const auto place = static_cast<uint32_t>(i * nets + n);
        out.nets.emplace_back(IpAddress::v4(0x30000000U + place * 16), 28);
    }
    return out;
}

api::Policy list_policy(int i) {
    api::Policy out;
    out.kind = api::Kind::GlobalNetworkPolicy;
    out.name = fmt::format("list-{}", i);
    out.order = 10.0 + i;
    out.egress = true;
    api::PolicyRule rule;
    rule.action = api::Action::Deny;
    rule.destination.selector = api::Selector::equals("list", fmt::format("list-{}", i));
    out.egress_rules.push_back(rule);
    return out;
}

void measure(const std::string& what, int times, calc::PolicyCalculator& calculator,
             const std::function<void(int)>& change) {
    std::vector<double> took;
    size_t steps = 0;
    for (int i = 0; i < times; ++i) {
        const auto start = Clock::now();
        change(i);
        steps += calculator.flush().steps.size();
        took.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
    std::ranges::sort(took);
    fmt::print("  {:<34} p50 {:>8.0f} us   p99 {:>8.0f} us   {:>7.1f} steps each\n", what,
               took[took.size() / 2], took[took.size() * 99 / 100],
               static_cast<double>(steps) / times);
}

void run(int policies, int cidrs) {
    const double before = resident_mib();
    calc::PolicyCalculator calculator({.node_name = "n1"});
    const auto start = Clock::now();
    for (int i = 0; i < kNamespaces; ++i) {
        api::Namespace ns;
        ns.meta.name = ns_name(i);
        ns.meta.labels = {{"kubernetes.io/metadata.name", ns.meta.name},
                          {"team", fmt::format("team-{}", i % 5)}};
        calculator.upsert(ns);
    }
    for (int i = 0; i < kLocal; ++i) {
        calculator.upsert(pod(i, true));
        calculator.upsert_local(local_endpoint(i));
    }
    for (int i = 0; i < kRemote; ++i) {
        calculator.upsert(pod(i, false));
    }
    for (int i = 0; i < policies; ++i) {
        calculator.upsert(policy(i, static_cast<uint16_t>(1000 + i)));
    }
    for (int i = 0; i < cidrs / 1000; ++i) {
        calculator.upsert(network_set(i, 1000));
        calculator.upsert(list_policy(i));
    }
    const size_t steps = calculator.flush().steps.size();
    const double full = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    const double after = resident_mib();
    const auto stats = calculator.stats();
    fmt::print("{} local pods, {} remote, {} policies, {} CIDRs\n", kLocal, kRemote, policies,
               cidrs);
    fmt::print("  time to full {:.0f} ms, {} steps; memory {:.1f} MiB (process {:.1f})\n", full,
               steps, after - before, after);
    fmt::print("  active policies {}, matchers {}, classes {}, prefixes {}, sets {}, entries {}, "
               "port tables {}\n",
               stats.active_policies, stats.matchers, stats.classes, stats.prefixes, stats.sets,
               stats.set_entries, stats.port_tables);
    measure("label of a remote pod", 1000, calculator, [&](int i) {
        calculator.upsert(pod(i * 7 % kRemote, false, fmt::format("{}", 2 + i)));
    });
    measure("app of a remote pod", 1000, calculator, [&](int i) {
        api::Pod changed = pod(i * 7 % kRemote, false);
        changed.meta.labels["app"] = app_name(i);
        calculator.upsert(changed);
    });
    measure("a remote pod goes, one comes", 1000, calculator, [&](int i) {
        const int n = i * 7 % kRemote;
        calculator.remove(api::Kind::Pod, ns_name(n), pod(n, false).meta.name);
        calculator.upsert(pod(kRemote + i, false));
    });
    measure("a local pod goes and comes", 500, calculator, [&](int i) {
        calculator.remove_local(local_endpoint(i % kLocal).interface);
        calculator.upsert_local(local_endpoint(i % kLocal));
    });
    measure("a port of a policy", 1000, calculator, [&](int i) {
        calculator.upsert(policy(i % policies, static_cast<uint16_t>(20000 + i)));
    });
    measure("a policy goes or comes", 1000, calculator, [&](int i) {
        const int n = i / 2 % policies;
        if (i % 2 == 0) {
            calculator.remove(api::Kind::K8sNetworkPolicy, ns_name(n), policy(n, 1).name);
        } else {
            calculator.upsert(policy(n, static_cast<uint16_t>(1000 + n)));
        }
    });
    measure("labels of a namespace", 100, calculator, [&](int i) {
        api::Namespace ns;
        ns.meta.name = ns_name(i);
        ns.meta.labels = {{"team", fmt::format("team-{}", i % 7)}};
        calculator.upsert(ns);
    });
    if (cidrs > 0) {
        measure("1 CIDR of 1,000 in a set", 100, calculator, [&](int i) {
            auto set = network_set(i % (cidrs / 1000), 1000);
            set.nets[static_cast<size_t>(i)] =
                Cidr(IpAddress::v4(0x60000000U + static_cast<uint32_t>(i)), 32);
            std::ranges::sort(set.nets);
            calculator.upsert(set);
        });
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1) {
        run(std::atoi(argv[1]), argc > 2 ? std::atoi(argv[2]) : 0);
        return 0;
    }
    run(1000, 0);
    run(10'000, 0);
    run(1000, 100'000);
    return 0;
}
