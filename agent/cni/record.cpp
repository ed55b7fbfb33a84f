// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/record.h"

#include "agent/netlink/sysctl.h"
#include "base/file.h"

#include <nlohmann/json.hpp>

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <unistd.h>

namespace manx::cni {

namespace {

using nlohmann::json;

constexpr std::string_view kSuffix = ".json";
constexpr std::array<std::pair<RecordState, const char*>, 3> kStates = {{
    {RecordState::Adding, "adding"},
    {RecordState::Ready, "ready"},
    {RecordState::Releasing, "releasing"},
}};

json render_endpoint(const dataplane::LocalEndpoint& e) {
    json addresses = json::array();
    for (const auto& address : e.addresses) {
        addresses.push_back(address.text());
    }
    json ports = json::array();
    for (const auto& port : e.named_ports) {
        ports.push_back({{"name", port.name}, {"protocol", port.protocol}, {"port", port.port}});
    }
    return {{"namespace", e.ns},
            {"pod", e.pod},
            {"containerID", e.container_id},
            {"interface", e.interface},
            {"netns", e.netns},
            {"containerInterface", e.container_interface},
            {"ifindex", e.ifindex},
            {"mac", e.mac.text()},
            {"hostMac", e.host_mac.text()},
            {"addresses", std::move(addresses)},
            {"slot", e.slot},
            {"labels", e.labels},
            {"serviceAccount", e.service_account},
            {"namedPorts", std::move(ports)},
            {"anySource", false}, // says nothing; earlier versions read no record without it
            {"redirectHost", e.redirect_host},
            {"byStack", e.by_stack}};
}

Result<dataplane::LocalEndpoint> parse_endpoint(const json& object) {
    dataplane::LocalEndpoint e;
    e.ns = object.at("namespace").get<std::string>();
    e.pod = object.at("pod").get<std::string>();
    e.container_id = object.at("containerID").get<std::string>();
    e.interface = object.at("interface").get<std::string>();
    e.netns = object.at("netns").get<std::string>();
    e.container_interface = object.at("containerInterface").get<std::string>();
    e.ifindex = object.at("ifindex").get<uint32_t>();
    TRY_ASSIGN(e.mac, MacAddress::parse(object.at("mac").get<std::string>()));
    TRY_ASSIGN(e.host_mac, MacAddress::parse(object.at("hostMac").get<std::string>()));
    for (const auto& text : object.at("addresses")) {
        TRY_ASSIGN(auto address, IpAddress::parse(text.get<std::string>()));
        e.addresses.push_back(address);
    }
    e.slot = object.at("slot").get<uint16_t>();
    e.labels = object.at("labels").get<std::map<std::string, std::string>>();
    e.service_account = object.at("serviceAccount").get<std::string>();
    for (const auto& port : object.at("namedPorts")) {
        e.named_ports.push_back({port.at("name").get<std::string>(),
                                 port.at("protocol").get<uint8_t>(),
                                 port.at("port").get<uint16_t>()});
    }
    e.redirect_host = object.at("redirectHost").get<bool>();
    e.by_stack = object.value("byStack", false); // earlier versions did not know it
    return e;
}

Result<RecordState> parse_state(const std::string& text) {
    for (const auto& [state, name] : kStates) {
        if (text == name) {
            return state;
        }
    }
    return fail(ErrorKind::ConfigInvalid,
                "state: expected adding, ready or releasing, not \"" + text + "\"");
}

Result<void> make_folder(const std::string& path) {
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return fail_errno("folder " + path);
    }
    return {};
}

} // namespace

std::string ipam_handle(std::string_view network, std::string_view container_id) {
    return std::string(network) + "." + std::string(container_id);
}

std::string render_record(const Record& record) {
    json superseded = json::array();
    for (const auto& old : record.superseded) {
        superseded.push_back({{"network", old.network},
                              {"containerID", old.container_id},
                              {"containerInterface", old.container_interface},
                              {"deleted", old.deleted}});
    }
    const char* state = "";
    for (const auto& [value, name] : kStates) {
        state = value == record.state ? name : state;
    }
    const json object = {{"version", 1},
                         {"state", state},
                         {"network", record.network},
                         {"bootID", record.boot_id},
                         {"mtu", record.mtu},
                         {"endpoint", render_endpoint(record.endpoint)},
                         {"superseded", std::move(superseded)}};
    return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<Record> parse_record(std::string_view text) {
    try {
        const json object = json::parse(text);
        if (object.at("version") != 1) {
            return fail(ErrorKind::ConfigInvalid, "version: expected 1");
        }
        Record record;
        TRY_ASSIGN(record.state, parse_state(object.at("state").get<std::string>()));
        record.network = object.at("network").get<std::string>();
        record.boot_id = object.at("bootID").get<std::string>();
        record.mtu = object.at("mtu").get<uint32_t>();
        TRY_ASSIGN(record.endpoint, parse_endpoint(object.at("endpoint")));
        for (const auto& old : object.at("superseded")) {
            record.superseded.push_back(
                {old.at("network").get<std::string>(), old.at("containerID").get<std::string>(),
                 old.at("containerInterface").get<std::string>(), old.at("deleted").get<bool>()});
        }
        return record;
    } catch (const json::exception& e) {
        return fail(ErrorKind::ConfigInvalid, e.what());
    }
}

Result<RecordFolder> RecordFolder::open(const std::string& state_dir) {
    std::string path = state_dir + "/endpoints";
    TRY(make_folder(path));
    return RecordFolder(std::move(path));
}

Result<void> RecordFolder::save(const Record& record) const {
    const std::string path = path_ + "/" + record.endpoint.interface + std::string(kSuffix);
    return replace_file(path, render_record(record), Durable::No);
}

Result<void> RecordFolder::remove(const std::string& interface) const {
    const std::string path = path_ + "/" + interface + std::string(kSuffix);
    if (unlink(path.c_str()) != 0 && errno != ENOENT) {
        return fail_errno(path);
    }
    return {};
}

Result<std::vector<Record>> RecordFolder::load(std::vector<Error>& broken) const {
    std::vector<Record> records;
    std::error_code error;
    for (std::filesystem::directory_iterator it(path_, error), end; it != end;
         it.increment(error)) {
        const std::string path = it->path().string();
        if (it->path().extension() != kSuffix) {
            continue; // half written (.new), or set aside (.broken)
        }
        auto text = read_file(path);
        auto record = text ? parse_record(*text) : Result<Record>(Unexpected(text.error()));
        if (record && record->endpoint.interface != it->path().stem()) {
            record = fail(ErrorKind::ConfigInvalid, "endpoint.interface: expected the file's name");
        }
        if (record) {
            records.push_back(std::move(*record));
            continue;
        }
        broken.push_back(record.error().within(path));
        std::filesystem::rename(path, path + ".broken", error);
    }
    if (error) {
        return fail_errno(path_, error.value());
    }
    return records;
}

Result<void> RecordFolder::sync(const std::set<std::string>& interfaces) const {
    for (const std::string& interface : interfaces) {
        if (auto synced = sync_file(path_ + "/" + interface + std::string(kSuffix));
            !synced && synced.error().err != ENOENT) { // it is gone
            return synced;
        }
    }
    return sync_file(path_);
}

Result<std::string> current_boot_id() {
    return netlink::read_sysctl("kernel/random/boot_id");
}

} // namespace manx::cni
