// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/table.h"

#include <algorithm>
#include <ostream>

namespace manx::ctl {

void print_table(std::ostream& out, const TableRow& header, const std::vector<TableRow>& rows) {
    constexpr size_t kGap = 3;
    std::vector<size_t> widths;
    auto measure = [&](const TableRow& row) {
        widths.resize(std::max(widths.size(), row.size()));
        for (size_t i = 0; i < row.size(); i++) {
            widths[i] = std::max(widths[i], row[i].size());
        }
    };
    measure(header);
    std::ranges::for_each(rows, measure);
    auto print = [&](const TableRow& row) {
        std::string line;
        for (size_t i = 0; i < row.size(); i++) {
            line += row[i];
            if (i + 1 < row.size()) {
                line.append(widths[i] - row[i].size() + kGap, ' ');
            }
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out << line << "\n";
    };
    print(header);
    std::ranges::for_each(rows, print);
    out << "\n";
}

} // namespace manx::ctl
