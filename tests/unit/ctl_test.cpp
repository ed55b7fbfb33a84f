// SPDX-License-Identifier: Apache-2.0
// manxctl as an operator meets it: commands in, text and exit code out.
#include "agent/ctl/run.h"
#include "agent/ctl/yaml.h"
#include "base/unique_fd.h"
#include "tests/unit/store_fixture.h"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <fstream>
#include <sstream>
#include <thread>

namespace manx::ctl {
namespace {

using nlohmann::json;

struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
};

class CtlTest : public testing::Test {
protected:
    Outcome run(std::vector<std::string> args, const std::string& input = "") {
        args.insert(args.begin(), {"--datastore", folder.file("store.db")});
        std::istringstream in(input);
        std::ostringstream out;
        std::ostringstream err;
        int code = ctl::run(args, in, out, err);
        return {code, out.str(), err.str()};
    }

    Outcome apply(const std::string& text) { return run({"apply", "-f", "-"}, text); }

    std::unique_ptr<datastore::Store> store() {
        return *datastore::open_sqlite(folder.file("store.db"));
    }

    void write(const std::string& name, const std::string& text) {
        std::ofstream(folder.file(name)) << text;
    }

    datastore::TemporaryFolder folder;
};

std::string pool(const std::string& name, const std::string& cidr, const std::string& more = "") {
    return "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: " + name +
           ", labels: {zone: a}}\nspec: {cidr: " + cidr + more + "}\n";
}

TEST_F(CtlTest, AppliesAndShows) {
    Outcome applied =
        apply(pool("b", "10.1.0.5/16", ", natOutgoing: true") + pool("a", "fd00::/48"));
    EXPECT_EQ(applied.err, "");
    EXPECT_EQ(applied.out, "Successfully applied 2 'IPPool' resource(s)\n");
    EXPECT_EQ(run({"get", "ippools"}).out, "NAME   CIDR          SELECTOR\n"
                                           "a      fd00::/48     all()\n"
                                           "b      10.1.0.0/16   all()\n\n");
    EXPECT_EQ(run({"get", "pool", "b", "-o", "wide"}).out,
              "NAME   CIDR          NAT    IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   "
              "SELECTOR   ASSIGNMENTMODE\n"
              "b      10.1.0.0/16   true   Never      Never       false      false              "
              "all()      Automatic\n\n");
    json stored = json::parse(store()->get(datastore::pool_key("a"))->json);
    EXPECT_EQ(stored["apiVersion"], "crd.projectcalico.org/v1");
    EXPECT_FALSE(stored["metadata"].contains("labels")); // inside the annotation
    EXPECT_EQ(stored["spec"]["blockSize"], 122);
}

TEST_F(CtlTest, WhatIsShownCanBeApplied) {
    ASSERT_EQ(apply(pool("a", "10.0.0.0/16")).code, 0);
    std::string before = store()->get(datastore::pool_key("a"))->resource_version;
    for (const char* format : {"yaml", "json"}) {
        std::string text = run({"get", "ippool", "a", "-o", format}).out;
        EXPECT_NE(text.find("projectcalico.org/v3"), std::string::npos);
        EXPECT_NE(text.find("zone"), std::string::npos);
        Outcome again = apply(text);
        EXPECT_EQ(again.code, 0) << again.err;
        EXPECT_EQ(apply(run({"get", "ippool", "-o", format}).out).code, 0);
    }
    // The author's creationTimestamp has settled in the annotation at most once.
    json stored = json::parse(store()->get(datastore::pool_key("a"))->json);
    EXPECT_LE(std::stoi(stored["metadata"]["resourceVersion"].get<std::string>()),
              std::stoi(before) + 1);
}

TEST_F(CtlTest, NothingIsWrittenOfAManifestWithAMistake) {
    Outcome outcome = apply(pool("a", "10.0.0.0/16") + pool("b", "10.0.128.0/24"));
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.err, "IPPool b: spec.cidr: 10.0.128.0/24 overlaps 10.0.0.0/16 of IPPool a\n");
    EXPECT_EQ(store()->list(api::Kind::IpPool)->objects.size(), 0U);
}

struct Mistake {
    const char* text;
    const char* message; // behind "standard input: "
};

class CtlMistakes : public CtlTest, public testing::WithParamInterface<Mistake> {};

TEST_P(CtlMistakes, AreNamed) {
    Outcome outcome = apply(GetParam().text);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err, std::string("standard input: ") + GetParam().message + "\n");
}

