// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/bird_process.h"

#include <fmt/format.h>

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <unistd.h>

extern char** environ;

namespace manx::bgp {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kFirstBackoff{200};
constexpr milliseconds kLongestBackoff{10000};
constexpr auto kStable = std::chrono::seconds(60); // up for so long: the next backoff is short
constexpr milliseconds kReadyPoll{50};
constexpr int kReadyAttempts = 200;
constexpr auto kCheckLimit = std::chrono::seconds(20);

Result<std::string> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        return fail_errno("open " + path);
    }
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Passwords may be inside: for root only.
Result<void> write_file(const std::string& path, std::string_view text) {
    UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) {
        return fail_errno("open " + path);
    }
    while (!text.empty()) {
        ssize_t n = write(fd.get(), text.data(), text.size());
        if (n < 0) {
            return fail_errno("write " + path);
        }
        text.remove_prefix(static_cast<size_t>(n));
    }
    return {};
}

std::string describe_status(int status) {
    if (WIFSIGNALED(status)) {
        return fmt::format("signal {}", WTERMSIG(status));
    }
    return fmt::format("exit status {}", WEXITSTATUS(status));
}

// What a child of ours gets: a clean signal mask, none of our descriptors, its output into one.
class SpawnSettings {
public:
    SpawnSettings(int output, bool own_session) {
        posix_spawn_file_actions_init(&actions_);
        posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions_, output, 1);
        posix_spawn_file_actions_adddup2(&actions_, output, 2);
        posix_spawn_file_actions_addclosefrom_np(&actions_, 3);
        posix_spawnattr_init(&attributes_);
        sigset_t none;
        sigemptyset(&none);
        posix_spawnattr_setsigmask(&attributes_, &none);
        sigset_t all;
        sigfillset(&all);
        posix_spawnattr_setsigdefault(&attributes_, &all);
        int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
        if (own_session) {
            flags |= POSIX_SPAWN_SETSID;
        }
        posix_spawnattr_setflags(&attributes_, static_cast<short>(flags));
    }

    SpawnSettings(const SpawnSettings&) = delete;
    SpawnSettings& operator=(const SpawnSettings&) = delete;

    ~SpawnSettings() {
        posix_spawnattr_destroy(&attributes_);
        posix_spawn_file_actions_destroy(&actions_);
    }

    Result<pid_t> run(std::vector<std::string> args) {
        std::vector<char*> argv;
        argv.reserve(args.size() + 1);
        for (std::string& arg : args) {
            argv.push_back(arg.data());
        }
        argv.push_back(nullptr);
        pid_t pid = 0;
        if (int rc = posix_spawn(&pid, argv[0], &actions_, &attributes_, argv.data(), environ);
            rc != 0) {
            return fail_errno("run " + args[0], rc);
        }
        return pid;
    }

private:
    posix_spawn_file_actions_t actions_{};
    posix_spawnattr_t attributes_{};
};

// The process of the pid file, if it lives and is a BIRD.
int find_running(const BirdPaths& paths) {
    auto text = read_file(paths.pid_file);
    if (!text) {
        return 0;
    }
    int pid = 0;
    std::from_chars(text->data(), text->data() + text->size(), pid);
    if (pid <= 1) {
        return 0;
    }
    auto name = read_file(fmt::format("/proc/{}/comm", pid));
    std::string expected = paths.binary.substr(paths.binary.rfind('/') + 1).substr(0, 15);
    return name && *name == expected + "\n" ? pid : 0;
}

} // namespace

BirdPaths BirdPaths::in(const std::string& run_dir, const std::string& state_dir) {
    BirdPaths paths;
    paths.config = state_dir + "/bird.conf";
    paths.control = run_dir + "/bird.ctl";
    paths.pid_file = run_dir + "/bird.pid";
    paths.log = run_dir + "/bird.log";
    return paths;
}

// A run of `bird -p`.
struct BirdProcess::Check {
    std::string text;
    std::string said;
    pid_t pid = 0;
    UniqueFd output;
    EventSource io;
    EventSource exit;
    EventSource limit;
    bool timed_out = false;
};

BirdProcess::BirdProcess(EventLoop& loop, BirdPaths paths)
    : loop_(loop), paths_(std::move(paths)), control_(loop, paths_.control), log_(log::get("bgp")) {
}

BirdProcess::~BirdProcess() = default;

void BirdProcess::changed() {
    if (on_change_) {
        on_change_();
    }
}

void BirdProcess::report(std::string error) {
    if (error != error_) {
        if (!error.empty()) {
            log_->error("{} config={}", error, paths_.config);
        }
        error_ = std::move(error);
    }
}

void BirdProcess::adopt() {
    int pid = find_running(paths_);
    if (pid == 0) {
        if (access(paths_.config.c_str(), R_OK) == 0) {
            // The last good configuration is better than none while the datastore is away.
            log_->info("starting BIRD with the last good configuration config={}", paths_.config);
            have_config_ = true;
            start();
        }
        return;
    }
    UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd) {
        return;
    }
    pid_ = pid;
    adopted_ = true;
    have_config_ = true;
    started_at_ = Clock::now();
    state_ = State::Starting;
    log_->info("adopting the BIRD that runs already pid={}", pid);
    watch_adopted(std::move(pidfd));
    poll_ready(0);
}

