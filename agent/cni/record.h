// SPDX-License-Identifier: Apache-2.0
// What the CNI server remembers of each attachment, across restarts of the agent: one JSON file
// per interface in <state dir>/endpoints, replaced by rename.
//
// A record is written before anything is taken for the attachment (an address, a device), and
// removed after everything has been given back. So whenever the agent dies, the records name
// everything that may have to be undone. save() does not wait for the disk: a crash of the machine
// takes the devices with it, and addresses whose record was lost are found by IPAM's own check of
// owners. sync() makes a batch durable.
//
// Threading: any thread, but calls for one interface do not overlap.
#pragma once

#include "agent/dataplane/local_endpoint.h"
#include "base/result.h"

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace manx::cni {

enum class RecordState {
    Adding,    // an ADD is at work, or was when the agent died: undo it
    Ready,     // answered
    Releasing, // the device is gone, its addresses are still to be given back
};

// A sandbox of the same pod whose device was taken over by a later one; its addresses are given
// back by its own DEL or by GC.
struct Superseded {
    std::string network;
    std::string container_id;
    std::string container_interface;
    bool deleted = false; // its DEL has come; giving back is tried again

    bool operator==(const Superseded&) const = default;
};

struct Record {
    RecordState state = RecordState::Adding;
    std::string network; // name of the CNI network: first part of the IPAM handle
    std::string boot_id; // of the kernel that has the device
    uint32_t mtu = 0;
    dataplane::LocalEndpoint endpoint; // its interface is the record's key
    std::vector<Superseded> superseded;

    bool operator==(const Record&) const = default;
};

// "<network>.<container id>"
std::string ipam_handle(std::string_view network, std::string_view container_id);

std::string render_record(const Record& record);
// ConfigInvalid names the field.
Result<Record> parse_record(std::string_view json);

class RecordFolder {
public:
    // Makes the folder where it is not there (the state directory must exist).
    static Result<RecordFolder> open(const std::string& state_dir);

    [[nodiscard]] Result<void> save(const Record& record) const;
    [[nodiscard]] Result<void> remove(const std::string& interface) const; // not there: no error
    // All that parse. One that does not is renamed to <name>.broken and reported in `broken`.
    [[nodiscard]] Result<std::vector<Record>> load(std::vector<Error>& broken) const;
    // What was saved for them survives a crash of the machine; a record that was removed since is
    // no error. Waits for the disk, for these files only.
    [[nodiscard]] Result<void> sync(const std::set<std::string>& interfaces) const;

private:
    explicit RecordFolder(std::string path) : path_(std::move(path)) {}

    std::string path_;
};

// This boot of the kernel.
Result<std::string> current_boot_id();

} // namespace manx::cni
