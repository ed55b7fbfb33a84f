// SPDX-License-Identifier: Apache-2.0
// New connections per second between two network namespaces: connect, one byte there, one byte
// back, close; client and server on one CPU, for benchmarks.
//
//   bench_connections CLIENT_NS SERVER_NS ADDRESS PORT [--seconds S] [--cpu N]
//
// The server closes first, so that the client's ports are free again at once. Prints one line of
// JSON; the CPU time is both sides', the kernel's work for them included, so that the figure does
// not depend on what else runs on the machine.
#include "base/ip.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <CLI/CLI.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

using namespace manx;
using Clock = std::chrono::steady_clock;

struct Options {
    std::string client_ns;
    std::string server_ns;
    std::string address;
    uint16_t port = 0;
    double seconds = 1;
    int cpu = 0;
};

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;

    [[nodiscard]] const sockaddr* get() const {
        return static_cast<const sockaddr*>(static_cast<const void*>(&storage));
    }
};

Result<Address> address_of(const Options& options) {
    TRY_ASSIGN(const IpAddress ip, IpAddress::parse(options.address));
    Address out;
    if (ip.is_v4()) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = htons(options.port);
        std::memcpy(&in.sin_addr, ip.bytes().data(), sizeof(in.sin_addr));
        out.size = sizeof(in);
        std::memcpy(&out.storage, &in, sizeof(in));
    } else {
        sockaddr_in6 in{};
        in.sin6_family = AF_INET6;
        in.sin6_port = htons(options.port);
        std::memcpy(&in.sin6_addr, ip.bytes().data(), sizeof(in.sin6_addr));
        out.size = sizeof(in);
        std::memcpy(&out.storage, &in, sizeof(in));
    }
    return out;
}

Result<void> enter(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || setns(fd.get(), CLONE_NEWNET) < 0) {
        return fail_errno("enter " + path);
    }
    return {};
}

Result<UniqueFd> listen_at(const Address& address) {
    UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd.get(), address.get(), address.size) < 0 || listen(fd.get(), 1024) < 0) {
        return fail_errno("listen");
    }
    return fd;
}

// Until it is killed.
void serve(int listener) {
    for (;;) {
        const UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        char byte = 0;
        if (fd && read(fd.get(), &byte, 1) == 1) {
            (void)!write(fd.get(), &byte, 1); // a client that is gone counts nothing
        }
    }
}

bool exchange(const Address& address) {
    const UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    char byte = 'x';
    return fd && connect(fd.get(), address.get(), address.size) == 0 &&
           write(fd.get(), &byte, 1) == 1 && read(fd.get(), &byte, 1) == 1 &&
           read(fd.get(), &byte, 1) == 0;
}

double cpu_seconds(const rusage& usage) {
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double own_cpu() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return cpu_seconds(usage);
}

Result<void> run(const Options& options) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(options.cpu), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0) {
        return fail_errno("bind to a CPU");
    }
    TRY_ASSIGN(const Address address, address_of(options));
    TRY(enter(options.server_ns));
    TRY_ASSIGN(const UniqueFd listener, listen_at(address));
    const pid_t server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(listener.get());
    }
    TRY(enter(options.client_ns));
    std::vector<float> times;
    times.reserve(100'000);
    uint64_t failed = 0;
    const double cpu_before = own_cpu();
    const auto start = Clock::now();
    auto now = start;
    const auto end = start + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double>(options.seconds));
    while (now < end && failed < 10) {
        const bool fine = exchange(address);
        const auto then = std::exchange(now, Clock::now());
        if (fine) {
            times.push_back(std::chrono::duration<float, std::micro>(now - then).count());
        } else {
            failed++;
        }
    }
    const double client_cpu = own_cpu() - cpu_before;
    kill(server, SIGKILL);
    rusage usage{};
    wait4(server, nullptr, 0, &usage);
    std::ranges::sort(times);
    std::printf("{\"connections\": %zu, \"failed\": %lu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, "
                "\"p50_us\": %.1f, \"p99_us\": %.1f}\n",
                times.size(), failed, std::chrono::duration<double>(now - start).count(),
                client_cpu + cpu_seconds(usage),
                times.empty() ? 0.0 : static_cast<double>(times[times.size() / 2]),
                times.empty() ? 0.0 : static_cast<double>(times[times.size() * 99 / 100]));
    return {};
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("new connections per second, for benchmarks");
    Options options;
    app.add_option("client", options.client_ns, "network namespace")->required();
    app.add_option("server", options.server_ns, "network namespace")->required();
    app.add_option("address", options.address, "of the server")->required();
    app.add_option("port", options.port)->required();
    app.add_option("--seconds", options.seconds);
    app.add_option("--cpu", options.cpu);
    CLI11_PARSE(app, argc, argv);
    if (auto done = run(options); !done) {
        std::fprintf(stderr, "bench_connections: %s\n", done.error().text().c_str());
        return 1;
    }
    return 0;
}