INSTANTIATE_TEST_SUITE_P(
    All, CtlMistakes,
    testing::Values(
        Mistake{"{apiVersion: v1, kind: Toaster, metadata: {name: a}}",
                "apiVersion \"v1\", kind \"Toaster\": unknown kind of object"},
        Mistake{"kind: IPPool", "expected an object with apiVersion and kind"},
        Mistake{"7", "expected an object"},
        Mistake{"{apiVersion: v1, kind: List}", "List: items: expected a list"},
        Mistake{"{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: A_b}}",
                "IPPool \"A_b\": metadata.name: expected lower case letters, digits, '-' and '.', "
                "at most 253 of them"},
        Mistake{"{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}}",
                "IPPool a: spec.cidr: is required"},
        Mistake{"{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, "
                "spec: {cidr: 10.0.0.0/16, natOutgoing: \"true\"}}",
                "IPPool a: spec.natOutgoing: expected true or false, found a string"},
        Mistake{"{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {x: 1}}}",
                "Pod default/a: metadata.labels: \"x\": expected a string, found a number"},
        Mistake{"[", "line 1, column 1: end of sequence flow not found"},
        Mistake{"a: 1\na: 2", "line 2, column 1: key \"a\" is given twice"}));

TEST_F(CtlTest, PoolsKeepTheirCidrAndBlockSize) {
    ASSERT_EQ(apply(pool("a", "10.0.0.0/16")).code, 0);
    EXPECT_EQ(apply(pool("a", "10.1.0.0/16")).err,
              "IPPool a: spec.cidr: 10.1.0.0/16: cannot change; it is 10.0.0.0/16\n");
    EXPECT_EQ(run({"patch", "ippool", "a", "-p", R"({"spec":{"blockSize":28}})"}).err,
              "IPPool a: spec.blockSize: 28: cannot change; it is 26\n");
    EXPECT_EQ(run({"patch", "ippool", "a", "-p", R"({"spec":{"disabled":true}})"}).out,
              "Successfully patched 1 'IPPool' resource\n");
}

TEST_F(CtlTest, CreateReplaceDelete) {
    std::string a = pool("a", "10.0.0.0/16");
    EXPECT_EQ(run({"replace", "-f", "-"}, a).err,
              "failed to replace any resource: resource does not exist: IPPool(a)\n");
    EXPECT_EQ(run({"create", "-f", "-"}, a).out, "Successfully created 1 'IPPool' resource(s)\n");
    EXPECT_EQ(run({"create", "-f", "-"}, pool("b", "10.1.0.0/16") + a).err,
              "failed to create any resource: resource already exists: IPPool(a)\n");
    EXPECT_EQ(store()->list(api::Kind::IpPool)->objects.size(), 1U); // b neither
    EXPECT_EQ(run({"create", "--skip-exists", "-f", "-"}, a).code, 0);
    EXPECT_EQ(run({"replace", "-f", "-"}, a).out, "Successfully replaced 1 'IPPool' resource(s)\n");
    EXPECT_EQ(run({"delete", "ippool", "a"}).out, "Successfully deleted 1 'IPPool' resource(s)\n");
    EXPECT_EQ(run({"delete", "ippool", "a"}).err,
              "failed to delete any resource: resource does not exist: IPPool(a)\n");
    EXPECT_EQ(run({"delete", "ippool", "a", "-s"}).code, 0);
    EXPECT_EQ(run({"get", "ippool", "a"}).err,
              "resource does not exist: IPPool(a) with error: IPPool a: not found\n");
}

TEST_F(CtlTest, AStaleVersionIsAConflict) {
    ASSERT_EQ(apply(pool("a", "10.0.0.0/16")).code, 0);
    std::string text = run({"get", "ippool", "a", "-o", "yaml"}).out;
    ASSERT_EQ(run({"patch", "ippool", "a", "-p", "{spec: {disabled: true}}"}).code, 0);
    Outcome stale = run({"replace", "-f", "-"}, text);
    EXPECT_EQ(stale.code, 1);
    EXPECT_NE(stale.err.find("it was changed meanwhile"), std::string::npos) << stale.err;
}

