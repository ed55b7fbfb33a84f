// SPDX-License-Identifier: Apache-2.0
#include "tests/bgp/lab.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <sstream>
#include <thread>
#include <unistd.h>

namespace manx::bgp::lab {

namespace {

std::string run(const std::string& command, int& status) {
    std::string out;
    FILE* pipe = popen(("{ " + command + "\n} 2>&1").c_str(), "r");
    if (pipe == nullptr) {
        status = -1;
        return "";
    }
    std::array<char, 4096> buffer{};
    size_t n = 0;
    while ((n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0) {
        out.append(buffer.data(), n);
    }
    status = pclose(pipe);
    return out;
}

std::string slurp(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace

std::string sh(const std::string& command) {
    int status = 0;
    std::string out = run(command, status);
    EXPECT_EQ(status, 0) << command << "\n" << out;
    return out;
}

std::string sh_quiet(const std::string& command) {
    int status = 0;
    return run(command, status);
}

std::string in(const std::string& ns, const std::string& command) {
    return sh("ip netns exec " + ns + " " + command);
}

bool wait_for(const std::function<bool()>& holds, int seconds) {
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > until) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return true;
}

void reset() {
    if (getenv("MANX_LAB") == nullptr) {
        return;
    }
    // All of this process namespace but this process, its first.
    kill(-1, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
    sh("ip -all netns delete");
    sh("rm -rf /run/frr-* /run/gobgp-* /run/manx-*");
}

void add_ns(const std::string& name) {
    sh("ip netns add " + name);
    sh("ip -n " + name + " link set lo up");
    in(name, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "
             "net.ipv4.fib_multipath_hash_policy=1");
}

void add_link(const std::string& ns1, const std::string& if1, const std::string& ns2,
              const std::string& if2) {
    sh(fmt::format("ip link add {} netns {} type veth peer name {} netns {}", if1, ns1, if2, ns2));
    sh(fmt::format("ip -n {} link set {} up", ns1, if1));
    sh(fmt::format("ip -n {} link set {} up", ns2, if2));
}

void add_address(const std::string& ns, const std::string& interface, const std::string& address) {
    bool v6 = address.find(':') != std::string::npos;
    sh(fmt::format("ip -n {} addr add {} dev {}{}", ns, address, interface, v6 ? " nodad" : ""));
}

void start_frr(const std::string& ns, const std::string& bgpd_config) {
    std::string dir = "/run/frr-" + ns;
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/bgpd.conf") << "log file " << dir << "/bgpd.log\n" << bgpd_config;
    std::ofstream(dir + "/zebra.conf") << "log file " << dir << "/zebra.log\n";
    std::ofstream(dir + "/vtysh.conf");
    sh("chown -R frr:frr " + dir);
    for (const char* daemon : {"zebra", "bgpd"}) {
        in(ns, fmt::format("/usr/lib/frr/{0} -d -f {1}/{0}.conf -i {1}/{0}.pid -z {1}/zserv "
                           "--vty_socket {1} -P 0 < /dev/null",
                           daemon, dir));
    }
}

std::string vtysh(const std::string& ns, const std::string& command) {
    return sh_quiet(fmt::format("ip netns exec {0} vtysh --vty_socket /run/frr-{0} {1}", ns,
                                command.starts_with("-c") ? command : "-c '" + command + "'"));
}

void start_echo(const std::string& ns) {
    std::string path = "/run/echo.py";
    std::ofstream(path) << "import socket\n"
                           "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
                           "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)\n"
                           "s.bind(('::', 7777))\n"
                           "while True:\n"
                           "    data, info, _, peer = s.recvmsg(100, 200)\n"
                           "    s.sendmsg([data], [info[0]] if info else [], 0, peer)\n";
    in(ns, "sh -c 'python3 " + path + " > /dev/null 2>&1 < /dev/null &'");
}

bool echo(const std::string& ns, const std::string& from, const std::string& to) {
    bool v6 = to.find(':') != std::string::npos;
    std::string script = fmt::format("import socket\n"
                                     "s = socket.socket(socket.AF_INET{}, socket.SOCK_DGRAM)\n"
                                     "s.settimeout(0.5)\n"
                                     "s.bind((\"{}\", 0))\n"
                                     "for _ in range(10):\n"
                                     "    s.sendto(b\"x\", (\"{}\", 7777))\n"
                                     "    try:\n"
                                     "        print(\"echo from\", s.recvfrom(10)[1][0]); break\n"
                                     "    except OSError: pass\n",
                                     v6 ? "6" : "", from, to);
    std::ofstream("/run/ask.py") << script;
    return sh_quiet("ip netns exec " + ns + " python3 /run/ask.py").find("echo from " + to) !=
           std::string::npos;
}

void start_gobgp(const std::string& ns, const std::string& config) {
    std::string dir = "/run/gobgp-" + ns;
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/gobgpd.toml") << config;
    in(ns, fmt::format("gobgpd -t toml -f {0}/gobgpd.toml --api-hosts 127.0.0.1:50051 "
                       "--pprof-disable > {0}/log 2>&1 < /dev/null &",
                       dir));
}

std::string gobgp(const std::string& ns, const std::string& arguments) {
    return sh_quiet(fmt::format("ip netns exec {} gobgp -p 50051 {}", ns, arguments));
}

Agent::Agent(std::string ns) : ns_(std::move(ns)), dir_("/run/manx-" + ns_) {
    std::filesystem::create_directories(dir_);
    paths_ = BirdPaths::in(dir_, dir_);
}

Agent::~Agent() {
    stop();
}

void Agent::start() {
    pid_ = fork();
    ASSERT_GE(pid_, 0);
    if (pid_ == 0) {
        run();
        _exit(0);
    }
}

// In the child: an agent that knows no objects, only the text that a file holds.
void Agent::run() {
    UniqueFd ns(open(("/run/netns/" + ns_).c_str(), O_RDONLY | O_CLOEXEC));
    if (setns(ns.get(), CLONE_NEWNET) != 0) {
        _exit(3);
    }
    auto loop = EventLoop::create().value();
    BirdProcess bird(*loop, paths_);
    bird.on_change([&] { std::ofstream(dir_ + "/error") << bird.error(); });
    bird.adopt();
    auto load = [&] {
        std::string text = slurp(dir_ + "/wanted");
        if (!text.empty()) {
            bird.set_config(text);
        }
    };
    load();
    UniqueFd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    inotify_add_watch(watch.get(), dir_.c_str(), IN_MOVED_TO);
    auto io = loop->add_io(watch.get(), EPOLLIN, [&](uint32_t) {
        std::array<char, 4096> buffer{};
        std::string events;
        ssize_t n = read(watch.get(), buffer.data(), buffer.size());
        if (n > 0) {
            events.assign(buffer.data(), static_cast<size_t>(n));
        }
        if (events.find("wanted") != std::string::npos) {
            load();
        }
    });
    auto term = loop->add_signal(SIGTERM, [&] { loop->quit(); });
    loop->run();
}

void Agent::configure(const std::string& bird_config) {
    std::ofstream(dir_ + "/wanted.tmp") << bird_config;
    std::filesystem::rename(dir_ + "/wanted.tmp", dir_ + "/wanted");
}

void Agent::signal(int signo) {
    if (pid_ > 0) {
        kill(pid_, signo);
        waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }
}

void Agent::kill9() {
    signal(SIGKILL);
}

void Agent::stop() {
    signal(SIGTERM);
}

int Agent::bird_pid() const {
    std::string text = slurp(paths_.pid_file);
    return text.empty() ? 0 : std::stoi(text);
}

std::string Agent::birdc(const std::string& command) const {
    return sh_quiet("birdc -r -s " + paths_.control + " " + command);
}

std::string Agent::error() const {
    return slurp(dir_ + "/error");
}

} // namespace manx::bgp::lab

namespace {

// The process once more, in namespaces of its own.
int in_own_namespaces(char** argv) {
    setenv("MANX_LAB", "1", 1);
    std::vector<const char*> args{"unshare", "--net",        "--mount",     "--pid",
                                  "--fork",  "--kill-child", "--mount-proc"};
    std::string self = std::filesystem::read_symlink("/proc/self/exe");
    args.push_back(self.c_str());
    for (char** arg = argv + 1; *arg != nullptr; arg++) {
        args.push_back(*arg);
    }
    args.push_back(nullptr);
    execvp("unshare", const_cast<char**>(args.data()));
    perror("unshare");
    return 1;
}

} // namespace

int main(int argc, char** argv) {
    bool list = argc > 1 && std::string_view(argv[1]).starts_with("--gtest_list_tests");
    if (!list && getenv("MANX_LAB") == nullptr && geteuid() == 0) {
        return in_own_namespaces(argv);
    }
    testing::InitGoogleTest(&argc, argv);
    if (!list && geteuid() == 0) {
        if (mount("tmpfs", "/run", "tmpfs", 0, nullptr) != 0) {
            perror("mount /run");
            return 1;
        }
        mkdir("/run/netns", 0755);
    }
    return RUN_ALL_TESTS();
}
