// SPDX-License-Identifier: Apache-2.0
// manxctl ipam check: the doctor. Runs beside everything else: what looks wrong is looked at again
// after a while, and only what is unchanged is a problem; each repair looks once more.
#include "agent/ctl/ipam_commands.h"
#include "agent/ctl/ipam_report.h"
#include "agent/ipam/repair.h"
#include "agent/ipam/survey.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ostream.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <thread>

namespace manx::ctl {

namespace {

struct CheckOptions {
    bool show_all = false;
    bool show_problems = false;
    bool fix = false;
    double settle = 5;
    std::string output;
    std::string kubeconfig; // accepted for calicoctl's sake
};

bool suspicious(const ipam::Survey& found) {
    return !found.leaks.empty() || !found.handles.empty() || !found.affinities.empty() ||
           !found.no_affinity.empty() || !found.unowned.empty() || !found.of_gone.empty() ||
           !found.used_twice.empty() || !found.overlapping.empty() || !found.damaged.empty() ||
           !found.outside_pools.empty() || !found.unallocated.empty() || !found.deleted.empty();
}

template <typename T, typename Fn>
void keep_common(std::vector<T>& now, const std::vector<T>& before, Fn key) {
    std::set<std::string> keys;
    for (const T& item : before) {
        keys.insert(key(item));
    }
    std::erase_if(now, [&](const T& item) { return !keys.contains(key(item)); });
}

// Keeps of `now` what `before` had, too, unchanged.
void confirm(ipam::Survey& now, const ipam::Survey& before) {
    auto key = [](const auto& item) { return item.key(); };
    keep_common(now.leaks, before.leaks, key);
    keep_common(now.handles, before.handles, key);
    keep_common(now.affinities, before.affinities, key);
    keep_common(now.no_affinity, before.no_affinity, key);
    keep_common(now.unowned, before.unowned, key);
    keep_common(now.of_gone, before.of_gone, key);
    keep_common(now.damaged, before.damaged, key);
    keep_common(now.deleted, before.deleted, [](const auto& item) { return item.text(); });
    std::erase_if(now.used_twice,
                  [&](const auto& item) { return !before.used_twice.contains(item.first); });
    std::erase_if(now.outside_pools,
                  [&](const auto& item) { return !before.outside_pools.contains(item.first); });
    std::erase_if(now.unallocated,
                  [&](const auto& item) { return !before.unallocated.contains(item.first); });
}

std::string pairs_text(const api::StringMap& pairs) {
    std::string text;
    for (const auto& [key, value] : pairs) {
        text += (text.empty() ? "" : ",") + key + "=" + value;
    }
    return text;
}

std::string attributes_text(const api::AllocationAttribute& attribute) {
    std::string text = fmt::format("Main:{} Extra:{}", attribute.handle_id.value_or("<none>"),
                                   pairs_text(attribute.secondary));
    if (!attribute.alternate_owner.empty()) {
        text += " Alternate:" + pairs_text(attribute.alternate_owner);
    }
    return text;
}

const char* describe(ipam::AffinityFault fault) {
    switch (fault) {
    case ipam::AffinityFault::NodeGone:
        return "its node does not exist";
    case ipam::AffinityFault::NoBlock:
        return "its block does not exist";
    case ipam::AffinityFault::OtherOwner:
        return "its block belongs to somebody else";
    case ipam::AffinityFault::Unfinished:
        return "a claim or a release was not finished";
    case ipam::AffinityFault::NoLabels:
        return "lacks the labels by which its owner finds it";
    }
    return "";
}

class Check {
public:
    Check(Context& context, datastore::Store& store, const CheckOptions& options)
        : out_(context.out), store_(store), options_(options) {}

    Result<void> run() {
        say("Checking IPAM for inconsistencies...\n\n");
        TRY(look());
        report_objects();
        report_nodes();
        report_addresses();
        report_handles();
        report_owners();
        report_deleted();
        say("Check complete; found {} problems.\n", problems_);
        if (!options_.output.empty()) {
            TRY_ASSIGN(auto cluster, cluster_information(store_));
            std::ofstream file(options_.output);
            file << make_report(snapshot_, found_, cluster).dump(2) << "\n";
            if (!file.flush()) {
                return fail_errno("writing the report to " + options_.output);
            }
        }
        return options_.fix ? repair() : Result<void>();
    }

private:
    template <typename... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        fmt::print(out_, format, std::forward<Args>(args)...);
    }

    // A line about one problem, if these are wanted.
    template <typename... Args>
    void problem(fmt::format_string<Args...> format, Args&&... args) {
        problems_++;
        if (options_.show_problems || options_.fix) {
            fmt::print(out_, format, std::forward<Args>(args)...);
        }
    }

    Result<void> look() {
        TRY_ASSIGN(snapshot_, ipam::take_snapshot(store_));
        found_ = ipam::survey(snapshot_);
        if (suspicious(found_) && options_.settle > 0) {
            ipam::Survey first = std::move(found_);
            std::this_thread::sleep_for(std::chrono::duration<double>(options_.settle));
            TRY_ASSIGN(snapshot_, ipam::take_snapshot(store_));
            found_ = ipam::survey(snapshot_);
            confirm(found_, first);
        }
        return {};
    }