void BirdProcess::watch_adopted(UniqueFd pidfd) {
    pidfd_ = std::move(pidfd);
    auto watch = loop_.add_io(pidfd_.get(), EPOLLIN, [this](uint32_t) {
        exit_watch_ = {};
        pidfd_.reset();
        on_exit("unknown status");
    });
    if (watch) {
        exit_watch_ = std::move(*watch);
    } else {
        log_->warn("cannot watch BIRD: {} pid={}", watch.error().text(), pid_);
    }
}

void BirdProcess::set_config(std::string text) {
    if (checking_) {
        next_ = std::move(text);
        return;
    }
    if (have_config_ && text == in_force_) {
        return;
    }
    start_check(std::move(text));
}

void BirdProcess::start_check(std::string text) {
    auto check = std::make_unique<Check>();
    check->text = std::move(text);
    auto trouble = [&](const Error& error) {
        report(error.within("checking the BIRD configuration").text());
        next_ = std::move(check->text);
        retry_later(kLongestBackoff);
        changed();
    };
    std::string candidate = paths_.config + ".new";
    if (auto written = write_file(candidate, check->text); !written) {
        trouble(written.error());
        return;
    }
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
        trouble(Error{ErrorKind::System, errno, "pipe"});
        return;
    }
    check->output = UniqueFd(ends[0]);
    UniqueFd writer(ends[1]);
    auto pid = SpawnSettings(writer.get(), false).run({paths_.binary, "-p", "-c", candidate});
    if (!pid) {
        trouble(pid.error());
        return;
    }
    check->pid = *pid;
    checking_ = std::move(check);
    auto read_output = [this] {
        std::array<char, 4096> buffer{};
        ssize_t n = 0;
        while ((n = read(checking_->output.get(), buffer.data(), buffer.size())) > 0) {
            checking_->said.append(buffer.data(), static_cast<size_t>(n));
        }
        return n;
    };
    auto io = loop_.add_io(checking_->output.get(), EPOLLIN, [this, read_output](uint32_t) {
        if (read_output() == 0) {
            checking_->io = {};
        }
    });
    auto exit = loop_.add_child(*pid, [this, read_output](int status) {
        read_output();
        bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        std::string said = checking_->said;
        if (checking_->timed_out) {
            said = "bird -p does not end";
        } else if (said.empty()) {
            said = "bird -p: " + describe_status(status);
        }
        on_checked(good, said);
    });
    pid_t child = *pid;
    auto limit = loop_.add_timer(kCheckLimit, [this, child] {
        checking_->timed_out = true;
        kill(child, SIGKILL);
    });
    if (io && exit && limit) {
        checking_->io = std::move(*io);
        checking_->exit = std::move(*exit);
        checking_->limit = std::move(*limit);
        return;
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    next_ = std::move(checking_->text);
    checking_.reset();
    retry_later(kLongestBackoff);
}

void BirdProcess::on_checked(bool good, const std::string& said) {
    auto check = std::move(checking_);
    if (!good) {
        (void)rename((paths_.config + ".new").c_str(), (paths_.config + ".rejected").c_str());
        report(fmt::format("BIRD refuses the new configuration, the last good one stays: {}",
                           said.substr(0, said.find('\n'))));
        changed();
    } else if (auto installed = install(); !installed) {
        report(installed.error().text());
        changed();
    } else {
        in_force_ = std::move(check->text);
        report("");
        apply();
    }
    if (next_ && !checking_) {
        std::string text = std::move(*next_);
        next_.reset();
        set_config(std::move(text));
    }
}

Result<void> BirdProcess::install() {
    if (rename((paths_.config + ".new").c_str(), paths_.config.c_str()) != 0) {
        return fail_errno("rename " + paths_.config + ".new");
    }
    have_config_ = true;
    return {};
}

void BirdProcess::apply() {
    switch (state_) {
    case State::Idle:
        start();
        return;
    case State::Starting: // poll_ready goes on with it
    case State::Backoff:  // it starts with what is on disk
    case State::Down:
        return;
    case State::Running:
        break;
    }
    if (applying_) {
        apply_again_ = true;
        return;
    }
    applying_ = true;
    // Not "soft": changed filters must see the routes that are there already. Sessions whose own
    // settings did not change stay up all the same.
    control_.request(fmt::format("configure \"{}\"", paths_.config), [this](Result<Reply> reply) {
        applying_ = false;
        if (!reply) {
            report(reply.error().within("reconfiguring BIRD").text());
            retry_later(kLongestBackoff);
        } else if (int code = reply->code(); code == reply::kReconfigured ||
                                             code == reply::kReconfiguring ||
                                             code == reply::kReconfigurationQueued) {
            reconfigurations_++;
            report("");
            log_->info("BIRD reconfigured pid={} code={}", pid_, code);
        } else {
            report(
                fmt::format("BIRD does not take the configuration: {} {}", code, reply->message()));
        }
        if (std::exchange(apply_again_, false)) {
            apply();
        }
        changed();
    });
}

