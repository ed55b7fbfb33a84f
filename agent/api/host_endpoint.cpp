// SPDX-License-Identifier: Apache-2.0
#include "agent/api/host_endpoint.h"

#include "agent/api/fields.h"
#include "agent/api/policy.h"

#include <nlohmann/json.hpp>

namespace manx::api {

Result<HostEndpoint> HostEndpoint::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::HostEndpoint, object), {}};
    HostEndpoint out;
    out.meta = read_meta(Kind::HostEndpoint, object, problems);
    const Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("node", out.node);
    spec.get("interfaceName", out.interface_name);
    spec.get("expectedIPs", out.expected_ips);
    spec.get("profiles", out.profiles);
    spec.each("ports", [&](const Fields& item) {
        ContainerPort port;
        item.get("name", port.name);
        item.get("port", port.port);
        const auto* protocol = item.find("protocol");
        const auto number = protocol == nullptr     ? std::nullopt
                            : protocol->is_string() ? protocol_number(protocol->get<std::string>())
                                                    : protocol_number(protocol->dump());
        port.protocol = number.value_or(kProtocolTcp);
        if (protocol != nullptr && !number) {
            item.wrong("protocol", "expected TCP, UDP, SCTP or a number");
        }
        out.ports.push_back(std::move(port));
    });
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return out;
}

} // namespace manx::api
