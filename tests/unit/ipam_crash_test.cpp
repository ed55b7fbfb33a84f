// SPDX-License-Identifier: Apache-2.0
// Processes that die: at every call of the datastore, before it or after it, and at random in a
// cluster that does everything at once. Whatever happens, no address is held twice and no handle
// counts too little; and when the pods are gone, everything comes back.
#include "tests/unit/ipam_world.h"

#include <cstdlib>
#include <functional>
#include <random>

namespace manx::ipam::test {
namespace {

// Dies before or after the n-th call, counted from 0; or only counts.
struct Executioner {
    uint64_t calls = 0;
    std::optional<uint64_t> dies_at;
    bool after_the_call = false;

    void arm(MemoryStore& store) {
        store.before = [this](Call, const datastore::Key&) -> std::optional<Error> {
            if (dies_at == calls && !after_the_call) {
                throw Died{};
            }
            return std::nullopt;
        };
        store.after = [this](Call, const datastore::Key&) -> std::optional<Error> {
            if (dies_at == calls++ && after_the_call) {
                throw Died{};
            }
            return std::nullopt;
        };
    }
};

struct Scenario {
    const char* name;
    std::function<void(World&)> prepare;
    // The process under test acts; what it was told is remembered in world.held.
    std::function<void(World&, Process&)> act;
};

void assign(World& world, Process& process, const Request& request) {
    if (auto done = process.allocator.auto_assign(request)) {
        world.remember(request.handle, *done);
    }
}

void release(World& world, Process& process, const std::string& handle) {
    world.held.erase(handle); // from here on nobody counts on it
    (void)process.allocator.release_by_handle(handle);
}

std::vector<Scenario> scenarios() {
    auto small = [](World& world) {
        world.add_node("node1");
        world.add_node("node2");
        world.add_pool("four", "10.0.0.0/28", 30);
        world.add_pool("six", "fd00::/124", 126);
    };
    auto full = [small](World& world) {
        small(world);
        auto other = world.process("node2");
        for (int i = 0; i < 3; i++) {
            assign(world, *other, world.request(fmt::format("o{}", i), "node2", 4));
        }
    };
    return {
        {"first_pod", small,
         [](World& world, Process& p) { assign(world, p, world.request("a", "node1", 1, 1)); }},
        {"burst_over_two_blocks", small,
         [](World& world, Process& p) {
             std::vector<Request> burst;
             for (int i = 0; i < 6; i++) {
                 burst.push_back(world.request(fmt::format("b{}", i), "node1", 1, 1));
             }
             auto results = p.allocator.auto_assign_many(burst);
             for (size_t i = 0; i < burst.size(); i++) {
                 if (results[i]) {
                     world.remember(burst[i].handle, *results[i]);
                 }
             }
         }},
        {"release", small,
         [](World& world, Process& p) {
             assign(world, p, world.request("a", "node1", 2, 1));
             assign(world, p, world.request("b", "node1", 1, 1));
             release(world, p, world.request("a", "node1").handle);
         }},
        {"assign_ip", small,
         [](World& world, Process& p) {
             auto request = world.request("a", "node1");
             if (p.allocator.assign_ip(
                     {ip("10.0.0.6"), request.handle, request.attrs, api::PoolUse::Workload})) {
                 world.held[request.handle].insert(ip("10.0.0.6"));
             }
         }},
        {"borrow", full,
         [](World& world, Process& p) {
             for (int i = 0; i < 5; i++) {
                 assign(world, p, world.request(fmt::format("a{}", i), "node1"));
             }
             release(world, p, world.request("a4", "node1").handle);
         }},
        {"steal",
         [full](World& world) {
             full(world);
             auto other = world.process("node2");
             for (int i = 0; i < 3; i++) {
                 release(world, *other, world.request(fmt::format("o{}", i), "node2").handle);
             }
             assign(world, *other, world.request("o9", "node2", 4));
             auto filler = world.process("node2");
             assign(world, *filler, world.request("o10", "node2", 4));
             ASSERT_TRUE(filler->allocator.claim_block(cidr("10.0.0.0/30")) ||
                         filler->allocator.claim_block(cidr("10.0.0.12/30")));
             world.now += 2min;
         },
         [](World& world, Process& p) {
             for (int i = 0; i < 3; i++) {
                 assign(world, p, world.request(fmt::format("a{}", i), "node1", 4));
             }
         }},
        {"half_fails", small,
         [](World& world, Process& p) {
             assign(world, p, world.request("a", "node1", 2, 17)); // more than there are
         }},
        {"give_the_block_back", small,
         [](World& world, Process& p) {
             assign(world, p, world.request("a", "node1"));
             release(world, p, world.request("a", "node1").handle);
             (void)p.allocator.release_block(p.allocator.own_blocks().front(), true);
         }},
    };
}

class IpamCrash : public testing::TestWithParam<Scenario> {};

TEST_P(IpamCrash, AtEveryCallNothingIsLostOrDouble) {
    const Scenario& scenario = GetParam();
    uint64_t total = 0;
    {
        World world;
        scenario.prepare(world);
        auto process = world.process("node1");
        Executioner counter;
        counter.arm(process->store);
        scenario.act(world, *process);
        total = counter.calls;
        world.check();
    }
    ASSERT_GT(total, 3U);
    for (uint64_t at = 0; at < total; at++) {
        for (bool after : {false, true}) {
            SCOPED_TRACE(
                fmt::format("dies {} call {} of {}", after ? "after" : "before", at, total));
            World world;
            scenario.prepare(world);
            auto process = world.process("node1");
            Executioner executioner;
            executioner.dies_at = at;
            executioner.after_the_call = after;
            executioner.arm(process->store);
            EXPECT_THROW(scenario.act(world, *process), Died);
            process.reset();
            world.check();

            // Both nodes go on, as if nothing had been.
            auto again = world.process("node1");
            auto other = world.process("node2");
            assign(world, *again, world.request("later1", "node1"));
            assign(world, *other, world.request("later2", "node2"));
            world.check();
            // The runtimes delete every pod that they know of.
            std::set<std::string> handles;
            for (const auto& [handle, addresses] : world.held) {
                handles.insert(handle);
            }
            for (const auto& handle : handles) {
                release(world, *again, handle);
                world.check();
            }
            if (testing::Test::HasFailure()) {
                return;
            }
            world.collect();
            world.check();
            world.check_all_came_back();
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Scenarios, IpamCrash, testing::ValuesIn(scenarios()),
                         [](const auto& scenario) { return std::string(scenario.param.name); });

// A write whose answer is lost: it happened or not, and the caller is told that it failed.
TEST(IpamFaults, LostAnswersLeaveNothingBehind) {
    for (uint64_t at = 0; at < 12; at++) {
        for (bool happens : {false, true}) {
            World world;
            world.add_node("node1");
            world.add_pool("four", "10.0.0.0/28", 30);
            auto process = world.process("node1");
            uint64_t writes = 0;
            auto cut = [&](Call call, const datastore::Key&) -> std::optional<Error> {
                if (is_write(call) && writes++ == at) {
                    return Error{ErrorKind::Unavailable, 0, "no answer"};
                }
                return std::nullopt;
            };
            (happens ? process->store.after : process->store.before) = cut;
            auto request = world.request("a", "node1", 6); // over two blocks
            auto first = process->allocator.auto_assign(request);
            if (first) {
                world.remember(request.handle, *first);
            }
            process->store.before = process->store.after = nullptr;
            world.check();
            if (!first) {
                EXPECT_TRUE(process->allocator.addresses_of(request.handle)->empty())
                    << "write " << at << (happens ? " happened" : " did not happen");
                assign(world, *process, request);
                EXPECT_EQ(world.held[request.handle].size(), 6U);
            }
            world.check();
            release(world, *process, request.handle);
            world.collect();
            world.check_all_came_back();
        }
    }
}

// Another process writes the same block between every read and write of ours, for a while.
TEST(IpamFaults, ConflictsAreRetried) {
    World world;
    world.add_node("node1");
    world.add_node("node2");
    world.add_pool("four", "10.0.0.0/24", 24);
    auto owner = world.process("node1");
    auto other = world.process("node2"); // can only borrow
    assign(world, *owner, world.request("first", "node1"));
    int rival = 0;
    bool busy = false;
    owner->store.before = [&](Call call, const datastore::Key& key) -> std::optional<Error> {
        if (call == Call::Update && key.kind == api::Kind::IpamBlock && !busy && rival < 40) {
            busy = true;
            assign(world, *other, world.request(fmt::format("rival{}", rival++), "node2"));
            busy = false;
        }
        return std::nullopt;
    };
    std::vector<Request> burst;
    for (int i = 0; i < 10; i++) {
        burst.push_back(world.request(fmt::format("p{}", i), "node1"));
    }
    auto results = owner->allocator.auto_assign_many(burst);
    for (size_t i = 0; i < burst.size(); i++) {
        ASSERT_TRUE(results[i]) << results[i].error().text();
        world.remember(burst[i].handle, *results[i]);
    }
    EXPECT_EQ(rival, 40);
    world.check();
    EXPECT_TRUE(survey(*take_snapshot(world.store)).handles.empty()); // exact, after all
}

// Several nodes, pods that come and go, processes that die, nodes that are lost and return, a
// clock that jumps, a collector that dies too.
class Storm {
public:
    explicit Storm(unsigned seed) : random_(seed), sizes_change_(pick(3) == 0) {
        world.may_be_damaged = pick(3) == 0;
        bool strict = pick(2) == 0;
        world.configure({{"strictAffinity", strict}, {"ipCooldownSeconds", pick(3) == 0 ? 30 : 0}});
        world.add_pool("four", kPool, 29); // 16 blocks of 8
        world.add_pool("six", "fd00::/121", 125);
        if (pick(2) == 0) {
            world.put(api::Kind::IpReservation, "", "r",
                      {{"spec", {{"reservedCIDRs", {"10.0.0.16/30", "10.0.0.64/29"}}}}});
        }
        for (int i = 0; i < 4; i++) {
            nodes_.push_back(fmt::format("node-{}", i));
            world.add_node(nodes_.back());
        }
        processes_.resize(nodes_.size());
    }

    void run(int steps) {
        for (int i = 0; i < steps && !testing::Test::HasFailure(); i++) {
            SCOPED_TRACE(fmt::format("step {}: {}", i, trace_));
            step();
            world.check();
        }
        end();
    }

    World world;

private:
    unsigned pick(unsigned below) { return static_cast<unsigned>(random_() % below); }

    Process& process(size_t node) {
        if (!processes_[node]) {
            processes_[node] = world.process(nodes_[node]);
        }
        return *processes_[node];
    }

    // Runs fn, which dies now and then; the process is gone then.
    void maybe_die(size_t node, const std::function<void(Process&)>& fn) {
        Process& p = process(node);
        Executioner executioner;
        if (pick(4) == 0) {
            executioner.dies_at = pick(12);
            executioner.after_the_call = pick(2) == 0;
        }
        executioner.arm(p.store);
        try {
            fn(p);
            p.store.before = p.store.after = nullptr;
        } catch (const Died&) {
            processes_[node].reset();
        }
    }

    bool alive(size_t node) {
        return world.memory->entries.contains({api::Kind::Node, "", nodes_[node]});
    }

    void start_pods() {
        size_t node = pick(static_cast<unsigned>(nodes_.size()));
        if (!alive(node)) {
            return;
        }
        trace_ = "start pods on " + nodes_[node];
        std::vector<Request> requests;
        for (unsigned i = 0; i <= pick(4); i++) {
            std::string name = fmt::format("pod-{}", next_pod_++);
            world.add_pod(name, nodes_[node]);
            requests.push_back(world.request(name, nodes_[node], pick(3), pick(2)));
            pods_[name] = node;
        }
        maybe_die(node, [&](Process& p) {
            auto results = p.allocator.auto_assign_many(requests);
            for (size_t i = 0; i < results.size(); i++) {
                if (results[i]) {
                    world.remember(requests[i].handle, *results[i]);
                }
            }
        });
        for (const auto& request : requests) {
            world.add_pod(request.attrs.at("pod"), nodes_[node], world.held[request.handle]);
        }
    }

    // A pod that asks for one address.
    void start_fixed() {
        size_t node = pick(static_cast<unsigned>(nodes_.size()));
        if (!alive(node)) {
            return;
        }
        std::string name = fmt::format("pod-{}", next_pod_++);
        IpAddress address = ip("10.0.0.0").plus(pick(128));
        trace_ = fmt::format("start {} with {} on {}", name, address.text(), nodes_[node]);
        world.add_pod(name, nodes_[node]);
        auto request = world.request(name, nodes_[node]);
        pods_[name] = node;
        maybe_die(node, [&](Process& p) {
            if (auto done = p.allocator.assign_ip(
                    {address, request.handle, request.attrs, api::PoolUse::Workload})) {
                world.remember(request.handle, {{*done}, {}});
            }
        });
        world.add_pod(name, nodes_[node], world.held[request.handle]);
    }

    // Other software writes what it should not: another block size, free lists that are wrong.
    void meddle() {
        if (sizes_change_ && pick(2) == 0) {
            unsigned size = 28 + pick(3);
            trace_ = fmt::format("blocks are /{} from now on", size);
            world.add_pool("four", kPool, size);
            for (auto& process : processes_) {
                if (process) {
                    process->allocator.invalidate();
                }
            }
            return;
        }
        std::vector<std::string> names;
        for (const auto& [key, entry] : world.memory->entries) {
            if (key.kind == api::Kind::IpamBlock) {
                names.push_back(key.name);
            }
        }
        if (!world.may_be_damaged || names.empty()) {
            return;
        }
        std::string name = names[pick(static_cast<unsigned>(names.size()))];
        trace_ = "damage " + name;
        world.edit(api::Kind::IpamBlock, name, [&](nlohmann::json& spec, nlohmann::json&) {
            auto& free = spec["unallocated"];
            auto size = static_cast<unsigned>(spec["allocations"].size());
            for (unsigned i = 0; i < 3; i++) { // taken, listed twice, or outside
                free.insert(free.begin(), pick(size + 2));
            }
            free.push_back(-1);
            // What the storm wants back must not be lost by it.
            for (unsigned i = 0; i < size; i++) {
                bool taken = !spec["allocations"][i].is_null();
                if (!taken &&
                    std::find(free.begin(), free.end(), nlohmann::json(i)) == free.end()) {
                    free.push_back(i);
                }
            }
        });
    }

    void stop_pod() {
        if (pods_.empty()) {
            return;
        }
        auto at = std::next(pods_.begin(), pick(static_cast<unsigned>(pods_.size())));
        auto [name, node] = *at;
        pods_.erase(at);
        trace_ = "stop " + name;
        std::string handle = world.request(name, "").handle;
        world.held.erase(handle);
        if (alive(node) && pick(5) != 0) { // else nobody says DEL
            maybe_die(node, [&](Process& p) { (void)p.allocator.release_by_handle(handle); });
        }
        world.remove(api::Kind::Pod, "default", name);
    }

    void lose_node() {
        size_t node = pick(static_cast<unsigned>(nodes_.size()));
        trace_ = "lose or return " + nodes_[node];
        if (!alive(node)) {
            world.add_node(nodes_[node]);
            return;
        }
        processes_[node].reset();
        world.remove(api::Kind::Node, "", nodes_[node]);
        for (auto at = pods_.begin(); at != pods_.end();) {
            if (at->second == node) {
                world.held.erase(world.request(at->first, "").handle);
                world.remove(api::Kind::Pod, "default", at->first);
                at = pods_.erase(at);
            } else {
                ++at;
            }
        }
    }

    void collect() {
        trace_ = "collect";
        MemoryStore store(world.memory);
        Executioner executioner;
        if (pick(3) == 0) {
            executioner.dies_at = pick(30);
            executioner.after_the_call = pick(2) == 0;
        }
        executioner.arm(store);
        CollectorOptions options;
        options.ipam.backoff = [](unsigned) {};
        try {
            auto done = collect_once(store, world.now, world.collector, options);
            EXPECT_TRUE(done);
        } catch (const Died&) {
            world.collector = {}; // what it had seen is lost with it
        }
    }

    void step() {
        unsigned what = pick(100);
        if (what < 38) {
            start_pods();
        } else if (what < 43) {
            start_fixed();
        } else if (what < 45) {
            meddle();
        } else if (what < 80) {
            stop_pod();
        } else if (what < 85) {
            lose_node();
        } else if (what < 95) {
            collect();
        } else if (what < 98) {
            trace_ = "the clock jumps";
            world.now += std::chrono::seconds(static_cast<int>(pick(7200)) - 3600);
        } else {
            size_t node = pick(static_cast<unsigned>(nodes_.size()));
            trace_ = "restart " + nodes_[node];
            processes_[node].reset();
        }
        world.now += std::chrono::seconds(pick(90));
    }

    void end() {
        while (!pods_.empty()) {
            stop_pod();
        }
        world.now += 24h;
        world.collect(4);
        world.check();
        world.check_all_came_back();
    }

    static constexpr const char* kPool = "10.0.0.0/25";

    std::minstd_rand random_;
    bool sizes_change_;
    std::vector<std::string> nodes_;
    std::vector<std::unique_ptr<Process>> processes_;
    std::map<std::string, size_t> pods_; // name -> node
    unsigned next_pod_ = 0;
    std::string trace_;
};

class IpamStorm : public testing::TestWithParam<unsigned> {};

TEST_P(IpamStorm, Survives) {
    // MANX_STORM_STEPS and MANX_STORM_SEED for longer runs.
    const char* steps = std::getenv("MANX_STORM_STEPS");
    const char* seed = std::getenv("MANX_STORM_SEED");
    unsigned base = seed == nullptr ? 0U : static_cast<unsigned>(std::atoi(seed));
    Storm storm(base * 1000 + GetParam());
    storm.run(steps == nullptr ? 150 : std::atoi(steps));
}

INSTANTIATE_TEST_SUITE_P(Seeds, IpamStorm, testing::Range(1U, 25U));

} // namespace
} // namespace manx::ipam::test
