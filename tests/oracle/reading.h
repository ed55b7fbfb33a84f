// SPDX-License-Identifier: Apache-2.0
// What an object that is wrong somewhere means: what is left of it, by docs/design/policy.md, "What
// must hold". As naive as the oracle, and as independent: it looks at the JSON only.
#pragma once

#include <nlohmann/json.hpp>

namespace manx::oracle {

enum class Reading {
    Whole,   // understood, or in part, and then it isolates
    Unread,  // an earlier state stays, else what is left: a policy whose subject is not known
             // isolates its namespace
    Refused, // an earlier state stays, else there is nothing
};

struct ReadObject {
    Reading reading = Reading::Whole;
    bool problems = false; // something was not understood
    // What is in force: rules that are left out are {"nothing": true}, one that is to deny
    // everything is {"action": "Deny", "everything": true}.
    nlohmann::json object;
};

ReadObject read_object(const nlohmann::json& object);

} // namespace manx::oracle
