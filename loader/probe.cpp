// SPDX-License-Identifier: Apache-2.0
#include "loader/probe.h"

#include "base/unique_fd.h"
#include "loader/attach.h"
#include "loader/netfilter.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <array>
#include <cerrno>
#include <unistd.h>

namespace manx::loader {

namespace {

struct Helper {
    const char* name;
    bpf_func_id id;
};

constexpr std::array kHelpers{
    Helper{"bpf_redirect_peer", BPF_FUNC_redirect_peer},
    Helper{"bpf_redirect_neigh", BPF_FUNC_redirect_neigh},
    Helper{"bpf_fib_lookup", BPF_FUNC_fib_lookup},
    Helper{"bpf_check_mtu", BPF_FUNC_check_mtu},
    Helper{"bpf_ktime_get_coarse_ns", BPF_FUNC_ktime_get_coarse_ns},
    Helper{"bpf_timer_init", BPF_FUNC_timer_init},
    Helper{"bpf_loop", BPF_FUNC_loop},
    Helper{"bpf_map_push_elem", BPF_FUNC_map_push_elem},
    Helper{"bpf_ringbuf_output", BPF_FUNC_ringbuf_output},
};

struct MapType {
    const char* name;
    bpf_map_type type;
};

constexpr std::array kMapTypes{
    MapType{"map type lru_hash", BPF_MAP_TYPE_LRU_HASH},
    MapType{"map type lpm_trie", BPF_MAP_TYPE_LPM_TRIE},
    MapType{"map type queue", BPF_MAP_TYPE_QUEUE},
    MapType{"map type ringbuf", BPF_MAP_TYPE_RINGBUF},
    MapType{"map type percpu_hash", BPF_MAP_TYPE_PERCPU_HASH},
};

// r0 = 0; exit
constexpr std::array<bpf_insn, 2> kEmpty{
    bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
    bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};

} // namespace

std::string Probe::missing() const {
    std::string text;
    for (const Feature& feature : features) {
        if (feature.required && !feature.present) {
            text += (text.empty() ? "" : ", ") + feature.name;
        }
    }
    return text;
}

Result<Probe> probe() {
    Probe result;
    const UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "manx_probe", "GPL",
                                         kEmpty.data(), kEmpty.size(), nullptr));
    if (!program && errno == EPERM) {
        return fail(ErrorKind::ConfigReality,
                    "use BPF: needs CAP_BPF and CAP_NET_ADMIN (and CAP_PERFMON)", EPERM);
    }
    result.features.push_back({"BPF programs of type sched_cls", static_cast<bool>(program), true,
                               "CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT"});
    result.features.push_back({"BTF of the kernel", access("/sys/kernel/btf/vmlinux", R_OK) == 0,
                               false, "CONFIG_DEBUG_INFO_BTF: bpftool prints less without it"});
    for (const MapType& map : kMapTypes) {
        result.features.push_back(
            {map.name, libbpf_probe_bpf_map_type(map.type, nullptr) == 1, true, ""});
    }
    for (const Helper& helper : kHelpers) {
        const int rc = libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, helper.id, nullptr);
        result.features.push_back({std::string("helper ") + helper.name, rc == 1, true, ""});
    }
    result.features.push_back(
        {"tcx", program && has_tcx(program.get()), false, "Linux 6.6; clsact is used without it"});
    result.features.push_back({"BPF programs of type netfilter", has_netfilter_programs(), false,
                               "Linux 6.4; without it a pod with an egress policy does not reach "
                               "services whose backend is its own node"});
    return result;
}

} // namespace manx::loader
