// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/policy_node.h"

#include "maps/reason.h"
#include "tests/harness/packet.h"
#include "tests/harness/program.h"
#include "tests/harness/sandbox.h"
#include "tests/oracle/reading.h"

#include <fmt/format.h>

#include <linux/pkt_cls.h>

#include <algorithm>
#include <stdexcept>

namespace manx::testing_policy {

namespace {

constexpr const char* kBpffs = "/sys/fs/bpf/manx";
constexpr uint32_t kFirstDevice = 1000; // of the workload in slot 0
constexpr uint32_t kWorkloads = 40;
constexpr uint32_t kUplink = 900;
constexpr uint32_t kRules = 4096;

template <typename T>
T must(Result<T> result) {
    if (!result) {
        throw std::runtime_error(result.error().text());
    }
    if constexpr (!std::is_void_v<T>) {
        return std::move(*result);
    }
}

harness::Packet packet_of(const oracle::Query& query) {
    const auto source = static_cast<uint16_t>(query.source_port);
    const auto port = static_cast<uint16_t>(query.port);
    harness::Ip ip{.src = query.from, .dst = query.to};
    const auto protocol = static_cast<uint8_t>(query.protocol);
    ip.protocol = protocol;
    const auto with = [&](const harness::Layer& transport) {
        return harness::eth() / ip / transport;
    };
    switch (query.protocol) {
    case 6:
        return with(harness::tcp(source, port, harness::kSyn));
    case 17:
        return with(harness::udp(source, port));
    case 132:
        return with(harness::sctp(source, port));
    case 1:
    case 58:
        return with(
            harness::icmp(static_cast<uint8_t>(port >> 8), static_cast<uint8_t>(port), source, 1));
    default:
        return with(harness::payload(40));
    }
}

// One word for a pass of any kind.
std::string word(manx_reason reason) {
    return reason == MANX_REASON_NONE ? "pass" : std::string(maps::reason_name(reason));
}

} // namespace

PolicyNode::PolicyNode() {
    must(harness::enter_sandbox());
    const auto device = [](const std::string& name, uint32_t index) {
        return "link add " + name + " index " + std::to_string(index) + " type veth peer name p" +
               name + "\nlink set " + name + " up\n";
    };
    std::string commands = device("up0", kUplink);
    for (uint32_t i = 0; i < kWorkloads; ++i) {
        commands += device("w" + std::to_string(i), kFirstDevice + i);
    }
    harness::must_run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv4.ip_forward=1");
    harness::must_run("echo '" + commands + "' | ip -batch -");
    loader::LoadOptions options;
    options.sizes = {.endpoints = 256,
                     .classes = 1024,
                     .networks = 1024,
                     .policies = 16384,
                     .ports = 262144,
                     .rules = kRules,
                     .flows4 = 1024,
                     .flows6 = 1024,
                     .new_flows4 = 8192,
                     .new_flows6 = 8192,
                     .fragments = 1024,
                     .counters = 8192,
                     .events = 65536};
    loader_ = std::make_unique<loader::Loader>(must(loader::Loader::open(kBpffs, options)));
    must(must(loader_->map(maps::kUplinks)).update(kUplink, manx_uplink{}));
    tables_ = must(dataplane::PinnedTables::open(kBpffs));
    programs_ = must(dataplane::LivePrograms::open(kBpffs));
    start_afresh();
}

void PolicyNode::start_afresh() {
    present_.clear();
    in_force_ = {};
    agent_ = std::make_unique<AgentView>(*tables_, AgentView::options(kRules),
                                         [this](dataplane::LocalEndpoint& local) {
                                             local.ifindex = kFirstDevice + local.slot;
                                             for (const auto& address : local.addresses) {
                                                 slots_[address] = local.slot;
                                             }
                                         });
    forget_flows();
}

void PolicyNode::set_flags(uint32_t flags) {
    manx_config config = must(loader_->config());
    config.flags = flags;
    must(loader_->set_config(config));
}

std::optional<std::string> PolicyNode::replace(const std::vector<json>& objects, uint64_t seed) {
    std::map<std::string, json> wanted;
    for (const auto& object : objects) {
        wanted.emplace(key_of(object), object);
    }

    struct Event {
        bool put = false;
        json object;

        // The same for the same seed, whatever else there is: shrinking relies on it.
        [[nodiscard]] uint64_t place(uint64_t by) const {
            return std::mt19937_64(std::hash<std::string>{}(key_of(object)) ^ by)();
        }
    };

    std::vector<Event> first; // an address is free when the pod that had it is gone
    std::vector<Event> events;
    for (const auto& [key, object] : present_) {
        const auto found = wanted.find(key);
        if (object["kind"] == "Pod" &&
            (found == wanted.end() ||
             found->second["spec"]["nodeName"] != object["spec"]["nodeName"])) {
            first.push_back({false, object});
        } else if (found == wanted.end()) {
            events.push_back({false, object});
        }
    }
    for (const auto& object : objects) {
        events.push_back({true, object});
    }
    std::ranges::sort(events, {}, [&](const Event& event) { return event.place(seed); });
    events.insert(events.begin(), first.begin(), first.end());
    for (const auto& [put, object] : events) {
        if (put) {
            const auto taken = agent_->put(object);
            const bool refused = oracle::read_object(object).reading == oracle::Reading::Refused;
            if (taken.has_value() == refused) {
                return fmt::format("{}: {}", refused ? "taken" : taken.error().text(),
                                   object.dump());
            }
            in_force_.put(object);
        } else {
            agent_->remove(object);
            in_force_.remove(object);
        }
        if (Event{put, object}.place(seed + 1) % 16 == 0) {
            must(agent_->flush());
        }
    }
    must(agent_->flush());
    (void)agent_->calculator.take_released_rules();
    present_ = std::move(wanted);
    slots_.clear();
    for (const auto& object : objects) {
        if (is_local_pod(object)) {
            for (const auto& address : must(calc::local_from_pod(object, 0)).addresses) {
                slots_[address] = agent_->slot(object);
            }
        }
    }
    return std::nullopt;
}

uint32_t PolicyNode::device_of(const IpAddress& address) const {
    const auto found = slots_.find(address);
    return found == slots_.end() ? 0 : kFirstDevice + found->second;
}

// Without the author's name of it.
std::string PolicyNode::rule_text(uint32_t number) const {
    const calc::RuleName* found = agent_->calculator.rules().find(number);
    if (found == nullptr) {
        return number == 0 ? "" : fmt::format("rule {}, which nobody has", number);
    }
    calc::RuleName name = *found;
    name.name.clear();
    return name.text();
}

std::optional<std::string> PolicyNode::ask(const Trial& trial, const Expected& expected) {
    const oracle::Query& query = trial.query;
    const uint32_t from = device_of(query.from);
    const bool at_stack = trial.way == Way::AskAtStack;
    const auto answer =
        must(programs_->ask(expected.hook,
                            {.from = query.from,
                             .to = query.to,
                             .protocol = static_cast<uint8_t>(query.protocol),
                             .source_port = static_cast<uint16_t>(query.source_port),
                             .port = static_cast<uint16_t>(query.port)},
                            at_stack    ? device_of(query.to)
                            : from != 0 ? from
                                        : kUplink,
                            at_stack ? (from != 0 ? from : kUplink) : 0));
    if (!answer) {
        return "not answered";
    }
    const auto say = [](const std::string& verdict, const std::string& egress,
                        const std::string& ingress, bool log) {
        return fmt::format("{} by ({}), ({}){}", verdict, egress, ingress, log ? ", logged" : "");
    };
    const std::string got = say(word(answer->reason), rule_text(answer->egress_rule),
                                rule_text(answer->ingress_rule), answer->log);
    const std::string want =
        say(word(expected.reason), expected.egress, expected.ingress, expected.log);
    return got == want ? std::nullopt
                       : std::optional(fmt::format("programs: {}; oracle: {}", got, want));
}

std::optional<std::string> PolicyNode::send(const Trial& trial, const Expected& expected) {
    const oracle::Query& query = trial.query;
    const uint32_t from = device_of(query.from);
    const uint32_t to = device_of(query.to);
    harness::Context context;
    switch (trial.way) {
    case Way::FromHost:
        context.ifindex = to;
        break;
    case Way::AtStack:
        context.ifindex = to;
        context.ingress_ifindex = from != 0 ? from : kUplink;
        break;
    case Way::Deferred:
        context.ifindex = to != 0 ? to : kUplink;
        context.ingress_ifindex = from;
        context.mark = MANX_MARK_DEFERRED | (from - kFirstDevice) << MANX_MARK_SLOT_SHIFT;
        break;
    default:
        context.ifindex = from != 0 ? from : kUplink;
    }
    const int program = must(loader_->program_fd(loader::kHookPrograms.at(expected.hook)));
    const auto outcome = must(harness::run_program(program, packet_of(query).bytes(), context));
    const bool drop = maps::is_drop(expected.reason);
    ++expected_.packets;
    if (drop) {
        ++expected_.drops[maps::total_index(expected.hook, expected.reason)];
    }
    for (const auto& rule : {expected.egress, expected.ingress}) {
        if (!rule.empty()) {
            ++expected_.rules[rule];
        }
    }
    for (const auto& rule : expected.staged) {
        ++expected_.rules[rule];
    }
    if ((outcome.verdict == TC_ACT_SHOT) == drop) {
        return std::nullopt;
    }
    return fmt::format("programs: {}; oracle: {} by ({}), ({})", drop ? "pass" : "drop",
                       word(expected.reason), expected.egress, expected.ingress);
}

std::optional<std::string> PolicyNode::try_one(const Trial& trial, const Expected& expected) {
    const auto wrong = trial.asks() ? ask(trial, expected) : send(trial, expected);
    return wrong ? std::optional(trial.text() + "\n" + *wrong) : std::nullopt;
}

PolicyNode::Counters PolicyNode::read_counters() const {
    Counters out;
    must(must(loader_->per_cpu_map(maps::kRuleHits))
             .for_each([&](uint32_t number, const manx_rule_hits& hits) {
                 if (number != 0 && hits.flows != 0) {
                     out.rules[rule_text(number)] += hits.flows;
                 }
             }));
    must(must(loader_->per_cpu_map(maps::kTotals))
             .for_each([&](uint32_t index, const manx_counter& total) {
                 out.packets += total.packets;
                 if (total.packets != 0 &&
                     maps::is_drop(static_cast<manx_reason>(index % MANX_REASON_MAX))) {
                     out.drops[index] = total.packets;
                 }
             }));
    return out;
}

void PolicyNode::start_counting() {
    before_ = read_counters();
    expected_ = {};
}

std::optional<std::string> PolicyNode::wrong_count() {
    const Counters now = read_counters();
    const auto differ = [](const auto& before, const auto& after, const auto& expected,
                           const auto& name) -> std::optional<std::string> {
        auto want = before;
        for (const auto& [key, count] : expected) {
            want[key] += count;
        }
        for (const auto& [key, count] : want) {
            const auto found = after.find(key);
            const uint64_t got = found == after.end() ? 0 : found->second;
            if (got != count) {
                return fmt::format(
                    "{}: counted {} more, not {}", name(key),
                    static_cast<int64_t>(got - (before.contains(key) ? before.at(key) : 0)),
                    expected.contains(key) ? expected.at(key) : 0);
            }
        }
        for (const auto& [key, count] : after) {
            if (!want.contains(key)) {
                return fmt::format("{}: counted {} more, not 0", name(key), count);
            }
        }
        return std::nullopt;
    };
    if (auto wrong = differ(before_.rules, now.rules, expected_.rules,
                            [](const std::string& rule) { return rule; })) {
        return wrong;
    }
    if (auto wrong = differ(before_.drops, now.drops, expected_.drops, [](uint32_t index) {
            return fmt::format(
                "hook {} {}", index / MANX_REASON_MAX,
                maps::reason_name(static_cast<manx_reason>(index % MANX_REASON_MAX)));
        })) {
        return wrong;
    }
    if (now.packets - before_.packets != expected_.packets) {
        return fmt::format("{} packets counted, {} sent", now.packets - before_.packets,
                           expected_.packets);
    }
    return std::nullopt;
}

void PolicyNode::forget_flows() {
    const auto clear = [&](const auto& table) {
        auto map = must(loader_->map(table));
        std::vector<typename std::decay_t<decltype(table)>::Key> keys;
        must(map.for_each([&](const auto& key, const manx_flow&) { keys.push_back(key); }));
        for (const auto& key : keys) {
            must(map.remove(key));
        }
    };
    clear(maps::kFlow4);
    clear(maps::kFlow6);
    clear(maps::kFlow4New);
    clear(maps::kFlow6New);
}

} // namespace manx::testing_policy