TEST_F(CtlTest, FoldersAndLists) {
    write("1.yaml", pool("a", "10.0.0.0/16"));
    write("2.json", R"json({"apiVersion": "v1", "kind": "List", "items": [
      {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
      {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicyList", "items": [
        {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
         "metadata": {"name": "p", "namespace": "shop"}, "spec": {"selector": "all()"}}]}]})json");
    write("readme.txt", "not an object");
    std::filesystem::create_directory(folder.file("below"));
    write("below/3.yml", pool("b", "10.1.0.0/16"));
    EXPECT_EQ(run({"apply", "-f", folder.file("")}).out, "Successfully applied 3 resource(s)\n");
    EXPECT_EQ(run({"apply", "-R", "-f", folder.file("")}).out,
              "Successfully applied 4 resource(s)\n");
    EXPECT_EQ(run({"get", "np", "-n", "shop", "-o", "wide"}).out,
              "NAMESPACE   NAME   TIER      ORDER   SELECTOR\n"
              "shop        p      default           all()\n\n");
    EXPECT_EQ(run({"apply", "-f", folder.file("below/none.yaml")}).code, 1);
}

TEST_F(CtlTest, ApplyOfAPodKeepsWhatTheNetworkWrote) {
    std::string pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns}, "
                      "spec: {nodeName: n1, containers: []}}";
    ASSERT_EQ(apply(pod).code, 0);
    datastore::Key key{api::Kind::Pod, "ns", "p"};
    ASSERT_TRUE(store()->patch(
        key, {{"metadata", {{"annotations", {{"cni.projectcalico.org/podIP", "10.0.0.1/32"}}}}},
              {"status", {{"podIP", "10.0.0.1"}, {"phase", "Running"}}}}));
    ASSERT_EQ(apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns, "
                    "labels: {a: b}}, spec: {containers: []}}")
                  .code,
              0);
    EXPECT_EQ(run({"get", "pods", "-n", "ns"}).out,
              "NAMESPACE   NAME   IPS        NODE   PHASE\n"
              "ns          p      10.0.0.1   n1     Running\n\n");
    EXPECT_EQ(run({"get", "wep", "-n", "ns"}).out,
              "NAMESPACE   WORKLOAD   NODE   NETWORKS      INTERFACE\n"
              "ns          p          n1     10.0.0.1/32   cali0ad56bf5e97\n\n");
}

// kube-controllers moves a policy from default.NAME to NAME: for a while both are stored.
TEST_F(CtlTest, APolicyThatIsStoredTwiceIsShownOnce) {
    for (const char* stored : {"default.web", "web", "default.old"}) {
        const json policy = {{"apiVersion", "crd.projectcalico.org/v1"},
                             {"kind", "GlobalNetworkPolicy"},
                             {"metadata", {{"name", stored}}},
                             {"spec", {{"tier", "default"}, {"selector", "all()"}}}};
        ASSERT_TRUE(store()->create({api::Kind::GlobalNetworkPolicy, "", stored}, policy));
    }
    const json shown = json::parse(run({"get", "gnp", "-o", "json"}).out);
    ASSERT_EQ(shown["items"].size(), 2U);
    EXPECT_EQ(shown["items"][0]["metadata"]["name"], "old");
    EXPECT_EQ(shown["items"][1]["metadata"]["name"], "web");
}

TEST_F(CtlTest, ExplainNamesWhatItLacks) {
    const auto explain = [&](std::vector<std::string> more) {
        more.insert(more.begin(),
                    {"policy", "explain", "--bpffs", "", "--from", "10.0.0.1", "--to", "10.0.0.2"});
        return run(more);
    };
    EXPECT_NE(explain({}).err.find("--port: expected with TCP"), std::string::npos);
    EXPECT_EQ(explain({"--port", "80"}).err, "");
    EXPECT_EQ(explain({"--protocol", "icmp"}).err, "");
    write("odd.yaml", "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n"
                      "metadata: {name: odd}\nspec: {selector: all(), mode: x}\n");
    const Outcome odd = explain({"--port", "80", "--manifest", folder.file("odd.yaml")});
    EXPECT_NE(odd.err.find("GlobalNetworkPolicy odd: spec.mode: unknown field"), std::string::npos)
        << odd.err;
}

TEST_F(CtlTest, NodesInBothForms) {
    ASSERT_EQ(apply("{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n1}, "
                    "spec: {bgp: {ipv4Address: 10.0.0.5/24, asNumber: 64513}}}")
                  .code,
              0);
    ASSERT_EQ(apply("{apiVersion: v1, kind: Node, metadata: {name: n2, annotations: "
                    "{projectcalico.org/IPv6Address: 'fd00::5/64'}}}")
                  .code,
              0);
    EXPECT_EQ(run({"get", "nodes", "-o", "wide"}).out,
              "NAME   ASN       IPV4          IPV6\n"
              "n1     64513     10.0.0.5/24\n"
              "n2     (64512)                 fd00::5/64\n\n");
}

