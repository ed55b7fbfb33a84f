// SPDX-License-Identifier: Apache-2.0
// Commands for nftables, as "nft -f" reads them: all of a text, or nothing of it.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace manx::dataplane {

// purpose: begins the error's text.
Result<void> run_nft(std::string_view purpose, const std::string& commands);

} // namespace manx::dataplane
