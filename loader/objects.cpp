// SPDX-License-Identifier: Apache-2.0
#include "loader/objects.h"

#include "base/log.h"
#include "loader/netfilter.h"
#include "manx_maps.skel.h"
#include "nf_to_host.skel.h"
#include "tc_expiry.skel.h"
#include "tc_from_uplink.skel.h"
#include "tc_from_workload.skel.h"
#include "tc_to_uplink.skel.h"
#include "tc_to_workload.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

namespace manx::loader {

namespace {

using Object = UniqueHandle<bpf_object, bpf_object__close>;

struct Embedded {
    const char* name;
    const void* (*bytes)(size_t*);
    bool netfilter = false; // loaded where the kernel has such programs
};

constexpr std::array kPrograms{
    Embedded{"tc_from_workload", tc_from_workload_bpf__elf_bytes},
    Embedded{"tc_to_workload", tc_to_workload_bpf__elf_bytes},
    Embedded{"tc_from_uplink", tc_from_uplink_bpf__elf_bytes},
    Embedded{"tc_to_uplink", tc_to_uplink_bpf__elf_bytes},
    Embedded{"tc_expiry", tc_expiry_bpf__elf_bytes},
    Embedded{"nf_to_host", nf_to_host_bpf__elf_bytes, true},
};

constexpr size_t kLogSize = size_t{1} << 20;
constexpr size_t kLogTail = 2000;

struct Sized {
    const char* map;
    uint32_t MapSizes::* size;
};

constexpr std::array kSized{
    Sized{"manx_ep4", &MapSizes::endpoints},        Sized{"manx_ep6", &MapSizes::endpoints},
    Sized{"manx_class4", &MapSizes::classes},       Sized{"manx_class6", &MapSizes::classes},
    Sized{"manx_net4", &MapSizes::networks},        Sized{"manx_net6", &MapSizes::networks},
    Sized{"manx_policy", &MapSizes::policies},      Sized{"manx_ports", &MapSizes::ports},
    Sized{"manx_rule_hits", &MapSizes::rules},      Sized{"manx_flow4", &MapSizes::flows4},
    Sized{"manx_flow6", &MapSizes::flows6},         Sized{"manx_flow4_new", &MapSizes::new_flows4},
    Sized{"manx_flow6_new", &MapSizes::new_flows6}, Sized{"manx_due4_0", &MapSizes::flows4},
    Sized{"manx_due4_1", &MapSizes::flows4},        Sized{"manx_due4_2", &MapSizes::flows4},
    Sized{"manx_due4_3", &MapSizes::flows4},        Sized{"manx_due6_0", &MapSizes::flows6},
    Sized{"manx_due6_1", &MapSizes::flows6},        Sized{"manx_due6_2", &MapSizes::flows6},
    Sized{"manx_due6_3", &MapSizes::flows6},        Sized{"manx_frag4", &MapSizes::fragments},
    Sized{"manx_frag6", &MapSizes::fragments},      Sized{"manx_counters", &MapSizes::counters},
    Sized{"manx_events", &MapSizes::events},
};

int forward_print(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG) {
        return 0;
    }
    std::array<char, 512> line{};
    const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
    std::string_view text(line.data());
    while (!text.empty() && text.back() == '\n') {
        text.remove_suffix(1);
    }
    log::get("loader")->debug("libbpf: {}", text);
    return length;
}

Result<UniqueFd> duplicate(int fd) {
    UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) {
        return fail_errno("duplicate a descriptor");
    }
    return copy;
}

Result<Object> open_object(const Embedded& source, char* log, size_t log_size) {
    size_t size = 0;
    const void* bytes = source.bytes(&size);
    bpf_object_open_opts options{};
    options.sz = sizeof(options);
    options.object_name = source.name;
    options.kernel_log_buf = log;
    options.kernel_log_size = log_size;
    Object object(bpf_object__open_mem(bytes, size, &options));
    if (!object) {
        return fail(ErrorKind::Bug, std::string("open embedded object ") + source.name, errno);
    }
    return object;
}

// Debian 12's libbpf does not know the section.
void set_netfilter(bpf_object* object) {
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object) {
        bpf_program__set_type(program, netfilter_program_type());
        bpf_program__set_expected_attach_type(program, kAttachTypeNetfilter);
    }
}

std::string layout_text(uint32_t type, uint32_t key_size, uint32_t value_size) {
    const char* name = libbpf_bpf_map_type_str(static_cast<bpf_map_type>(type));
    return std::string(name != nullptr ? name : "unknown type") + ", key of " +
           std::to_string(key_size) + " bytes, value of " + std::to_string(value_size);
}

// The pinned map at path, if there is one and it is laid out as ours.
Result<UniqueFd> open_pin(const std::string& path, const bpf_map* ours) {
    UniqueFd fd(bpf_obj_get(path.c_str()));
    if (!fd) {
        if (errno == ENOENT) {
            return UniqueFd();
        }
        return fail_errno("open " + path);
    }
    bpf_map_info info{};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) < 0) {
        return fail_errno("read the layout of " + path);
    }
    if (info.type != static_cast<uint32_t>(bpf_map__type(ours)) ||
        info.key_size != bpf_map__key_size(ours) || info.value_size != bpf_map__value_size(ours)) {
        return fail(ErrorKind::ConfigReality,
                    "map " + path + " was pinned by another version (" +
                        layout_text(info.type, info.key_size, info.value_size) +
                        "), this one expects " +
                        layout_text(static_cast<uint32_t>(bpf_map__type(ours)),
                                    bpf_map__key_size(ours), bpf_map__value_size(ours)) +
                        "; it is left as it is");
    }
    return fd;
}

