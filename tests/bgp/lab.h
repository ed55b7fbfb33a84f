// SPDX-License-Identifier: Apache-2.0
// A network of namespaces with other people's routers in it, for tests with real peers. The whole
// test process runs in its own mount, process and network namespaces with a private /run: names
// cannot clash, and everything in it ends with the process.
#pragma once

#include "agent/bgp/bird_process.h"

#include <sys/types.h>

#include <functional>
#include <string>

namespace manx::bgp::lab {

// Runs a command of the shell; its standard output. Fails the test if it does not exit with 0.
std::string sh(const std::string& command);
// The same, without an opinion on the status.
std::string sh_quiet(const std::string& command);
// In a namespace.
std::string in(const std::string& ns, const std::string& command);

// Waits until the predicate holds, looking every 100 ms.
bool wait_for(const std::function<bool()>& holds, int seconds = 40);

// Ends every process and namespace of the lab: first and last thing of each test.
void reset();
void add_ns(const std::string& name);
// A cable between two namespaces, both ends up.
void add_link(const std::string& ns1, const std::string& if1, const std::string& ns2,
              const std::string& if2);
void add_address(const std::string& ns, const std::string& interface, const std::string& address);

// FRR's zebra and bgpd in a namespace, with configuration, sockets and pid files of their own.
void start_frr(const std::string& ns, const std::string& bgpd_config);
std::string vtysh(const std::string& ns, const std::string& command);

// Answers UDP datagrams on port 7777, from the address that they were sent to.
void start_echo(const std::string& ns);
// Whether one comes back.
bool echo(const std::string& ns, const std::string& from, const std::string& to);

// gobgpd in a namespace (TOML), and its client.
void start_gobgp(const std::string& ns, const std::string& config);
std::string gobgp(const std::string& ns, const std::string& arguments);

// What the agent is to BIRD: a process of its own, in the node's namespace, with its own loop.
class Agent {
public:
    explicit Agent(std::string ns);
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;
    ~Agent(); // ends the agent, as stop()

    void start();
    void configure(const std::string& bird_config); // what should be in force from now on
    void kill9();
    void stop(); // SIGTERM
    // BIRD's, from its pid file; 0: none.
    [[nodiscard]] int bird_pid() const;
    std::string birdc(const std::string& command) const;
    [[nodiscard]] std::string error() const; // of the keeper; empty: none

    [[nodiscard]] const BirdPaths& paths() const { return paths_; }

private:
    void run();
    void signal(int signo);

    std::string ns_;
    std::string dir_;
    BirdPaths paths_;
    pid_t pid_ = 0;
};

} // namespace manx::bgp::lab
