// SPDX-License-Identifier: Apache-2.0
// The filters and functions of the BIRD configuration: BGPFilters (contract 5.8), what is exported
// to peers (5.4), imported from them (5.3), and put into the kernel (5.6). Pure text.
#pragma once

#include "agent/bgp/inputs.h"
#include "agent/bgp/services.h"
#include "agent/bgp/sessions.h"

#include <string>

namespace manx::bgp {

// The BIRD function of one direction of a BGPFilter: at most 45 characters between the quotes,
// longer names end in a hash. Unique per filter, family and direction.
std::string filter_function_name(const std::string& filter, Family family, bool is_export);

// ConfigInvalid: a rule that cannot be written down, by filter and field.
Result<std::string> render_filter_function(const Filter& filter, Family family, bool is_export,
                                           uint32_t normal_priority);

// manx_export_v4 / manx_export_v6, and what they call.
std::string render_export_functions(const Inputs& inputs, const Node& self,
                                    const ServiceRoutes& services, Family family);
// manx_kernel_export_v4 and manx_kernel_import_v4, likewise _v6.
std::string render_kernel_filters(const Inputs& inputs, const Node& self,
                                  const ServiceRoutes& services, Family family);

// "v4", "v6".
std::string_view suffix(Family family);

} // namespace manx::bgp
