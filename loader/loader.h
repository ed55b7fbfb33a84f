// SPDX-License-Identifier: Apache-2.0
// Opens, configures, loads, pins and attaches the BPF programs; adopts and replaces what an earlier
// process left. Knows nothing of Kubernetes or of policy.
//
// What is pinned outlives this process, and keeps forwarding: the destructor closes descriptors
// only. Taking things down are explicit verbs: detach(), remove_all().
//
// Pins: <bpffs>/maps/<map>, <bpffs>/progs/<program>, <bpffs>/links/<ifindex>_<hook> and
// links/to_host4, to_host6; the empty folder <bpffs>/build_<id> names the build whose programs are
// pinned, <bpffs>/rcu_expedited is the note of loader/expedite.h.
//
// Threading: one thread at a time, but for what says otherwise. Two processes on one bpffs are not
// supported at a time, one after the other is.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "loader/options.h"
#include "maps/map.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace manx::loader {

inline constexpr const char* kDefaultBpffs = "/sys/fs/bpf/manx";

// Program names, in the order of enum manx_hook.
inline constexpr std::array<const char*, MANX_HOOKS> kHookPrograms{
    "tc_from_workload", "tc_to_workload", "tc_from_uplink", "tc_to_uplink", "nf_to_host"};

struct ProgramInfo {
    std::string name;
    uint32_t id = 0;
    uint32_t verified_instructions = 0; // how many the verifier walked
    uint32_t translated_bytes = 0;
};

// One attached hook, as open() found it or attach_*() made it.
struct Attachment {
    uint32_t ifindex = 0;
    manx_hook hook = MANX_HOOK_FROM_WORKLOAD;
};

class Loader {
public:
    // bpffs is a folder of a mounted bpffs; it is created where missing. Maps that are pinned there
    // are adopted with their content if type, key and value size are ours, else ConfigReality names
    // the map and both layouts. Programs of the same build are adopted; others are loaded anew,
    // pinned, and put in place in every pinned link, each atomically. Links of interfaces that are
    // gone are removed. On an error nothing that was attached before has changed.
    static Result<Loader> open(const std::string& bpffs, const LoadOptions& options = {});

    Loader(Loader&&) noexcept;
    Loader& operator=(Loader&&) noexcept;
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;
    ~Loader();

    // Both hooks of the host side of a workload's veth. Idempotent. This and the next two: from any
    // thread, one at a time per interface; they wait for the kernel's network lock.
    Result<void> attach_workload(uint32_t ifindex);
    // Names of the programs that are not where attach_workload() has put them.
    [[nodiscard]] Result<std::vector<std::string>> missing_of_workload(uint32_t ifindex) const;
    // After the device is gone, and its programs with it: its links' pins and drop counters.
    // Nothing of a newer interface that has got the number is touched.
    Result<void> clean_up_workload(uint32_t ifindex);
    // Of all devices that went while nobody listened.
    Result<void> clean_up_gone_workloads();
    // Both hooks of an uplink, which must be an Ethernet device. From then on flows may be
    // redirected out of it. Idempotent.
    Result<void> attach_uplink(uint32_t ifindex);
    // What this network namespace delivers to itself, both families. Idempotent. False: the kernel
    // has no netfilter programs (before Linux 6.4), or the options say so.
    Result<bool> attach_to_host();
    // Whatever is attached there; an interface that is gone is no error. Removes its drop
    // counters.
    Result<void> detach(uint32_t ifindex);
    [[nodiscard]] Result<std::vector<Attachment>> attachments() const;

    // Detaches everything and removes all pins: the node is as before the first open().
    Result<void> remove_all();

    // The descriptor stays the loader's. NotFound for a name that is not ours.
    [[nodiscard]] Result<int> map_fd(std::string_view name) const;
    [[nodiscard]] Result<int> program_fd(std::string_view name) const;
    [[nodiscard]] std::vector<ProgramInfo> programs() const;

    // Typed access with a descriptor of its own, which may outlive the loader.
    template <typename K, typename V>
    [[nodiscard]] Result<maps::Map<K, V>> map(const maps::Table<K, V>& table) const {
        TRY_ASSIGN(UniqueFd fd, duplicate_map_fd(table.name));
        return maps::Map<K, V>::from_fd(std::move(fd), table.name);
    }

    template <typename K, typename V>
    [[nodiscard]] Result<maps::PerCpuMap<K, V>> per_cpu_map(const maps::Table<K, V>& table) const {
        TRY_ASSIGN(UniqueFd fd, duplicate_map_fd(table.name));
        return maps::PerCpuMap<K, V>::from_fd(std::move(fd), table.name);
    }

    // Live configuration. The loader is its only writer.
    [[nodiscard]] Result<manx_config> config() const;
    // Flags, timeouts and VXLAN port of config; the epochs are kept.
    Result<void> set_config(const manx_config& config);
    // After a change of routes, links or endpoints is complete: flows resolve their way out anew.
    Result<void> bump_epoch();
    // After a policy change is complete; has an effect with MANX_CONFIG_REJUDGE only.
    Result<void> bump_policy_epoch();

    // Whether programs are attached by tcx; else by clsact.
    [[nodiscard]] bool uses_tcx() const;

private:
    struct State;
    explicit Loader(std::unique_ptr<State> state);
    [[nodiscard]] Result<UniqueFd> duplicate_map_fd(const std::string& name) const;
    std::unique_ptr<State> state_;
};

} // namespace manx::loader
