// SPDX-License-Identifier: Apache-2.0
// Whether objects may be written: each by itself, and pools among themselves and with what is
// there. Everything of a manifest is checked before anything of it is written.
#pragma once

#include "agent/ctl/manifest.h"
#include "agent/datastore/store.h"

#include <span>

namespace manx::ctl {

// One object by itself. ConfigInvalid names the object and the field.
Result<void> validate_object(const Resource& resource);

// All of them, and against what the datastore holds.
Result<void> validate_all(std::span<const Resource> resources, datastore::Store& store);

// Whether an object may be deleted.
Result<void> validate_removal(const datastore::Key& key, datastore::Store& store);

} // namespace manx::ctl
