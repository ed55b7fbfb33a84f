// SPDX-License-Identifier: Apache-2.0
// policy-oracle --dir MANIFESTS... | --datastore FILE: reads flows as JSON lines on stdin,
//   {"from":{"pod":"ns/name"}|{"ip":"..."},"to":...,"protocol":"TCP","port":443,"family":4}
// and writes {"egress":"allow|deny","ingress":...,"verdict":...,"rule":...} per line: what must
// happen to the flow by the objects' own word.
#include "agent/datastore/sqlite_store.h"
#include "tests/oracle/oracle.h"

#include <CLI/CLI.hpp>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <fstream>
#include <iostream>

namespace {

using manx::Family;
using manx::IpAddress;
using manx::oracle::World;
using nlohmann::json;

json to_json(const YAML::Node& node) {
    switch (node.Type()) {
    case YAML::NodeType::Sequence: {
        json out = json::array();
        for (const auto& item : node) {
            out.push_back(to_json(item));
        }
        return out;
    }
    case YAML::NodeType::Map: {
        json out = json::object();
        for (const auto& item : node) {
            out[item.first.as<std::string>()] = to_json(item.second);
        }
        return out;
    }
    case YAML::NodeType::Scalar: {
        const auto text = node.as<std::string>();
        if (node.Tag() == "!") { // quoted
            return text;
        }
        if (text == "true" || text == "false") {
            return text == "true";
        }
        if (text == "null" || text == "~") {
            return nullptr;
        }
        const json number = json::parse(text, nullptr, false);
        return number.is_number() ? number : json(text);
    }
    default:
        return nullptr;
    }
}

void load(World& world, const std::filesystem::path& path) {
    for (const auto& document : YAML::LoadAllFromFile(path.string())) {
        const json object = to_json(document);
        if (object.is_object() && object.contains("items")) {
            for (const auto& item : object["items"]) {
                world.add(item);
            }
        } else if (object.is_object()) {
            world.add(object);
        }
    }
}

std::optional<IpAddress> address_of(const World& world, const json& side, Family family) {
    if (side.contains("pod")) {
        return world.pod_address(side["pod"].get<std::string>(), family);
    }
    const auto address = IpAddress::parse(side.value("ip", ""));
    return address ? std::optional(*address) : std::nullopt;
}

json answer(const World& world, const json& flow) {
    const Family family = flow.value("family", 4) == 6 ? Family::V6 : Family::V4;
    const auto from = address_of(world, flow.value("from", json::object()), family);
    const auto to = address_of(world, flow.value("to", json::object()), family);
    if (!from || !to) {
        return {{"error", from ? "to: no such pod or address" : "from: no such pod or address"}};
    }
    static const std::map<std::string, int> kProtocols{
        {"TCP", 6}, {"UDP", 17}, {"SCTP", 132}, {"ICMP", 1}, {"ICMPv6", 58}};
    const json protocol = flow.value("protocol", json("TCP"));
    manx::oracle::Query query{.from = *from, .to = *to};
    query.protocol =
        protocol.is_number() ? protocol.get<int>() : kProtocols.at(protocol.get<std::string>());
    query.port = flow.value("port", flow.value("type", 0) << 8 | flow.value("code", 0));
    query.source_port = flow.value("sourcePort", 40000);
    const auto out = world.ask(query);
    const auto word = [](bool allow) { return allow ? "allow" : "deny"; };
    return {{"egress", word(out.egress.allow)},
            {"ingress", word(out.ingress.allow)},
            {"verdict", word(out.allow())},
            {"rule", out.egress.allow ? out.ingress.rule : out.egress.rule},
            {"egressRule", out.egress.rule},
            {"ingressRule", out.ingress.rule}};
}

int load_datastore(World& world, const std::string& path) {
    auto store = manx::datastore::open_sqlite(path);
    if (!store) {
        std::cerr << store.error().text() << "\n";
        return 1;
    }
    for (const auto& kind : manx::api::all_kinds()) {
        const auto list = (*store)->list(kind.kind);
        for (const auto& object : list ? list->objects : std::vector<manx::datastore::Object>{}) {
            json parsed = json::parse(object.json);
            parsed["kind"] = kind.name;
            parsed["apiVersion"] = kind.api_version;
            world.add(parsed);
        }
    }
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"Says what network policy objects mean for a flow"};
    std::vector<std::string> dirs;
    std::string datastore;
    app.add_option("--dir", dirs, "folders or files of manifests");
    app.add_option("--datastore", datastore, "SQLite datastore");
    CLI11_PARSE(app, argc, argv);
    World world;
    try {
        for (const auto& dir : dirs) {
            if (std::filesystem::is_regular_file(dir)) {
                load(world, dir);
                continue;
            }
            for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
                const auto extension = entry.path().extension();
                if (extension == ".yaml" || extension == ".yml" || extension == ".json") {
                    load(world, entry.path());
                }
            }
        }
        if (!datastore.empty() && load_datastore(world, datastore) != 0) {
            return 1;
        }
        world.prepare();
        for (std::string line; std::getline(std::cin, line);) {
            if (!line.empty()) {
                std::cout << answer(world, json::parse(line)).dump() << std::endl;
            }
        }
    } catch (const std::exception& error) {
        std::cerr << "policy-oracle: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
