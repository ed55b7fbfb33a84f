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

// Opens each map that is pinned in folder, creates and pins the others.
Result<FdTable> open_maps(const std::string& folder, const MapSizes& sizes);

struct LoadedPrograms {
    FdTable fds; // by program name
    std::vector<ProgramInfo> infos;
};

// Loads all programs on these maps; pins nothing. On failure the error carries the end of the
// verifier's log.
Result<LoadedPrograms> load_programs(const FdTable& maps);

} // namespace manx::loader