    void report_objects() {
        std::set<IpAddress> leaked;
        for (const auto& leak : found_.leaks) {
            leaked.insert(leak.address);
        }
        say("Loading all IPAM blocks...\n");
        say("Found {} IPAM blocks.\n", snapshot_.blocks.size());
        size_t allocations = 0;
        for (const auto& stored : snapshot_.blocks) {
            const auto& affinity = stored.value.affinity();
            say(" IPAM block {} affinity={}:\n", stored.value.cidr().text(),
                affinity.empty() ? "<none>" : affinity);
            for (const auto& allocation : stored.value.allocations()) {
                allocations++;
                if (options_.show_all) {
                    say("  {} {}; attrs {}\n", allocation.address.text(),
                        leaked.contains(allocation.address) ? "leaked" : "in use",
                        attributes_text(*allocation.attribute));
                }
            }
        }
        say("IPAM blocks record {} allocations.\n\n", allocations);
        say("Loading all IPAM pools...\n");
        size_t active = 0;
        for (const auto& pool : snapshot_.pools) {
            if (pool.usable()) {
                active++;
                say("  {}\n", pool.cidr.text());
            }
        }
        say("Found {} active IP pools.\n\n", active);
        size_t used = 0;
        for (const auto& [name, seen] : snapshot_.pods) {
            used += seen.pod.is_endpoint() ? seen.pod.ips.size() : 0;
        }
        say("Loading all workload endpoints.\nFound {} workload IPs.\n\n", used);
        for (const std::string& broken : snapshot_.left_out.broken) {
            problems_++;
            say("  cannot be read: {}\n", broken);
        }
    }

    void report_nodes() {
        constexpr size_t kMaxNodes = 20;
        std::map<std::string, size_t> by_node;
        for (const auto& stored : snapshot_.blocks) {
            std::string owner = ipam::BlockOwner::parse(stored.value.affinity()).name;
            for (const auto& allocation : stored.value.allocations()) {
                std::string node = ipam::node_of(*allocation.attribute);
                by_node[node.empty() ? owner : node]++;
            }
        }
        std::vector<std::pair<std::string, size_t>> nodes(by_node.begin(), by_node.end());
        std::stable_sort(nodes.begin(), nodes.end(),
                         [](const auto& a, const auto& b) { return a.second > b.second; });
        say("Looking for top (up to {}) nodes by allocations...\n", kMaxNodes);
        for (size_t i = 0; i < std::min(nodes.size(), kMaxNodes); i++) {
            say("  {} has {} allocations\n", nodes[i].first, nodes[i].second);
        }
        if (!nodes.empty()) {
            say("Node with most allocations has {}; median is {}\n", nodes.front().second,
                nodes[nodes.size() / 2].second);
        }
        say("\n");
    }

    void report_addresses() {
        say("Scanning for IPs that are allocated but not actually in use...\n");
        for (const auto& leak : found_.leaks) {
            problem("  {} leaked; attrs {}\n", leak.address.text(),
                    attributes_text(leak.attribute));
        }
        say("Found {} IPs that are allocated in IPAM but not actually in use.\n",
            found_.leaks.size());
        say("Scanning for IPs that are in use by a workload or node but not allocated in "
            "IPAM...\n");
        for (const auto& [address, pod] : found_.outside_pools) {
            problem("  {} in use by {} is not in any active IP pool.\n", address.text(), pod);
        }
        for (const auto& [address, pod] : found_.unallocated) {
            problem("  {} in use by {} and in active IPAM pool but has no IPAM allocation.\n",
                    address.text(), pod);
        }
        say("Found {} in-use IPs that are not in active IP pools.\n", found_.outside_pools.size());
        say("Found {} in-use IPs that are in active IP pools but have no corresponding IPAM "
            "allocation.\n\n",
            found_.unallocated.size());
        say("Scanning for IPs that are in use more than once...\n");
        for (const auto& [address, pods] : found_.used_twice) {
            problem("  {} in use by {}\n", address.text(), fmt::join(pods, ", "));
        }
        say("Found {} IPs that are in use more than once.\n\n", found_.used_twice.size());
    }

    void report_handles() {
        say("Scanning for IPAM handles with no matching IPs...\n");
        size_t leaked = 0;
        size_t missing = 0;
        size_t counts = 0;
        for (const auto& fault : found_.handles) {
            bool exists = !fault.resource_version.empty();
            leaked += exists && fault.actual.empty() ? 1 : 0;
            missing += exists ? 0 : 1;
            counts += exists && !fault.actual.empty() ? 1 : 0;
            problem("  handle {} {}\n", fault.id,
                    !exists                ? "is mentioned in blocks and does not exist"
                    : fault.actual.empty() ? "has no IPs"
                    : fault.too_much       ? "counts more IPs than it has"
                                           : "counts fewer IPs than it has");
        }
        say("Found {} handles with no matching IPs (and {} handles with matches).\n", leaked,
            found_.good_handles);
        say("Scanning for IPs with missing handle...\n");
        say("Found {} handles mentioned in blocks with no matching handle resource.\n", missing);
        say("Found {} handles whose counts differ from the blocks.\n\n", counts);
    }

