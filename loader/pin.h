// SPDX-License-Identifier: Apache-2.0
// Names in bpffs. Used by the loader's own files only.
#pragma once

#include "base/result.h"

#include <string>

namespace manx::loader {

// Replaces the pin at path by one rename, so that there always is one.
Result<void> replace_pin(int fd, const std::string& path);

// False: there was none.
Result<bool> remove_pin(const std::string& path);

} // namespace manx::loader