TEST_F(CtlTest, LabelsAndTiers) {
    ASSERT_EQ(apply(pool("a", "10.0.0.0/16")).code, 0);
    EXPECT_EQ(run({"label", "ippool", "a", "zone=b"}).code, 1);
    EXPECT_EQ(run({"label", "ippool", "a", "zone=b", "--overwrite"}).code, 0);
    EXPECT_EQ(run({"label", "ippool", "a", "zone", "--remove"}).code, 0);
    EXPECT_EQ(run({"get", "ippool", "a", "-o", "yaml"}).out.find("zone"), std::string::npos);
    ASSERT_EQ(apply("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}, "
                    "spec: {order: 5}}\n---\n"
                    "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, "
                    "metadata: {name: g}, spec: {tier: t, selector: all()}}")
                  .code,
              0);
    EXPECT_NE(run({"delete", "tier", "t"}).err.find("Tier t: GlobalNetworkPolicy g is in it"),
              std::string::npos);
    EXPECT_EQ(run({"delete", "gnp", "g"}).code, 0);
    EXPECT_EQ(run({"delete", "tier", "t"}).code, 0);
}

// Answers one connection on a unix socket with a text, and keeps the request.
class FakeAgent {
public:
    FakeAgent(const std::string& path, std::string answer)
        : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), answer_(std::move(answer)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(listen(fd_.get(), 1), 0);
        thread_ = std::thread([this] {
            UniqueFd peer(accept(fd_.get(), nullptr, nullptr));
            std::array<char, 1000> buffer{};
            ssize_t n = read(peer.get(), buffer.data(), buffer.size());
            request.assign(buffer.data(), n > 0 ? static_cast<size_t>(n) : 0);
            EXPECT_EQ(::write(peer.get(), answer_.data(), answer_.size()),
                      static_cast<ssize_t>(answer_.size()));
        });
    }

    FakeAgent(const FakeAgent&) = delete;
    FakeAgent& operator=(const FakeAgent&) = delete;

    ~FakeAgent() { thread_.join(); }

    std::string request;

private:
    UniqueFd fd_;
    std::string answer_;
    std::thread thread_;
};

TEST_F(CtlTest, StatusOfTheAgent) {
    std::string socket = folder.file("agent.sock");
    std::string status = R"json({"node": "n1", "version": "0.1.0", "ready": false,
      "notReady": ["no uplink"], "datastore": {"path": "/x.db", "synced": true, "trouble": ""},
      "bgp": {"running": true, "error": "", "peers": [{"name": "Global_10_0_0_1",
        "address": "10.0.0.1", "as": 64512, "state": "Established", "since": "02:00:00",
        "imported": 3, "exported": 2}]},
      "uplinks": [], "endpoints": [{"namespace": "shop", "pod": "web", "device": "cali1",
        "addresses": ["10.65.0.2", "fd00::2"]}],
      "packets": {"from_workload": {"drop_policy_egress": {"packets": 7, "bytes": 700},
                                    "redirect_peer": {"packets": 1, "bytes": 1}}},
      "invalidObjects": {"IPPool a": "spec.cidr: is required"},
      "notEnforced": [{"kind": "GlobalNetworkPolicy", "namespace": "", "name": "g",
                       "field": "spec.preDNAT", "meaning": "no effect"},
                      {"kind": "Pod", "namespace": "shop", "name": "web",
                       "field": "metadata.annotations[x]", "meaning": "not reached"}]})json";
    {
        FakeAgent agent(socket, "HTTP/1.0 200 OK\r\nX: y\r\n\r\n" + status);
        EXPECT_EQ(run({"status", "--socket", socket}).out,
                  "Node:        n1\n"
                  "Agent:       v0.1.0, not ready: no uplink\n"
                  "Datastore:   /x.db, in sync\n\n"
                  "BGP peers:\n"
                  "ADDRESS    ASN     STATE         SINCE      IMPORTED   EXPORTED   SESSION\n"
                  "10.0.0.1   64512   Established   02:00:00   3          2          "
                  "Global_10_0_0_1\n\n"
                  "Uplinks: none\n\n"
                  "Endpoints:\n"
                  "NAMESPACE   POD   ADDRESSES           DEVICE\n"
                  "shop        web   10.65.0.2,fd00::2   cali1\n\n"
                  "Drops:\n"
                  "HOOK            REASON               PACKETS   BYTES\n"
                  "from_workload   drop_policy_egress   7         700\n\n"
                  "Objects that are not in force as they stand:\n"
                  "OBJECT     REASON\n"
                  "IPPool a   spec.cidr: is required\n\n"
                  "What objects ask for and this node does not do:\n"
                  "OBJECT                  FIELD                     MEANING\n"
                  "GlobalNetworkPolicy g   spec.preDNAT              no effect\n"
                  "Pod shop/web            metadata.annotations[x]   not reached\n\n");
    }
    Outcome gone = run({"status", "--socket", socket}); // the file is there, nobody listens
    EXPECT_EQ(gone.code, 1);
    EXPECT_EQ(gone.err, "no agent answers on " + socket +
                            " (is manx-agent running on this node?): Connection refused\n");
    std::filesystem::remove(socket);
    {
        FakeAgent agent(socket, "rubbish");
        EXPECT_EQ(run({"status", "--socket", socket}).err, "agent: /status: not an answer\n");
    }
}

