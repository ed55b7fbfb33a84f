// SPDX-License-Identifier: Apache-2.0
// Reading whole tables: every entry once, whatever kind of map, more entries than one batch.
#include "loader/loader.h"
#include "maps/program_barrier.h"
#include "maps/tables.h"
#include "tests/harness/sandbox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <unistd.h>
#include <vector>

namespace manx::maps {
namespace {

class WholeTables : public testing::Test {
protected:
    void SetUp() override {
        if (auto entered = harness::enter_sandbox(); !entered) {
            GTEST_SKIP() << entered.error().text();
        }
        auto opened = loader::Loader::open(loader::kDefaultBpffs);
        if (!opened) {
            GTEST_SKIP() << opened.error().text();
        }
        loader_.emplace(std::move(*opened));
    }

    template <typename K, typename V>
    static std::map<uint32_t, uint32_t> read(const Map<K, V>& map) {
        std::map<uint32_t, uint32_t> out;
        auto walked = map.for_each([&](const K& key, const V& value) {
            uint32_t number = 0;
            __builtin_memcpy(&number, &key.addr, sizeof(number));
            EXPECT_TRUE(out.emplace(number, value.class_id).second) << "seen twice: " << number;
        });
        EXPECT_TRUE(walked) << walked.error().text();
        return out;
    }

    std::optional<loader::Loader> loader_;
};

TEST_F(WholeTables, HashOfManyEntries) {
    auto classes = loader_->map(kClass4);
    ASSERT_TRUE(classes);
    EXPECT_TRUE(read(*classes).empty());
    constexpr uint32_t kEntries = 10'000;
    for (uint32_t i = 0; i < kEntries; i++) {
        ASSERT_TRUE(classes->update({i}, {.class_id = i + 7, .flags = 0}));
    }
    auto found = read(*classes);
    ASSERT_EQ(found.size(), kEntries);
    for (uint32_t i = 0; i < kEntries; i++) {
        ASSERT_EQ(found.at(i), i + 7);
    }
}

TEST_F(WholeTables, ProgramsCanBeWaitedFor) {
    ProgramBarrier barrier;
    for (int i = 0; i < 3; i++) {
        const auto waited = barrier.wait();
        EXPECT_TRUE(waited) << waited.error().text();
    }
}

TEST_F(WholeTables, LongestPrefixTable) {
    auto nets = loader_->map(kNet4);
    ASSERT_TRUE(nets);
    EXPECT_TRUE(read(*nets).empty());
    constexpr uint32_t kEntries = 5000;
    for (uint32_t i = 0; i < kEntries; i++) {
        const uint32_t address = __builtin_bswap32(0x0a000000U + (i << 4));
        ASSERT_TRUE(nets->update({28, address}, {.class_id = i + 1, .flags = 0}));
    }
    EXPECT_EQ(read(*nets).size(), kEntries);
}

TEST_F(WholeTables, ArrayAndEarlyEnd) {
    auto slots = loader_->map(kSlot);
    ASSERT_TRUE(slots);
    manx_slot_entry fifth{};
    fifth.ifindex = 17;
    ASSERT_TRUE(slots->update(5, fifth));
    uint32_t seen = 0;
    uint32_t ifindex = 0;
    ASSERT_TRUE(slots->for_each([&](const uint32_t& slot, const manx_slot_entry& entry) {
        seen++;
        ifindex = entry.ifindex;
        return slot != 5;
    }));
    EXPECT_EQ(seen, 6U);
    EXPECT_EQ(ifindex, 17U);
}

// Alone and in runs, from the first entry to the last; the same sums as one by one.
TEST_F(WholeTables, CountersByNumber) {
    const auto hits = loader_->per_cpu_map(kRuleHits);
    ASSERT_TRUE(hits);
    auto raw = RawMap::from_fd(UniqueFd(dup(hits->fd())), "hits", sizeof(uint32_t),
                               sizeof(manx_rule_hits));
    ASSERT_TRUE(raw);
    const uint32_t last = hits->max_entries() - 1;
    std::vector<uint32_t> numbers{0, 1, 3, 6, 10, 13, 17, last - 1, last};
    for (uint32_t i = 100; i < 2600; i += 2) { // more than are read at once
        numbers.push_back(i);
    }
    std::ranges::sort(numbers);
    std::vector<manx_rule_hits> values(*possible_cpus());
    for (const uint32_t number : numbers) {
        for (size_t cpu = 0; cpu < values.size(); ++cpu) {
            values[cpu].flows = number * 3 + cpu;
        }
        ASSERT_TRUE(raw->update(&number, values.data(), Update::Any));
    }
    const auto read = hits->lookup_many(numbers);
    ASSERT_TRUE(read) << read.error().text();
    ASSERT_EQ(read->size(), numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
        const auto one = hits->lookup(numbers[i]);
        ASSERT_TRUE(one && *one);
        ASSERT_EQ((*read)[i].flows, (*one)->flows) << numbers[i];
    }
    EXPECT_TRUE(hits->lookup_many({})->empty());
    const std::vector<uint32_t> beyond{last, last + 1};
    EXPECT_FALSE(hits->lookup_many(beyond));
}

} // namespace
} // namespace manx::maps
