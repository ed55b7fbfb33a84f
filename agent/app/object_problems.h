// SPDX-License-Identifier: Apache-2.0
// Objects that were understood in part: by name, with the fields that are wrong. Each is logged
// once, and again when its text changes.
//
// Threading: the loop's thread.
#pragma once

#include "agent/datastore/store.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace manx::app {

using ObjectTexts = std::map<datastore::Key, std::string>;

// What an object does that was understood in part.
enum class InPart : uint8_t {
    Isolates,      // a policy: what it selects
    KeepsEarlier,  // an earlier good state stays in force
    DecidesNothing // staged, or for host endpoints only
};

class ObjectProblems {
public:
    // problems: each names its field, and counts once; none: the object is well again.
    void report(const datastore::Key& key, const std::vector<std::string>& problems, InPart does);

    void forget(const datastore::Key& key) { all_.erase(key); }

    [[nodiscard]] const ObjectTexts& all() const { return all_; }

private:
    ObjectTexts all_;
};

// Objects that are not in force as they stand, by Key::text(), with the fields that are wrong:
// those that were refused, and those understood in part. What is both was understood in part
// before, and has the reason of now.
std::map<std::string, std::string> invalid_objects(const ObjectTexts& refused,
                                                   const ObjectTexts& in_part);

} // namespace manx::app
