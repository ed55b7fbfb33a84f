// SPDX-License-Identifier: Apache-2.0
// What every command of manxctl has at hand: the datastore, the agent's socket, its streams, and
// the place where its outcome goes.
#pragma once

#include "agent/datastore/store.h"
#include "base/result.h"

#include <iosfwd>
#include <memory>
#include <string>

namespace manx::ctl {

class Context {
public:
    Context(std::istream& input, std::ostream& output, std::ostream& errors);
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    ~Context();

    // The datastore, opened at the first call: --datastore, else MANX_DATASTORE, else the key
    // datastore.path of the configuration file, else the agent's default path.
    Result<datastore::Store*> store();

    // A command's callback ends with it: an error goes to the error stream, and makes the exit
    // code 1.
    void finish(const Result<void>& outcome);

    [[nodiscard]] int exit_code() const { return exit_code_; }

    std::istream& in;
    std::ostream& out;
    std::ostream& err;

    // Options of the whole program, set before any command's callback runs.
    std::string datastore_path; // --datastore
    std::string config_path;    // --config
    std::string agent_socket;   // --socket

private:
    std::unique_ptr<datastore::Store> store_;
    int exit_code_ = 0;
};

} // namespace manx::ctl