    void report_deleted() {
        say("Scanning for objects whose deletion was not finished...\n");
        for (const auto& marked : found_.deleted) {
            problem("  {} is marked as deleted\n", marked.key.text());
        }
        say("Found {} objects whose deletion was not finished.\n\n", found_.deleted.size());
    }

    void report_owners() {
        say("Scanning for blocks and affinities that do not match...\n");
        for (const auto& finding : found_.affinities) {
            problem("  affinity of {} to {}: {}\n", finding.owner.text(), finding.block.text(),
                    describe(finding.fault));
        }
        for (const auto& finding : found_.no_affinity) {
            problem("  block {}: {} has no affinity object for it\n", finding.block.text(),
                    finding.affinity);
        }
        for (const auto& finding : found_.unowned) {
            problem("  block {} is empty, and nobody's\n", finding.block.text());
        }
        for (const auto& finding : found_.of_gone) {
            problem("  block {}: its owner {} does not exist\n", finding.block.text(),
                    finding.affinity);
        }
        for (const auto& [one, other] : found_.overlapping) {
            problem("  blocks {} and {} overlap\n", one.text(), other.text());
        }
        say("Found {} affinities and {} blocks that do not match.\n\n", found_.affinities.size(),
            found_.no_affinity.size() + found_.unowned.size() + found_.of_gone.size() +
                found_.overlapping.size());
        say("Validating IPAMBlock structures...\n");
        for (const auto& finding : found_.damaged) {
            problem("  IPAMBlock {} is invalid: its lists of free and taken IPs contradict each "
                    "other\n",
                    finding.block.text());
        }
        say("Found {} invalid IPAMBlocks.\n", found_.damaged.size());
    }

    template <typename T>
    void count(const Result<T>& result) {
        if (result) {
            repaired_ += static_cast<unsigned>(*result);
        } else {
            failed_++;
            say("  a repair failed: {}\n", result.error().text());
        }
    }

    Result<void> repair() {
        ipam::Repair repair(store_, {});
        std::map<std::string, std::vector<ipam::Leak>> by_handle;
        for (const auto& leak : found_.leaks) {
            if (leak.whole_handle) {
                by_handle[leak.attribute.handle_id.value_or(leak.address.text())].push_back(leak);
            }
        }
        for (const auto& [handle, leaks] : by_handle) {
            count(repair.release(leaks));
        }
        for (const auto& finding : found_.damaged) {
            count(repair.rebuild(finding));
        }
        for (const auto& fault : found_.handles) {
            count(repair.fix(fault));
        }
        for (const auto& finding : found_.affinities) {
            count(repair.fix(finding));
        }
        for (const auto& finding : found_.of_gone) {
            count(repair.release_of_gone(finding));
        }
        for (const auto& finding : found_.no_affinity) {
            count(repair.restore_affinity(finding));
        }
        for (const auto& finding : found_.unowned) {
            count(repair.remove_unowned(finding));
        }
        for (const auto& marked : found_.deleted) {
            count(repair.finish_delete(marked));
        }
        say("Repaired {} problems.\n", repaired_);
        if (!snapshot_.left_out.broken.empty()) {
            say("{} objects cannot be read, and are left as they are: mend or delete them by "
                "hand.\n",
                snapshot_.left_out.broken.size());
        }
        if (failed_ > 0) {
            return fail(ErrorKind::Unavailable, fmt::format("{} repairs failed", failed_));
        }
        return {};
    }

    std::ostream& out_;
    datastore::Store& store_;
    const CheckOptions& options_;
    ipam::Snapshot snapshot_;
    ipam::Survey found_;
    unsigned problems_ = 0;
    unsigned repaired_ = 0;
    unsigned failed_ = 0;
};

} // namespace

void add_ipam_check(CLI::App& ipam, Context& context) {
    auto* command = ipam.add_subcommand("check", "Compare IPAM with pods and nodes");
    auto options = std::make_shared<CheckOptions>();
    command->add_flag("--show-all-ips", options->show_all, "Print every allocation");
    command->add_flag("--show-problem-ips", options->show_problems, "Print every problem");
    command->add_flag("--fix", options->fix, "Repair what can be repaired; nodes go on meanwhile");
    command
        ->add_option("--settle", options->settle,
                     "Seconds between the two looks at what seems wrong")
        ->capture_default_str();
    command->add_option("-o,--output", options->output, "Write a report to this file");
    command->add_option("--kubeconfig", options->kubeconfig)->group("");
    command->callback([&context, options] {
        auto store = context.store();
        context.finish(store ? Check(context, **store, *options).run()
                             : Result<void>(Unexpected(store.error())));
    });
}

} // namespace manx::ctl
