// SPDX-License-Identifier: Apache-2.0
// The commands below `manxctl ipam`, each in its file.
#pragma once

#include "agent/ctl/context.h"

namespace CLI {
class App;
} // namespace CLI

namespace manx::ctl {

void add_ipam_show(CLI::App& ipam, Context& context);
void add_ipam_check(CLI::App& ipam, Context& context);
void add_ipam_release(CLI::App& ipam, Context& context);
void add_ipam_configure(CLI::App& ipam, Context& context);
void add_ipam_split(CLI::App& ipam, Context& context);

} // namespace manx::ctl