Result<void> add_program(LoadedPrograms& loaded, const std::string& name, UniqueFd fd) {
    bpf_prog_info info{};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &size) < 0) {
        return fail_errno("read program " + name);
    }
    loaded.infos.push_back({.name = name,
                            .id = info.id,
                            .verified_instructions = info.verified_insns,
                            .translated_bytes = info.xlated_prog_len});
    loaded.fds[name] = std::move(fd);
    return {};
}

} // namespace

Result<OpenedMaps> open_maps(const std::string& folder, const MapSizes& sizes) {
    libbpf_set_print(forward_print);
    TRY_ASSIGN(Object object, open_object({"manx_maps", manx_maps_bpf__elf_bytes}, nullptr, 0));
    for (const Sized& sized : kSized) {
        bpf_map* map = bpf_object__find_map_by_name(object.get(), sized.map);
        const uint32_t entries = sizes.*sized.size;
        if (map == nullptr || entries == 0 || bpf_map__set_max_entries(map, entries) < 0) {
            return fail(ErrorKind::ConfigInvalid, std::string("size of map ") + sized.map +
                                                      " must be at least 1, not " +
                                                      std::to_string(entries));
        }
    }
    std::vector<bpf_map*> created;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object.get()) {
        if (bpf_map__is_internal(map)) {
            continue;
        }
        TRY_ASSIGN(const UniqueFd pinned, open_pin(folder + "/" + bpf_map__name(map), map));
        if (!pinned) {
            created.push_back(map);
        } else if (const int rc = bpf_map__reuse_fd(map, pinned.get()); rc < 0) {
            return fail(ErrorKind::System, std::string("adopt map ") + bpf_map__name(map), -rc);
        }
    }
    if (const int rc = bpf_object__load(object.get()); rc < 0) {
        return fail(rc == -EPERM ? ErrorKind::ConfigReality : ErrorKind::System,
                    rc == -EPERM ? "create BPF maps: needs CAP_BPF and CAP_NET_ADMIN"
                                 : "create BPF maps",
                    -rc);
    }
    for (bpf_map* fresh : created) {
        const std::string path = folder + "/" + bpf_map__name(fresh);
        if (bpf_obj_pin(bpf_map__fd(fresh), path.c_str()) < 0) {
            return fail_errno("pin " + path);
        }
    }
    OpenedMaps opened;
    opened.all_adopted = created.empty();
    bpf_object__for_each_map(map, object.get()) {
        if (!bpf_map__is_internal(map)) {
            TRY_ASSIGN(opened.fds[bpf_map__name(map)], duplicate(bpf_map__fd(map)));
        }
    }
    return opened;
}

Result<LoadedPrograms> load_programs(const FdTable& maps, bool netfilter) {
    LoadedPrograms loaded;
    for (const Embedded& source : kPrograms) {
        if (source.netfilter && !netfilter) {
            continue;
        }
        std::vector<char> log(kLogSize);
        TRY_ASSIGN(Object object, open_object(source, log.data(), log.size()));
        if (source.netfilter) {
            set_netfilter(object.get());
        }
        bpf_map* map = nullptr;
        bpf_object__for_each_map(map, object.get()) {
            const auto ours = maps.find(std::string_view(bpf_map__name(map)));
            if (ours == maps.end()) {
                continue; // read-only data, the object's own
            }
            if (const int rc = bpf_map__reuse_fd(map, ours->second.get()); rc < 0) {
                return fail(ErrorKind::System,
                            std::string("give map ") + ours->first + " to " + source.name, -rc);
            }
        }
        if (const int rc = bpf_object__load(object.get()); rc < 0) {
            const std::string_view text(log.data());
            const size_t from = text.size() > kLogTail ? text.size() - kLogTail : 0;
            return fail(ErrorKind::System,
                        std::string("load program ") + source.name + ": " +
                            std::string(text.substr(from)),
                        -rc);
        }
        bpf_program* program = nullptr;
        bpf_object__for_each_program(program, object.get()) {
            TRY_ASSIGN(UniqueFd fd, duplicate(bpf_program__fd(program)));
            TRY(add_program(loaded, bpf_program__name(program), std::move(fd)));
        }
    }
    return loaded;
}

Result<LoadedPrograms> open_programs(const std::string& folder, bool netfilter) {
    LoadedPrograms loaded;
    for (const Embedded& source : kPrograms) {
        if (source.netfilter && !netfilter) {
            continue;
        }
        const std::string path = folder + "/" + source.name;
        UniqueFd fd(bpf_obj_get(path.c_str()));
        if (!fd) {
            return fail_errno("open pinned program " + path);
        }
        TRY(add_program(loaded, source.name, std::move(fd)));
    }
    return loaded;
}

std::string build_id() {
    uint64_t hash = 14695981039346656037ULL; // FNV-1a
    const auto add = [&hash](const Embedded& source) {
        size_t size = 0;
        const auto* bytes = static_cast<const unsigned char*>(source.bytes(&size));
        for (size_t i = 0; i < size; i++) {
            hash = (hash ^ bytes[i]) * 1099511628211ULL;
        }
    };
    add({"manx_maps", manx_maps_bpf__elf_bytes});
    std::ranges::for_each(kPrograms, add);
    std::array<char, 17> text{};
    (void)std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
    return text.data();
}

} // namespace manx::loader
