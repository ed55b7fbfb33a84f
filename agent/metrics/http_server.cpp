// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/http_server.h"

#include "base/ip.h"

#include <fmt/format.h>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <microhttpd.h>
#include <unistd.h>

namespace manx::metrics {

namespace {

MHD_Result on_request(void* cls, MHD_Connection* connection, const char* url, const char* method,
                      const char* /*version*/, const char* /*upload*/, size_t* upload_size,
                      void** context) {
    static int first_call;
    if (*context == nullptr) {
        *context = &first_call; // headers only; the request is answered at the second call
        return MHD_YES;
    }
    if (*upload_size != 0) {
        *upload_size = 0; // a body is of no use to us
        return MHD_YES;
    }
    auto answer = static_cast<HttpServer*>(cls)->respond(method, url);
    MHD_Response* response = MHD_create_response_from_buffer(answer.body.size(), answer.body.data(),
                                                             MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.content_type.c_str());
    MHD_Result result = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return result;
}

} // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::create(EventLoop& loop, UniqueFd listen_fd) {
    std::unique_ptr<HttpServer> server(new HttpServer(loop));
    server->daemon_ =
        MHD_start_daemon(MHD_USE_EPOLL, 0, nullptr, nullptr, on_request, server.get(),
                         MHD_OPTION_LISTEN_SOCKET, listen_fd.get(), MHD_OPTION_CONNECTION_LIMIT,
                         64U, MHD_OPTION_CONNECTION_TIMEOUT, 10U, MHD_OPTION_END);
    if (server->daemon_ == nullptr) {
        return fail(ErrorKind::Library, "HTTP server: the daemon did not start");
    }
    (void)listen_fd.release(); // the daemon closes it
    const auto* info = MHD_get_daemon_info(server->daemon_, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == nullptr) {
        return fail(ErrorKind::Library, "HTTP server: no epoll descriptor");
    }
    TRY_ASSIGN(server->io_, loop.add_io(info->epoll_fd, EPOLLIN,
                                        [raw = server.get()](uint32_t) { raw->turn(); }));
    return server;
}

HttpServer::~HttpServer() {
    io_ = {};
    timer_ = {};
    if (daemon_ != nullptr) {
        MHD_stop_daemon(daemon_);
    }
}

void HttpServer::turn() {
    MHD_run(daemon_);
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    timer_ = {};
    if (MHD_get_timeout(daemon_, &wait_ms) == MHD_YES) {
        auto timer = loop_.add_timer(std::chrono::milliseconds(wait_ms), [this] { turn(); });
        if (timer) {
            timer_ = std::move(*timer);
        }
    }
}

void HttpServer::handle(const std::string& path, Handler handler) {
    handlers_[path] = std::move(handler);
}

HttpResponse HttpServer::respond(const std::string& method, const std::string& path) const {
    if (method != "GET" && method != "HEAD") {
        return {.status = 405, .body = "only GET is answered\n"};
    }
    auto found = handlers_.find(path);
    if (found == handlers_.end()) {
        return {.status = 404, .body = "no such page\n"};
    }
    return found->second(path);
}

Result<UniqueFd> listen_tcp(const std::string& address, uint16_t port) {
    TRY_ASSIGN(auto ip, IpAddress::parse(address));
    auto what = fmt::format("listen on {} port {}", address, port);
    UniqueFd fd(
        socket(ip.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return fail_errno(what);
    }
    int one = 1;
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); // a nicety
    sockaddr_storage storage{};
    socklen_t length = 0;
    if (ip.is_v4()) {
        auto* in = reinterpret_cast<sockaddr_in*>(&storage);
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        std::memcpy(&in->sin_addr, ip.bytes().data(), 4);
        length = sizeof *in;
    } else {
        auto* in = reinterpret_cast<sockaddr_in6*>(&storage);
        in->sin6_family = AF_INET6;
        in->sin6_port = htons(port);
        std::memcpy(&in->sin6_addr, ip.bytes().data(), 16);
        length = sizeof *in;
    }
    if (bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0 ||
        listen(fd.get(), 64) != 0) {
        return fail_errno(what);
    }
    return fd;
}

Result<UniqueFd> listen_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: expected a path shorter than {} characters", path,
                                sizeof address.sun_path));
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
        return fail(ErrorKind::ConfigReality, fmt::format("{}: another agent listens there", path));
    }
    (void)unlink(path.c_str()); // a leftover; a real obstacle shows in bind
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    mode_t old = umask(0177);
    int rc = bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    int err = errno;
    umask(old);
    if (rc != 0) {
        return fail_errno("listen on " + path, err);
    }
    if (listen(fd.get(), 128) != 0) {
        return fail_errno("listen on " + path);
    }
    return fd;
}

} // namespace manx::metrics
