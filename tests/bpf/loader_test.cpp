// SPDX-License-Identifier: Apache-2.0
// The loader on a real kernel: creation, adoption, replacement and removal of what is pinned.
#include "loader/loader.h"
#include "loader/probe.h"
#include "maps/reason.h"
#include "tests/harness/sandbox.h"

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <unistd.h>

namespace manx::loader {
namespace {

using harness::ifindex_of;
using harness::must_run;

const std::string kBpffs = "/sys/fs/bpf/manx";

LoadOptions small() {
    LoadOptions options;
    options.sizes.flows4 = 1024;
    options.sizes.flows6 = 1024;
    options.sizes.new_flows4 = 1024;
    options.sizes.new_flows6 = 1024;
    options.sizes.ports = 1024;
    options.sizes.rules = 64;
    options.sizes.events = 4096;
    return options;
}

class LoaderTest : public testing::Test {
protected:
    void SetUp() override {
        const Result<void> entered = harness::enter_sandbox();
        ASSERT_TRUE(entered) << entered.error().text();
        must_run("ip link add cali0 type veth peer name eth0");
        must_run("ip link set cali0 up");
        ifindex_ = ifindex_of("cali0");
    }

    static Loader open(const LoadOptions& options = small()) {
        Result<Loader> loader = Loader::open(kBpffs, options);
        if (!loader) {
            throw std::runtime_error(loader.error().text());
        }
        return std::move(*loader);
    }

