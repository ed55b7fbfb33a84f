// SPDX-License-Identifier: Apache-2.0
// Deleting an IPPool in Calico's steps, so that nobody takes an address from it meanwhile and no
// block of it is left behind: disable it, wait for allocations under way, release the affinities of
// its blocks, delete it.
#pragma once

#include "agent/datastore/store.h"
#include "base/result.h"

#include <iosfwd>

namespace manx::ctl {

// What stays, since it is in use, is told on `notes`: such a block is nobody's from then on, and
// goes with its last address.
Result<void> delete_pool(datastore::Store& store, const datastore::Key& key, std::ostream& notes);

} // namespace manx::ctl
