// SPDX-License-Identifier: Apache-2.0
// Storms of PolicyTables: updates, full tables, writes that fail, restarts in changed clusters, in
// tables with room for little. Before each single write every workload judges every address by the
// old or the new policy, no room is written that a program may be reading, and at rest the books
// agree with a recount. MANX_STORMS: how many storms, for a long run by hand; MANX_STORM: which
// first.
#include "tests/policy/raw_tables.h"
#include "tests/policy/table_storm.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>

namespace manx::testing_policy {
namespace {

using Time = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

constexpr auto kGrace = dataplane::PolicyTables::kGrace;
constexpr uint32_t kShut = UINT32_MAX;
constexpr uint32_t kBroken = UINT32_MAX - 1;

size_t number_of(const char* name, size_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Whose policy it is, which direction, about whom; slots stand for workloads whose address the host
// stack rewrote.
struct Question {
    int workload = 0;
    uint32_t ifindex = 0;
    enum class Side : uint8_t { Egress, Ingress, SlotEgress, IngressFromSlot } side{};
    size_t other = 0; // index in storm_addresses(), or a workload's number

    auto operator<=>(const Question&) const = default;
};

using Answers = std::map<Question, uint32_t>;
using Allowed = std::map<Question, std::set<uint32_t>>;

// Memory with the eyes of a program that is late: what it may have found not long ago.
class WatchedTables final : public dataplane::TableWriter {
public:
    explicit WatchedTables(dataplane::MemoryTables::Limits limits) : memory(limits) {}

    Result<void> write_ports(uint32_t offset, std::span<const manx_port> entries) override {
        look();
        for (const auto& [range, seen] : read_) {
            if (seen > now - kGrace && offset < range.first + range.second &&
                range.first < offset + entries.size()) {
                wrong =
                    fmt::format("ports {} to {} are written, {} to {} were named {} ms ago", offset,
                                offset + entries.size(), range.first, range.first + range.second,
                                std::chrono::duration_cast<milliseconds>(now - seen).count());
            }
        }
        return memory.write_ports(offset, entries);
    }

    Result<void> remove_policy(const manx_policy_key& key) override {
        look();
        if (const auto seen = defaults_.find(key.set); key.class_id == MANX_CLASS_ANY &&
                                                       seen != defaults_.end() &&
                                                       seen->second > now - kGrace) {
            wrong =
                fmt::format("set {} goes, it was named {} ms ago", key.set,
                            std::chrono::duration_cast<milliseconds>(now - seen->second).count());
        }
        return memory.remove_policy(key);
    }

    Result<void> put_policies(std::span<const dataplane::PolicyEntry> entries) override {
        look();
        return memory.put_policies(entries);
    }

    Result<void> put_classes(std::span<const dataplane::ClassEntry> entries) override {
        look();
        return memory.put_classes(entries);
    }

    Result<void> put_endpoint(const IpAddress& address, const manx_endpoint& value) override {
        look();
        return memory.put_endpoint(address, value);
    }

    Result<void> put_slot(uint16_t slot, const manx_slot_entry& value) override {
        look();
        return memory.put_slot(slot, value);
    }

    Result<void> remove_class(const Cidr& prefix) override {
        look();
        return memory.remove_class(prefix);
    }

    Result<void> remove_endpoint(const IpAddress& address) override {
        look();
        return memory.remove_endpoint(address);
    }

    Result<std::vector<manx_port>> read_ports(uint32_t offset, uint32_t count) override {
        return memory.read_ports(offset, count);
    }

    Result<void>
    each_policy(const std::function<void(const dataplane::PolicyEntry&)>& fn) override {
        return memory.each_policy(fn);
    }

    Result<void> each_class(const std::function<void(const dataplane::ClassEntry&)>& fn) override {
        return memory.each_class(fn);
    }

    Result<void>
    each_endpoint(const std::function<void(const IpAddress&, const manx_endpoint&)>& fn) override {
        return memory.each_endpoint(fn);
    }

    Result<void>
    each_slot(const std::function<void(uint16_t, const manx_slot_entry&)>& fn) override {
        return memory.each_slot(fn);
    }

    Result<void> wait_for_programs() override {
        if (!can_wait) {
            return fail(ErrorKind::Unavailable, "no programs");
        }
        read_.clear();
        defaults_.clear();
        return {};
    }

    [[nodiscard]] uint32_t ports_capacity() const override { return memory.ports_capacity(); }

    [[nodiscard]] uint32_t policies_capacity() const override { return memory.policies_capacity(); }

    [[nodiscard]] uint32_t capacity(dataplane::AddressTable table) const override {
        return memory.capacity(table);
    }

    dataplane::MemoryTables memory;
    Time now;
    bool can_wait = false;
    std::optional<std::string> wrong;

private:
    // Notes what a program can find at this moment.
    void look() {
        std::set<uint32_t> sets;
        std::set<uint32_t> classes{0, MANX_CLASS_ANY};
        (void)memory.each_endpoint([&](const IpAddress&, const manx_endpoint& value) {
            sets.insert({value.egress_set, value.ingress_set, value.staged_ingress});
            classes.insert(value.class_id);
        });
        (void)memory.each_slot([&](uint16_t, const manx_slot_entry& value) {
            sets.insert(std::begin(value.egress_set), std::end(value.egress_set));
            classes.insert(std::begin(value.class_id), std::end(value.class_id));
        });
        (void)memory.each_class(
            [&](const dataplane::ClassEntry& entry) { classes.insert(entry.second.class_id); });
        (void)memory.each_policy([&](const dataplane::PolicyEntry& entry) {
            const auto& [key, value] = entry;
            if (!sets.contains(key.set) || !classes.contains(key.class_id)) {
                return;
            }
            uint32_t size = value.count;
            const auto entries = *memory.read_ports(value.offset, value.count);
            for (const auto& one : entries) {
                if (one.action == MANX_ACTION_BY_SOURCE_PORT) {
                    size = std::max(size, one.next + one.next_count - value.offset);
                }
            }
            read_[{value.offset, size}] = now;
            if (key.class_id == MANX_CLASS_ANY) {
                defaults_[key.set] = now;
            }
        });
        std::erase_if(read_, [this](const auto& one) { return one.second <= now - kGrace; });
    }

    std::map<std::pair<uint32_t, uint32_t>, Time> read_; // offset and size
    std::map<uint32_t, Time> defaults_;                  // of sets
};

class Storm {
public:
    Storm(uint64_t seed, bool collisions)
        : random_(seed), collisions_(collisions), watched_(limits(random_)),
          model_(std::make_unique<StormModel>(random_, collisions)), addresses_(storm_addresses()) {
        watched_.can_wait = one_in(random_, 2);
        restart();
        watched_.memory.on_write = [this](std::string_view what) { return before_write(what); };
    }

    // What went wrong.
    std::optional<std::string> run(int steps) {
        if (!tables_->resync({})) {
            return "an empty snapshot does not fit";
        }
        for (int i = 0; i < steps && !wrong_; ++i) {
            switch (random_() % 12) {
            case 0:
                start_anew();
                break;
            case 1:
                fail_in_ = 1 + random_() % 12; // one write fails
                update();
                fail_in_ = 0;
                break;
            case 2:
                pass(milliseconds(random_() % 1500));
                collect();
                break;
            default:
                update();
            }
            pass(milliseconds(random_() % (one_in(random_, 3) ? 700 : 60)));
            if (tables_->behind() && !one_in(random_, 3)) {
                resync();
            }
        }
        return wrong_ ? wrong_ : recover();
    }

    size_t full = 0;   // updates for which there was no room
    size_t rounds = 0; // resyncs that did not come to their end
    size_t unfit = 0;  // of those, for snapshots that have no room anyhow
    size_t shut = 0;
    size_t moments = 0;

private:
    static dataplane::MemoryTables::Limits limits(Random& random) {
        return {.ports = 40 + static_cast<uint32_t>(random() % 100),
                .policies = 20 + static_cast<uint32_t>(random() % 80),
                .addresses = one_in(random, 3) ? 8U : 100U};
    }

    void restart() {
        tables_ =
            std::make_unique<dataplane::PolicyTables>(watched_, [this] { return watched_.now; });
    }

    void pass(milliseconds time) { watched_.now += time; }

    void complain(std::string text) {
        if (!wrong_) {
            wrong_ = std::move(text);
        }
    }

    // As the tables answer. absent: for slots that are empty too, of the address that is to come.
    [[nodiscard]] Answers ask(bool absent = false) const {
        const auto& memory = watched_.memory;
        Answers out;
        const auto judge = [&](uint32_t set, uint32_t class_id) {
            const auto verdict = memory.judge(set, class_id, 6, 1, 80);
            return set == MANX_SET_DENY ? kShut : verdict.broken ? kBroken : verdict.rule;
        };
        std::map<uint16_t, manx_slot_entry> slots;
        (void)const_cast<dataplane::MemoryTables&>(memory).each_slot(
            [&](uint16_t number, const manx_slot_entry& value) { slots.emplace(number, value); });
        std::vector<uint32_t> classes;
        classes.reserve(addresses_.size());
        for (const auto& address : addresses_) {
            classes.push_back(memory.classify(address).class_id);
        }
        for (int workload = 0; workload < kWorkloads; ++workload) {
            const IpAddress own = address_of_workload(workload);
            const size_t family = own.is_v4() ? 0 : 1;
            const auto* one = memory.endpoint(own);
            const auto slot = slots.find(static_cast<uint16_t>(workload));
            for (size_t other = 0; other < addresses_.size(); ++other) {
                const uint32_t theirs = classes[other];
                if (one != nullptr) {
                    out[{workload, one->ifindex, Question::Side::Egress, other}] =
                        judge(one->egress_set, theirs);
                    out[{workload, one->ifindex, Question::Side::Ingress, other}] =
                        judge(one->ingress_set, theirs);
                }
                if (slot != slots.end()) {
                    out[{workload, slot->second.ifindex, Question::Side::SlotEgress, other}] =
                        judge(slot->second.egress_set[family], theirs);
                }
            }
            for (int peer = workload % 2; peer < kWorkloads && one != nullptr; peer += 2) {
                const auto found = slots.find(static_cast<uint16_t>(peer));
                if (found != slots.end() || absent) {
                    out[{workload, one->ifindex, Question::Side::IngressFromSlot,
                         static_cast<size_t>(peer)}] =
                        judge(one->ingress_set,
                              found != slots.end()
                                  ? found->second.class_id[family]
                                  : classes[static_cast<size_t>(peer)]); // they come first
                }
            }
        }
        return out;
    }

    // What the sets of one state say of the classes of another.
    [[nodiscard]] Answers meant(const StormState& sets, const StormState& classes) const {
        using Side = Question::Side;
        Answers out;
        for (const auto& entry : sets.workloads) {
            const int workload = entry.first;
            const auto& own = entry.second;
            const auto say = [&](Side side, int set, size_t other, const IpAddress& address) {
                out[{workload, own.ifindex, side, other}] =
                    set == 0 ? 0 : storm_rule(set, classes.class_of(address));
            };
            for (size_t other = 0; other < addresses_.size(); ++other) {
                say(Side::Egress, own.sets[0], other, addresses_[other]);
                say(Side::SlotEgress, own.sets[0], other, addresses_[other]);
                say(Side::Ingress, own.sets[1], other, addresses_[other]);
            }
            for (int peer = workload % 2; peer < kWorkloads; peer += 2) {
                say(Side::IngressFromSlot, own.sets[1], static_cast<size_t>(peer),
                    address_of_workload(peer));
            }
        }
        return out;
    }

    // As the model answers.
    [[nodiscard]] Answers wanted() const {
        auto out = meant(model_->state(), model_->state());
        std::erase_if(out, [this](const auto& one) {
            return one.first.side == Question::Side::IngressFromSlot &&
                   !model_->state().workloads.contains(static_cast<int>(one.first.other));
        });
        return out;
    }

    void allow(const Answers& answers) {
        for (const auto& [question, answer] : answers) {
            allowed_[question].insert(answer);
        }
    }

    void allow_parts() {
        for (const auto& sets : states_) {
            for (const auto& classes : states_) {
                allow(meant(sets, classes));
            }
        }
    }

    // Whatever a set of any of those states says: of addresses that go on while sets stay.
    void allow_old_sets() {
        for (const auto& state : states_) {
            for (int one = 0; one < kClasses; ++one) {
                StormState alike = state;
                for (const auto& address : addresses_) {
                    alike.addresses[Cidr::host(address)] = one;
                }
                allow(meant(state, alike));
                // A number may stand for what is in force and for something else in the snapshot.
                for (int set = 0; collisions_ && set <= kSets; ++set) {
                    for (auto& [number, workload] : alike.workloads) {
                        workload.sets = {set, set};
                    }
                    allow(meant(alike, alike));
                }
            }
        }
    }

    // The snapshot has no room, even where nothing else is.
    [[nodiscard]] bool does_not_fit(const calc::TableUpdate& snapshot) const {
        std::set<const calc::PortTable*> seen;
        size_t ports = 0;
        size_t entries = 0;
        for (const auto& step : snapshot.steps) {
            if (const auto* one = std::get_if<calc::PolicyStep>(&step)) {
                ++entries;
                ports += seen.insert(one->table.get()).second ? one->table->entries.size() : 0;
            }
        }
        return ports > watched_.ports_capacity() || entries > watched_.policies_capacity();
    }

    void check(std::string_view when) {
        ++moments;
        for (const auto& [question, answer] : ask()) {
            const auto found = allowed_.find(question);
            if (answer == kShut &&
                (half_ || (shut_allowed_ && !(watched_.can_wait && when == "afterwards")))) {
                ++shut;
            } else if (found == allowed_.end() || !found->second.contains(answer)) {
                complain(fmt::format("{} before write {} ({}): workload {} side {} about {}: {}, "
                                     "not one of [{}]",
                                     doing_, writes_, when, question.workload,
                                     static_cast<int>(question.side), question.other, answer,
                                     found == allowed_.end()
                                         ? std::string()
                                         : fmt::format("{}", fmt::join(found->second, " "))));
            }
        }
        if (watched_.wrong) {
            complain(fmt::format("{} {}: {}", doing_, when, *watched_.wrong));
        }
    }

    Result<void> before_write(std::string_view what) {
        ++writes_;
        check(what);
        if (fail_in_ == 0) {
            return {};
        }
        --fail_in_;
        return fail_in_ > 0 ? Result<void>{} : fail(ErrorKind::System, "a write that fails");
    }

    void start(std::string doing) {
        doing_ = std::move(doing);
        allowed_.clear();
        allow(ask(true));
        writes_ = 0;
    }

    // At rest; done: the tables are those of the model.
    void finish(const Result<void>& done) {
        half_ = !done && (half_ || done.error().kind != ErrorKind::Exhausted);
        check("afterwards");
        if (done) {
            states_ = {model_->state()};
            const auto now = ask();
            const auto then = wanted();
            if (now != then) {
                for (const auto& [question, answer] : then) {
                    const auto found = now.find(question);
                    if (found == now.end() || found->second != answer) {
                        complain(fmt::format("{}: in the end workload {} side {} about {}: {}",
                                             doing_, question.workload,
                                             static_cast<int>(question.side), question.other,
                                             answer));
                    }
                }
                complain(doing_ + ": somebody is there who should not");
            }
        }
        if (done || done.error().kind == ErrorKind::Exhausted) {
            if (const auto found = miscounted(*tables_, watched_.memory)) {
                complain(fmt::format("{}: {}", doing_, *found));
            }
        }
    }

    void update() {
        calc::TableUpdate next;
        start("update");
        shut_allowed_ = tables_->behind();
        // Several objects in one update: in between it may look as if only some had changed.
        do {
            model_->step(model_->state().changed(random_), next);
            states_.push_back(model_->state());
        } while (one_in(random_, 3));
        allow_parts();
        if (tables_->behind()) {
            return; // the agent's next resync has it
        }
        const auto done = tables_->apply(next);
        if (!done && done.error().kind == ErrorKind::Exhausted) {
            ++full;
        }
        finish(done);
    }

    bool resync() {
        start("resync");
        if (half_) {
            allow_parts();
        }
        allow(wanted());
        shut_allowed_ = true;
        const auto snapshot = model_->snapshot();
        if (does_not_fit(snapshot)) {
            ++unfit;
            allow_old_sets();
        }
        const auto done = tables_->resync(snapshot);
        trouble_ = done ? std::string() : done.error().text();
        rounds += done ? 0 : 1;
        finish(done);
        return done.has_value();
    }

    void collect() {
        start("collect");
        shut_allowed_ = tables_->behind();
        if (tables_->behind()) {
            return;
        }
        const auto done = tables_->collect();
        check("afterwards");
        if (const auto found = miscounted(*tables_, watched_.memory); found && done) {
            complain(fmt::format("{}: {}", doing_, *found));
        }
    }

    // Another agent, perhaps in another cluster.
    void start_anew() {
        pass(milliseconds(1000));
        restart();
        auto state = model_->state();
        model_ = std::make_unique<StormModel>(random_, collisions_);
        if (one_in(random_, 2)) {
            state = one_in(random_, 2) ? StormState::random(random_) : state.changed(random_);
        }
        calc::TableUpdate unused;
        if (one_in(random_, 2)) {
            model_->step(StormState::random(random_), unused); // takes numbers
        }
        model_->step(state, unused);
        states_.push_back(model_->state());
        resync();
    }

    // A cluster that needs little comes into force, whatever was before.
    std::optional<std::string> recover() {
        StormState small;
        small.addresses[Cidr::host(address_of_workload(0))] = 1;
        small.workloads[0] = {.ifindex = 10, .sets = {1, 2}, .staged = 0};
        calc::TableUpdate unused;
        model_->step(small, unused);
        bool done = false;
        for (int i = 0; i < 6 && !done; ++i) {
            pass(kGrace);
            if (!tables_->behind()) {
                tables_ = nullptr;
                restart();
            }
            done = resync();
        }
        if (!done && !wrong_) {
            return "it does not recover: " + trouble_;
        }
        for (int i = 0; i < 3; ++i) {
            pass(kGrace);
            collect();
        }
        if (tables_->waiting()) {
            complain("something waits for ever");
        }
        return wrong_;
    }

    Random random_;
    bool collisions_;
    WatchedTables watched_;
    std::unique_ptr<StormModel> model_;
    std::vector<IpAddress> addresses_;
    std::unique_ptr<dataplane::PolicyTables> tables_;
    std::string doing_;
    std::string trouble_; // of the last resync
    Allowed allowed_;
    bool shut_allowed_ = false;
    size_t writes_ = 0;
    uint64_t fail_in_ = 0;
    std::vector<StormState> states_{{}}; // since the tables were those of the model
    bool half_ = false;                  // a write failed since then
    std::optional<std::string> wrong_;
};

TEST(PolicyStorm, EveryMomentIsOldOrNewAndTheBooksAgree) {
    const size_t first = number_of("MANX_STORM", 1);
    const size_t storms = number_of("MANX_STORMS", 24);
    size_t full = 0;
    size_t rounds = 0;
    size_t unfit = 0;
    size_t shut = 0;
    size_t shut_by_collisions = 0;
    size_t moments = 0;
    for (size_t seed = first; seed < first + storms; ++seed) {
        Storm storm(seed, seed % 2 == 0);
        const auto wrong = storm.run(60);
        ASSERT_EQ(wrong, std::nullopt) << "storm " << seed;
        full += storm.full;
        rounds += storm.rounds;
        unfit += storm.unfit;
        (seed % 2 == 0 ? shut_by_collisions : shut) += storm.shut;
        moments += storm.moments;
    }
    if (storms >= 10) {
        EXPECT_GT(full, storms);
        EXPECT_GT(rounds, storms);
        EXPECT_GT(unfit, storms);
    }
    RecordProperty("moments", std::to_string(moments));
    fmt::print("{} storms: {} moments, {} full, {} rounds, {} do not fit, {} and {} shut\n", storms,
               moments, full, rounds, unfit, shut, shut_by_collisions);
}

} // namespace
} // namespace manx::testing_policy