    uint32_t ifindex_ = 0;
};

// Programs that hang on the tcx ingress hook of an interface.
uint32_t attached_programs(uint32_t ifindex) {
    constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
    std::array<uint32_t, 8> ids{};
    uint32_t count = ids.size();
    if (bpf_prog_query(static_cast<int>(ifindex), kTcxIngress, 0, nullptr, ids.data(), &count) <
        0) {
        return 0;
    }
    return count;
}

#define ASSERT_OK(expr)                                                                            \
    do {                                                                                           \
        const auto& result_ = (expr);                                                              \
        ASSERT_TRUE(result_) << result_.error().text();                                            \
    } while (false)

TEST_F(LoaderTest, PinsEveryMapAndProgram) {
    const Loader loader = open();
    for (const char* name : {"manx_ep4", "manx_flow6_new", "manx_due4_3", "manx_events"}) {
        EXPECT_TRUE(std::filesystem::exists(kBpffs + "/maps/" + name)) << name;
        EXPECT_TRUE(loader.map_fd(name)) << name;
    }
    for (const char* name : kHookPrograms) {
        EXPECT_TRUE(std::filesystem::exists(kBpffs + "/progs/" + name)) << name;
    }
    EXPECT_FALSE(loader.map_fd("manx_nothing"));
    // What a start costs; a program near the kernel's million would fail on another version.
    for (const ProgramInfo& program : loader.programs()) {
        RecordProperty(program.name, std::to_string(program.verified_instructions));
        EXPECT_GT(program.verified_instructions, 0U) << program.name;
        EXPECT_LT(program.verified_instructions, 100000U) << program.name;
    }
}

TEST_F(LoaderTest, AdoptsMapsWithTheirContent) {
    const manx_addr4 key{.addr = 0x0100000a};
    {
        const Loader loader = open();
        auto endpoints = loader.map(maps::kEp4);
        ASSERT_OK(endpoints);
        manx_endpoint endpoint{};
        endpoint.ifindex = 77;
        ASSERT_OK(endpoints->update(key, endpoint));
    }
    LoadOptions other = small();
    other.sizes.endpoints = 10; // an adopted map keeps its size
    const Loader loader = open(other);
    auto endpoints = loader.map(maps::kEp4);
    ASSERT_OK(endpoints);
    EXPECT_EQ(endpoints->max_entries(), 4096U);
    const auto found = endpoints->lookup(key);
    ASSERT_OK(found);
    ASSERT_TRUE(*found);
    EXPECT_EQ((*found)->ifindex, 77U);
}

TEST_F(LoaderTest, RefusesAMapOfAnotherLayout) {
    must_run("mkdir -p " + kBpffs + "/maps");
    must_run("bpftool map create " + kBpffs +
             "/maps/manx_ep4 type hash key 4 value 8 entries 10 name manx_ep4");
    const Result<Loader> loader = Loader::open(kBpffs, small());
    ASSERT_FALSE(loader);
    EXPECT_EQ(loader.error().kind, ErrorKind::ConfigReality);
    EXPECT_NE(loader.error().message.find("manx_ep4"), std::string::npos);
    EXPECT_NE(loader.error().message.find("value of 8"), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(kBpffs + "/maps/manx_ep6"));
}

TEST_F(LoaderTest, RefusesAFolderThatIsNotOnBpffs) {
    const std::string folder = "/tmp/manx_loader_" + std::to_string(getpid());
    const Result<Loader> loader = Loader::open(folder, small());
    std::filesystem::remove_all(folder);
    ASSERT_FALSE(loader);
    EXPECT_NE(loader.error().message.find("not on a bpf file system"), std::string::npos);
}

TEST_F(LoaderTest, RefusesASizeOfZero) {
    LoadOptions options = small();
    options.sizes.flows4 = 0;
    const Result<Loader> loader = Loader::open(kBpffs, options);
    ASSERT_FALSE(loader);
    EXPECT_NE(loader.error().message.find("manx_flow4"), std::string::npos);
}

TEST_F(LoaderTest, AttachesByTcxAndSurvivesTheProcess) {
    {
        Loader loader = open();
        if (!loader.uses_tcx()) {
            GTEST_SKIP() << "the kernel has no tcx";
        }
        ASSERT_OK(loader.attach_workload(ifindex_));
        ASSERT_OK(loader.attach_workload(ifindex_)); // idempotent
    }
    EXPECT_TRUE(
        std::filesystem::exists(kBpffs + "/links/" + std::to_string(ifindex_) + "_from_workload"));
    const std::string show = "bpftool -j link show pinned " + kBpffs + "/links/" +
                             std::to_string(ifindex_) + "_from_workload";
    const std::string before = must_run(show);
    {
        // The same build: nothing is loaded or replaced.
        const Loader same = open();
        EXPECT_EQ(before, must_run(show));
        EXPECT_GT(same.programs().at(0).verified_instructions, 0U);
    }
    must_run("rmdir " + kBpffs + "/build_*"); // as if another build had pinned them
    const Loader again = open();
    const std::string after = must_run(show);
    // The same link, with another program.
    EXPECT_EQ(before.substr(0, before.find(',')), after.substr(0, after.find(',')));
    EXPECT_NE(before, after);
    const auto attached = again.attachments();
    ASSERT_OK(attached);
    EXPECT_EQ(attached->size(), 2U);
}

TEST_F(LoaderTest, RemovesLinksOfVanishedInterfaces) {
    {
        Loader loader = open();
        if (!loader.uses_tcx()) {
            GTEST_SKIP() << "the kernel has no tcx";
        }
        ASSERT_OK(loader.attach_workload(ifindex_));
        ASSERT_OK(loader.attach_uplink(ifindex_of("eth0")));
    }
    must_run("ip link del cali0");
    const Loader again = open();
    const auto attached = again.attachments();
    ASSERT_OK(attached);
    EXPECT_TRUE(attached->empty());
    const auto uplinks = again.map(maps::kUplinks);
    ASSERT_OK(uplinks);
    int left = 0;
    ASSERT_OK(uplinks->for_each([&](const uint32_t&, const manx_uplink&) { left++; }));
    EXPECT_EQ(left, 0);
}

TEST_F(LoaderTest, FallsBackToClsactAndBack) {
    LoadOptions options = small();
    options.force_clsact = true;
    {
        Loader loader = open(); // tcx where there is
        ASSERT_OK(loader.attach_workload(ifindex_));
    }
    {
        Loader loader = open(options);
        EXPECT_FALSE(loader.uses_tcx());
        // Adopted: what was a link is a filter now.
        EXPECT_TRUE(loader.attachments()->empty());
        EXPECT_NE(must_run("tc filter show dev cali0 ingress").find("tc_from_w"),
                  std::string::npos);
        ASSERT_OK(loader.attach_workload(ifindex_));
        EXPECT_NE(must_run("tc filter show dev cali0 egress").find("tc_to_w"), std::string::npos);
    }
    Loader loader = open();
    ASSERT_OK(loader.attach_workload(ifindex_));
    if (loader.uses_tcx()) {
        EXPECT_EQ(must_run("tc filter show dev cali0 ingress").find("tc_from_w"),
                  std::string::npos);
    }
    ASSERT_OK(loader.detach(ifindex_));
    EXPECT_TRUE(loader.attachments()->empty());
}

TEST_F(LoaderTest, DetachOfAGoneInterfaceIsNoError) {
    Loader loader = open();
    ASSERT_OK(loader.attach_workload(ifindex_));
    must_run("ip link del cali0");
    ASSERT_OK(loader.detach(ifindex_));
    EXPECT_TRUE(loader.attachments()->empty());
    const Result<void> again = loader.attach_workload(ifindex_);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().kind, ErrorKind::NotFound);
}

TEST_F(LoaderTest, RefusesAnInterfaceWithoutEthernet) {
    Loader loader = open();
    if (std::system("ip tuntap add dev tun9 mode tun 2>/dev/null") != 0) {
        GTEST_SKIP() << "the kernel has no tun devices: none without Ethernet to try";
    }
    const uint32_t ifindex = ifindex_of("tun9");
    const Result<void> attached = loader.attach_uplink(ifindex);
    ASSERT_FALSE(attached);
    EXPECT_NE(attached.error().message.find("not Ethernet"), std::string::npos);
}

std::string qdiscs(const std::string& device) {
    return must_run("tc qdisc show dev " + device);
}

TEST_F(LoaderTest, GoesFromClsactToTcxWithoutAGap) {
    LoadOptions options = small();
    options.force_clsact = true;
    {
        Loader loader = open(options);
        EXPECT_FALSE(loader.uses_tcx());
        ASSERT_OK(loader.attach_workload(ifindex_));
        ASSERT_OK(loader.attach_uplink(ifindex_of("eth0")));
        EXPECT_TRUE(loader.missing_of_workload(ifindex_)->empty());
    }
    must_run("tc filter add dev eth0 ingress prio 7 bpf da pinned " + kBpffs +
             "/progs/tc_expiry"); // somebody else's
    Loader loader = open();
    if (!loader.uses_tcx()) {
        GTEST_SKIP() << "the kernel has no tcx";
    }
    // Until it is attached by links, the filter stays.
    EXPECT_NE(must_run("tc filter show dev cali0 ingress").find("tc_from_w"), std::string::npos);
    EXPECT_EQ(loader.missing_of_workload(ifindex_)->size(), 2U);
    ASSERT_OK(loader.attach_workload(ifindex_));
    ASSERT_OK(loader.attach_uplink(ifindex_of("eth0")));
    EXPECT_TRUE(loader.missing_of_workload(ifindex_)->empty());
    EXPECT_EQ(attached_programs(ifindex_), 1U);
    EXPECT_EQ(qdiscs("cali0").find("clsact"), std::string::npos) << qdiscs("cali0");
    EXPECT_NE(qdiscs("eth0").find("clsact"), std::string::npos);
    const std::string left = must_run("tc filter show dev eth0 ingress");
    EXPECT_NE(left.find("tc_expiry"), std::string::npos);
    EXPECT_EQ(left.find("tc_from_u"), std::string::npos);
    must_run("tc qdisc add dev cali0 ingress"); // as a shaper does: the place is free
    ASSERT_OK(loader.remove_all());
    EXPECT_NE(qdiscs("eth0").find("clsact"), std::string::npos);
}

TEST_F(LoaderTest, TellsWhatIsMissing) {
    for (const bool clsact : {false, true}) {
        LoadOptions options = small();
        options.force_clsact = clsact;
        Loader loader = open(options);
        EXPECT_EQ(loader.missing_of_workload(ifindex_)->size(), 2U);
        ASSERT_OK(loader.attach_workload(ifindex_));
        EXPECT_TRUE(loader.missing_of_workload(ifindex_)->empty());
        if (loader.uses_tcx()) {
            must_run("bpftool link detach pinned " + kBpffs + "/links/" + std::to_string(ifindex_) +
                     "_to_workload");
            EXPECT_EQ(*loader.missing_of_workload(ifindex_),
                      std::vector<std::string>{"tc_to_workload"});
        } else {
            must_run("tc qdisc del dev cali0 clsact");
            EXPECT_EQ(loader.missing_of_workload(ifindex_)->size(), 2U);
        }
        ASSERT_OK(loader.attach_workload(ifindex_));
        EXPECT_TRUE(loader.missing_of_workload(ifindex_)->empty());
        ASSERT_OK(loader.detach(ifindex_));
    }
}

TEST_F(LoaderTest, CleansUpAfterAGoneDeviceOnly) {
    Loader loader = open();
    ASSERT_OK(loader.attach_workload(ifindex_));
    const manx_counter_key key{.ifindex = ifindex_, .hook = MANX_HOOK_TO_WORKLOAD, .reason = 40};
    auto counters = *loader.per_cpu_map(maps::kCounters);
    const std::string fill = "bpftool map update pinned " + kBpffs + "/maps/manx_counters key hex";
    std::string hex;
    for (size_t i = 0; i < sizeof(key); i++) {
        std::array<char, 4> byte{};
        std::snprintf(byte.data(), byte.size(), " %02x",
                      reinterpret_cast<const unsigned char*>(&key)[i]);
        hex += byte.data();
    }
    std::string zeros;
    for (int i = 0; i < 16; i++) {
        zeros += " 01";
    }
    must_run(fill + hex + " value hex" + zeros);
    // The number is another device's by now: nothing of it is touched.
    ASSERT_OK(loader.clean_up_workload(ifindex_));
    EXPECT_TRUE(loader.missing_of_workload(ifindex_)->empty());
    EXPECT_TRUE(*counters.lookup(key));
    must_run("ip link del cali0");
    ASSERT_OK(loader.clean_up_workload(ifindex_));
    EXPECT_TRUE(loader.attachments()->empty());
    EXPECT_FALSE(*counters.lookup(key));
    must_run(fill + hex + " value hex" + zeros);
    const Loader again = open(); // and what went while nobody looked
    EXPECT_FALSE(*counters.lookup(key));
}

// Other agents of the machine may have the setting in hand for a moment.
bool in_the_end(const std::function<bool()>& condition) {
    for (int i = 0; i < 100; i++) {
        if (condition()) {
            return true;
        }
        usleep(50000);
    }
    return false;
}

TEST_F(LoaderTest, GracePeriodsAreShortOnlyForTheMoment) {
    const std::string setting = "/sys/kernel/rcu_expedited";
    const std::string note = kBpffs + "/rcu_expedited";
    const auto is = [&](const char* value) { return must_run("cat " + setting) == value; };
    if (access(setting.c_str(), W_OK) != 0 || !in_the_end([&] { return is("0\n"); })) {
        GTEST_SKIP() << setting << " is not writable, or on already";
    }
    Loader loader = open();
    ASSERT_OK(loader.attach_workload(ifindex_));
    EXPECT_FALSE(std::filesystem::exists(note));
    EXPECT_TRUE(in_the_end([&] { return is("0\n"); }));
    // As a process leaves it that is killed in between.
    must_run("mkdir " + note + " && echo 1 > " + setting);
    EXPECT_TRUE(in_the_end([&] {
        const Loader again = open();
        return !std::filesystem::exists(note);
    }));
    EXPECT_TRUE(in_the_end([&] { return is("0\n"); }));
    // What an administrator has switched on stays on.
    EXPECT_TRUE(in_the_end([&] {
        must_run("echo 1 > " + setting);
        return loader.detach(ifindex_) && loader.attach_workload(ifindex_) && is("1\n");
    }));
    must_run("echo 0 > " + setting);
}

TEST_F(LoaderTest, RemoveAllLeavesNothing) {
    Loader loader = open();
    ASSERT_OK(loader.attach_workload(ifindex_));
    EXPECT_EQ(attached_programs(ifindex_), loader.uses_tcx() ? 1U : 0U);
    ASSERT_OK(loader.remove_all());
    EXPECT_FALSE(std::filesystem::exists(kBpffs));
    EXPECT_EQ(attached_programs(ifindex_), 0U);
}

TEST_F(LoaderTest, ConfigKeepsTheEpochs) {
    Loader loader = open();
    ASSERT_OK(loader.bump_epoch());
    ASSERT_OK(loader.bump_epoch());
    ASSERT_OK(loader.bump_policy_epoch());
    manx_config config = *loader.config();
    EXPECT_EQ(config.timeout_s[MANX_TIMEOUT_TCP_ESTABLISHED], 3600U);
    config.flags = MANX_CONFIG_HOST_DROP;
    config.epoch = 0;
    ASSERT_OK(loader.set_config(config));
    const Loader again = open();
    EXPECT_EQ(again.config()->flags, static_cast<uint32_t>(MANX_CONFIG_HOST_DROP));
    EXPECT_EQ(again.config()->epoch, 3U);
    EXPECT_EQ(again.config()->policy_epoch, 2U);
}

TEST_F(LoaderTest, ProbeFindsWhatThisKernelHas) {
    const Result<Probe> found = probe();
    ASSERT_OK(found);
    EXPECT_EQ(found->missing(), "");
    EXPECT_GE(found->features.size(), 10U);
}

TEST(Maps, BatchWritesAndWalks) {
    const Result<void> entered = harness::enter_sandbox();
    ASSERT_TRUE(entered) << entered.error().text();
    Result<Loader> loader = Loader::open(kBpffs, small());
    ASSERT_OK(loader);
    auto ports = *loader->map(maps::kPorts);
    std::vector<uint32_t> keys;
    std::vector<manx_port> values;
    for (uint32_t i = 0; i < 1000; i++) {
        keys.push_back(i);
        values.push_back(
            {.last = i, .rule = i + 1, .next = 0, .next_count = 0, .action = 1, .flags = 0});
    }
    ASSERT_OK(ports.update_batch(keys, values));
    EXPECT_EQ((*ports.lookup(999))->rule, 1000U);
    auto nets = *loader->map(maps::kNet4);
    for (uint32_t i = 0; i < 100; i++) {
        ASSERT_OK(nets.update({.length = 24, .addr = i << 8}, {.class_id = i, .flags = 0}));
    }
    uint32_t seen = 0;
    ASSERT_OK(nets.for_each([&](const manx_prefix4&, const manx_class&) { seen++; }));
    EXPECT_EQ(seen, 100U);
    auto removed = nets.remove({.length = 24, .addr = 0});
    ASSERT_OK(removed);
    EXPECT_TRUE(*removed);
    EXPECT_FALSE(*nets.remove({.length = 24, .addr = 0}));
    const auto wrong = ports.update(5000, {});
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().message.find("manx_ports"), std::string::npos);
}

TEST(Reason, NamesAreUniqueAndComeBack) {
    EXPECT_EQ(maps::reason_name(MANX_DROP_POLICY_EGRESS), "drop_policy_egress");
    EXPECT_EQ(maps::reason_from_name("pass_redirect_peer"), MANX_PASS_REDIRECT_PEER);
    EXPECT_FALSE(maps::reason_from_name("no_such"));
    EXPECT_TRUE(maps::is_drop(MANX_DROP_MALFORMED));
    EXPECT_FALSE(maps::is_drop(MANX_PASS_ARP));
}

} // namespace
} // namespace manx::loader
