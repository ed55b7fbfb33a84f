// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/box_table.h"

#include <algorithm>
#include <cctype>
#include <ostream>
#include <utility>

namespace manx::ctl {

BoxTable::BoxTable(std::vector<std::string> headers, std::set<size_t> right)
    : right_(std::move(right)) {
    for (std::string& header : headers) {
        for (char& c : header) {
            c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        }
    }
    rows_.push_back(std::move(headers));
}

void BoxTable::add(std::vector<std::string> row) {
    row.resize(rows_.front().size());
    rows_.push_back(std::move(row));
}

void BoxTable::print(std::ostream& out) const {
    std::vector<size_t> widths(rows_.front().size());
    for (const auto& row : rows_) {
        for (size_t i = 0; i < row.size(); i++) {
            widths[i] = std::max(widths[i], row[i].size());
        }
    }
    auto line = [&] {
        for (size_t width : widths) {
            out << '+' << std::string(width + 2, '-');
        }
        out << "+\n";
    };
    line();
    for (const auto& row : rows_) {
        bool header = &row == &rows_.front();
        for (size_t i = 0; i < row.size(); i++) {
            std::string pad(widths[i] - row[i].size(), ' ');
            bool right = !header && right_.contains(i);
            out << "| " << (right ? pad : "") << row[i] << (right ? "" : pad) << ' ';
        }
        out << "|\n";
        if (header) {
            line();
        }
    }
    line();
}

} // namespace manx::ctl