TEST_F(CtlTest, UsageErrors) {
    EXPECT_EQ(run({}).code, 1);
    EXPECT_EQ(run({"bake"}).code, 1);
    EXPECT_EQ(run({"get"}).code, 1);
    EXPECT_EQ(run({"get", "toaster"}).err, "\"toaster\": unknown kind of object\n");
    EXPECT_EQ(run({"get", "ippool", "-o", "xml"}).code, 1);
    EXPECT_EQ(run({"--help"}).code, 0);
}

json one(const std::string& text) {
    auto documents = parse_yaml(text);
    EXPECT_TRUE(documents) << text << ": " << documents.error().message;
    return documents && documents->size() == 1 ? documents->front() : json("not one document");
}

TEST(Yaml, ScalarsAsKubernetesReadsThem) {
    EXPECT_EQ(
        one("[1, '1', \"1\", 1.5, true, 'true', yes, ~, null, '', 10.0.0.1, 1e3]"),
        json({1, "1", "1", 1.5, true, "true", true, nullptr, nullptr, "", "10.0.0.1", 1000.0}));
    EXPECT_EQ(one("[0x10, 010, -5, +5, 18446744073709551615, 1787392800123456789, 1_0, 089]"),
              json({16, 8, -5, 5, 18446744073709551615ULL, 1787392800123456789LL, "1_0", 89.0}));
    EXPECT_EQ(one("!!str 12"), "12");
    EXPECT_EQ(one("2620:0:861:10c::1"), "2620:0:861:10c::1");
    EXPECT_EQ(one("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}"),
              json({{"a", {{"k", 1}}}, {"b", {{"k", 1}}}, {"c", {{"k", 1}, {"l", 2}}}}));
    EXPECT_EQ(parse_yaml("a: 1\n---\n---\nb: 2\n")->size(), 2U);
    EXPECT_FALSE(parse_yaml("!!int x"));
}

TEST(Yaml, AliasesCannotExplode) {
    std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 9; i++) {
        std::string last = "*a" + std::to_string(i - 1);
        bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
        for (int n = 0; n < 10; n++) {
            bomb += (n == 0 ? "" : ", ") + last;
        }
        bomb += "]\n";
    }
    EXPECT_FALSE(parse_yaml(bomb));
    EXPECT_FALSE(parse_yaml(std::string(5000, '[')));
}

TEST(Yaml, RoundTrip) {
    json value = {
        {"a", {1, 2.5, "1", "true", "", "a: b", "- x", " lead", "multi\nline", "#c", "é"}},
        {"empty", {{"o", json::object()}, {"l", json::array()}}},
        {"list", {{{"k", 1}, {"l", {1, 2}}}, json::array({1, json::array({2})})}},
        {"12", nullptr},
        {"time", "2026-11-24T02:07:10Z"},
        {"sixty", "20:30"},
        {"big", 1787392800123456789LL},
        {"y", "y"}};
    EXPECT_EQ(one(to_yaml(value)), value) << to_yaml(value);
    EXPECT_EQ(to_yaml({{"a", {{{"b", 1}, {"c", "x"}}}}, {"d", "7"}}),
              "a:\n- b: 1\n  c: x\nd: \"7\"\n");
}

} // namespace
} // namespace manx::ctl
