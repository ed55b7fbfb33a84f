// SPDX-License-Identifier: Apache-2.0
#include "tests/policy/shrink.h"

#include <exception>

namespace manx::testing_policy {

namespace {

// All that may be left out below a value, outer things first.
void places(const json& value, const json::json_pointer& at, std::vector<json::json_pointer>& out) {
    const auto add = [&](const json::json_pointer& place, const json& what) {
        out.push_back(place);
        places(what, place, out);
    };
    if (value.is_object()) {
        for (const auto& [name, what] : value.items()) {
            add(at / name, what);
        }
    } else if (value.is_array()) {
        for (size_t i = value.size(); i-- > 0;) {
            add(at / i, value[i]);
        }
    }
}

json without(const json& object, const json::json_pointer& place) {
    json out = object;
    json& parent = out[place.parent_pointer()];
    if (parent.is_array()) {
        parent.erase(std::stoul(place.back()));
    } else {
        parent.erase(place.back());
    }
    return out;
}

} // namespace

std::vector<json> shrink(std::vector<json> objects, const Fails& fails, int tries) {
    const auto still = [&](const std::vector<json>& fewer) {
        try {
            return tries-- > 0 && fails(fewer);
        } catch (const std::exception&) {
            return false; // not an object any more
        }
    };
    for (bool smaller = true; smaller;) {
        smaller = false;
        for (size_t i = objects.size(); i-- > 0;) {
            auto fewer = objects;
            fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(i));
            if (still(fewer)) {
                objects = std::move(fewer);
                smaller = true;
            }
        }
        for (size_t i = 0; i < objects.size(); ++i) {
            std::vector<json::json_pointer> all;
            for (const char* part :
                 {"/spec", "/metadata/labels", "/metadata/annotations", "/ports", "/endpoints"}) {
                const json::json_pointer at(part);
                if (objects[i].contains(at)) {
                    places(objects[i][at], at, all);
                }
            }
            for (const auto& place : all) {
                if (!objects[i].contains(place) || place.back() == "nodeName") {
                    continue; // gone with what was around it; a pod stays where it is
                }
                auto fewer = objects;
                fewer[i] = without(objects[i], place);
                if (still(fewer)) {
                    objects = std::move(fewer);
                    smaller = true;
                }
            }
        }
    }
    return objects;
}

} // namespace manx::testing_policy
