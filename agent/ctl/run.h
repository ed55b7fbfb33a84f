// SPDX-License-Identifier: Apache-2.0
// manxctl without main(): for the program and for its tests.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace manx::ctl {

// args without the program's name. Returns the exit code: 0, or 1 with a message on err.
int run(const std::vector<std::string>& args, std::istream& in, std::ostream& out,
        std::ostream& err);

} // namespace manx::ctl
