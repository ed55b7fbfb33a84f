// SPDX-License-Identifier: Apache-2.0
// Turns the embedded BPF objects into maps and loaded programs. Used by loader.cpp only.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "loader/loader.h"

#include <map>
#include <string>
#include <string_view>

namespace manx::loader {

using FdTable = std::map<std::string, UniqueFd, std::less<>>;

struct OpenedMaps {
    FdTable fds;
    bool all_adopted = false; // none had to be created
};

// Opens each map that is pinned in folder, creates and pins the others.
Result<OpenedMaps> open_maps(const std::string& folder, const MapSizes& sizes);

struct LoadedPrograms {
    FdTable fds; // by program name
    std::vector<ProgramInfo> infos;
};

// Loads all programs on these maps, that of netfilter if the kernel can; pins nothing. On failure
// the error carries the end of the verifier's log.
Result<LoadedPrograms> load_programs(const FdTable& maps, bool netfilter);

// The programs that are pinned in folder, by the same names; an error if one is missing.
Result<LoadedPrograms> open_programs(const std::string& folder, bool netfilter);

// Tells this build's objects from another's: 16 hexadecimal digits.
std::string build_id();

} // namespace manx::loader
