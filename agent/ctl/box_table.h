// SPDX-License-Identifier: Apache-2.0
// Tables in ASCII boxes, as calicoctl draws those of IPAM and of the node's status. Headers are
// printed in upper case.
#pragma once

#include <iosfwd>
#include <set>
#include <string>
#include <vector>

namespace manx::ctl {

class BoxTable {
public:
    // right: the columns whose cells are aligned to the right (their headers are not).
    explicit BoxTable(std::vector<std::string> headers, std::set<size_t> right = {});
    void add(std::vector<std::string> row); // as many cells as headers
    void print(std::ostream& out) const;

private:
    std::vector<std::vector<std::string>> rows_; // the first is the header
    std::set<size_t> right_;
};

} // namespace manx::ctl
