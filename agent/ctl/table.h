// SPDX-License-Identifier: Apache-2.0
// Plain tables as calicoctl's `get` prints them: columns at least three spaces apart, an empty
// line behind.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace manx::ctl {

using TableRow = std::vector<std::string>;

void print_table(std::ostream& out, const TableRow& header, const std::vector<TableRow>& rows);

} // namespace manx::ctl
