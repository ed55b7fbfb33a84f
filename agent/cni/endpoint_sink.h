// SPDX-License-Identifier: Apache-2.0
// To whom the CNI server gives the workloads of this node: the wiring of policy tables and
// programs. A pod's device comes up only after enforce() has said that it is enforced.
//
// Threading: enforce() and forget() are called on the loop's thread; done is called there too,
// once, now or later. The others wait for the kernel's network lock and are called on a worker.
#pragma once

#include "agent/dataplane/local_endpoint.h"
#include "base/result.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace manx::cni {

class EndpointSink {
public:
    using Done = std::function<void(Result<void>)>;

    EndpointSink() = default;
    EndpointSink(const EndpointSink&) = delete;
    EndpointSink& operator=(const EndpointSink&) = delete;
    virtual ~EndpointSink() = default;

    // Programs on the device. While no table knows it they drop whatever it sends.
    virtual Result<void> prepare(uint32_t ifindex) = 0;
    // Programs that should be on the device and are not.
    virtual Result<std::vector<std::string>> missing_programs(uint32_t ifindex) = 0;
    // The device is gone. What is there of a newer one with its number stays.
    virtual void clean_up(uint32_t ifindex) = 0;

    // Class and policy of all its addresses written; after prepare(). Comes again for the same
    // interface when facts change, and for every known endpoint after a restart.
    virtual void enforce(const dataplane::LocalEndpoint& endpoint, Done done) = 0;
    // The endpoint is going: nothing of it is in the tables any more. Its programs stay, and drop,
    // until the device is gone. Not known: nothing happens.
    virtual void forget(const std::string& interface) = 0;
};

} // namespace manx::cni
