// SPDX-License-Identifier: Apache-2.0
// To whom the CNI server gives the workloads of this node: the wiring of policy tables and
// programs. A pod's device comes up only after enforce() has said that it is enforced.
//
// Threading: called on the loop's thread; done is called there too, once, now or later.
#pragma once

#include "agent/dataplane/local_endpoint.h"
#include "base/result.h"

#include <cstdint>
#include <functional>
#include <string>

namespace manx::cni {

class EndpointSink {
public:
    using Done = std::function<void(Result<void>)>;

    EndpointSink() = default;
    EndpointSink(const EndpointSink&) = delete;
    EndpointSink& operator=(const EndpointSink&) = delete;
    virtual ~EndpointSink() = default;

    // Programs attached, class and policy of all its addresses written. Comes again for the same
    // interface when facts change, and for every known endpoint after a restart.
    virtual void enforce(const dataplane::LocalEndpoint& endpoint, Done done) = 0;
    // The endpoint is going: nothing of it is to be enforced any more. One that is not known may
    // have programs on its device from before a restart. ifindex 0: no device is known.
    virtual void forget(const std::string& interface, uint32_t ifindex) = 0;
};

} // namespace manx::cni
