// SPDX-License-Identifier: Apache-2.0
// Whole small files. Errors are of the system (err: ENOENT where there is none) and name the path.
// Threading: any thread; calls wait for the disk.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace manx {

Result<std::string> read_file(const std::string& path);

enum class Durable : bool { No, Yes };

// In the place of what is there, by way of <path>.new and rename: what stands under the path is
// whole at any moment. Mode 0600. Durable: the content is on the disk before that; sync_file() of
// the folder makes the name so, too. On error what was there stays.
Result<void> replace_file(const std::string& path, std::string_view text, Durable durable);

// A file or a folder, to the disk.
Result<void> sync_file(const std::string& path);

} // namespace manx