void BirdProcess::retry_later(milliseconds after) {
    auto timer = loop_.add_timer(after, [this] {
        if (next_ && !checking_) {
            std::string text = std::move(*next_);
            next_.reset();
            start_check(std::move(text));
        } else if (have_config_ && !checking_) {
            apply();
        }
    });
    if (timer) {
        retry_timer_ = std::move(*timer);
    }
}

void BirdProcess::start() {
    // Where a BIRD has left its pid file or socket, the kernel still has its routes and the peers
    // keep theirs for their restart time: go on from there.
    bool recover =
        access(paths_.pid_file.c_str(), F_OK) == 0 || access(paths_.control.c_str(), F_OK) == 0;
    if (auto spawned = spawn(recover); !spawned) {
        report(spawned.error().text());
        on_exit("not started");
        return;
    }
    starts_++;
    read_at_start_ = in_force_;
    started_at_ = Clock::now();
    state_ = State::Starting;
    adopted_ = false;
    log_->info("BIRD started pid={} graceful_restart={}", pid_, recover);
    changed();
    poll_ready(0);
}

Result<void> BirdProcess::spawn(bool recover) {
    // Never a pipe of ours: it would break when the agent ends, and BIRD with it.
    UniqueFd output(open(paths_.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!output) {
        return fail_errno("open " + paths_.log);
    }
    std::vector<std::string> args{paths_.binary, "-f",           "-c", paths_.config,
                                  "-s",          paths_.control, "-P", paths_.pid_file};
    if (recover) {
        args.emplace_back("-R");
    }
    TRY_ASSIGN(pid_, SpawnSettings(output.get(), true).run(std::move(args)));
    TRY_ASSIGN(exit_watch_,
               loop_.add_child(pid_, [this](int status) { on_exit(describe_status(status)); }));
    return {};
}

void BirdProcess::poll_ready(int attempt) {
    control_.request("show status", [this, attempt](Result<Reply> reply) {
        if (state_ != State::Starting) {
            return;
        }
        if (reply && parse_status(*reply).running) {
            state_ = State::Running;
            log_->info("BIRD answers pid={} version=\"{}\"", pid_, parse_status(*reply).version);
            // A configuration may have been installed since it read its own.
            if (!in_force_.empty() && in_force_ != read_at_start_) {
                apply();
            }
            read_at_start_.clear();
            changed();
            return;
        }
        if (attempt == kReadyAttempts) {
            report(fmt::format("BIRD does not answer on {} pid={}", paths_.control, pid_));
            changed();
        }
        auto wait = attempt < kReadyAttempts ? kReadyPoll : kLongestBackoff;
        auto timer = loop_.add_timer(wait, [this, attempt] { poll_ready(attempt + 1); });
        if (timer) {
            timer_ = std::move(*timer);
        }
    });
}

void BirdProcess::on_exit(const std::string& how) {
    pid_ = 0;
    timer_ = {};
    applying_ = false;
    control_.reset();
    if (state_ == State::Down) {
        log_->info("BIRD is down: {}", how);
        // It was meant: what starts next has nothing to recover.
        unlink(paths_.pid_file.c_str());
        unlink(paths_.control.c_str());
        changed();
        return;
    }
    bool stable = Clock::now() - started_at_ >= kStable;
    backoff_ =
        stable || backoff_.count() == 0 ? kFirstBackoff : std::min(backoff_ * 2, kLongestBackoff);
    state_ = State::Backoff;
    log_->error("BIRD has ended: {}, starting it again backoff_ms={} log={}", how, backoff_.count(),
                paths_.log);
    auto timer = loop_.add_timer(backoff_, [this] {
        state_ = State::Idle;
        if (have_config_) {
            start();
        }
    });
    if (timer) {
        timer_ = std::move(*timer);
    }
    changed();
}

void BirdProcess::down() {
    bool running = pid_ != 0;
    state_ = State::Down;
    timer_ = {};
    if (running) {
        control_.request("down", [this](Result<Reply> reply) {
            if (!reply && pid_ != 0) {
                log_->warn("BIRD does not take \"down\", ending it: {} pid={}",
                           reply.error().text(), pid_);
                kill(pid_, SIGTERM);
            }
        });
    }
    changed();
}

Result<void> BirdProcess::end(const BirdPaths& paths) {
    constexpr int kPatienceMs = 10'000;
    const int pid = find_running(paths);
    if (pid != 0) {
        const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
        if (process && kill(pid, SIGTERM) == 0) {
            pollfd wait{.fd = process.get(), .events = POLLIN, .revents = 0};
            if (poll(&wait, 1, kPatienceMs) <= 0) {
                return fail(ErrorKind::ConfigReality,
                            fmt::format("BIRD does not end pid={} log={}", pid, paths.log));
            }
        }
    }
    (void)unlink(paths.pid_file.c_str()); // most often it was never there
    (void)unlink(paths.control.c_str());
    return {};
}

} // namespace manx::bgp
