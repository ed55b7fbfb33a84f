// SPDX-License-Identifier: Apache-2.0
// Calls under way and what is shared, for the files that implement Attachments.
#pragma once

#include "agent/cni/attachments.h"

namespace manx::cni {

// Puts programs that are not on the endpoint's device back. On a worker.
Result<void> keep_programs(EndpointSink& sink, const dataplane::LocalEndpoint& endpoint);

struct Attachments::Add {
    CniRequest request;
    UniqueFd netns;
    Answer answer;
    std::string interface;
    Record record;
    AssignItem assign;
    Workload workload;
    DeviceSpec device;
    DeviceIds ids;
    bool early = false; // the device is made while the addresses are taken
    bool making = false;
    bool assigning = true;
    enum class Policy { Behind, Current, TooLate } policy = Policy::Behind;
    EventSource patience;
    bool made = false;
    int parts = 0;                   // of the last step, still running
    std::optional<CniError> problem; // of one of two parts; the other's end is waited for
    bool enforced = false;
    bool repeated = false; // answered from what is there
};

struct Attachments::Free {
    std::string handle;
    std::string legacy_handle; // empty: none
    std::string ns;
    std::string pod; // empty: no annotations to take back
    std::string container_id;
    Result<void> result;
    std::function<void(Result<void>)> done;
};

} // namespace manx::cni
