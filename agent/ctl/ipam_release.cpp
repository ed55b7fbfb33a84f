// SPDX-License-Identifier: Apache-2.0
// manxctl ipam release: of one address, or of what reports of `ipam check` found leaked.
#include "agent/api/names.h"
#include "agent/ctl/ipam_commands.h"
#include "agent/ctl/ipam_report.h"
#include "agent/ipam/ipam.h"
#include "agent/ipam/repair.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <ostream>
#include <set>

namespace manx::ctl {

namespace {

struct ReleaseOptions {
    std::string ip;
    std::vector<std::string> reports;
    bool force = false;
};

// An owner of nothing: only what is released matters.
ipam::Allocator releaser(datastore::Store& store) {
    return {store, ipam::BlockOwner{"manxctl", "virtual"}};
}

Result<void> release_ip(Context& context, datastore::Store& store, const std::string& text) {
    TRY_ASSIGN(auto address, IpAddress::parse(text));
    ipam::Release request{address, std::nullopt, std::nullopt};
    TRY_ASSIGN(auto outcome, releaser(store).release_ips({&request, 1}));
    if (outcome.released.empty()) {
        return fail(ErrorKind::NotFound, fmt::format("IP address {} is not assigned", text));
    }
    context.out << "Successfully released IP address " << text << "\n";
    return {};
}

Result<IpamReport> read_report(const std::string& path) {
    std::ifstream file(path);
    if (!file) {
        return fail_errno("reading the report " + path);
    }
    std::string text{std::istreambuf_iterator<char>(file), {}};
    auto json = api::parse_json(text);
    auto report =
        json ? IpamReport::from_json(*json) : Result<IpamReport>(Unexpected(json.error()));
    if (!report) {
        return Unexpected(report.error().within(path));
    }
    return report;
}

// What all of the reports found, unchanged.
template <typename T>
void keep_common(std::set<T>& common, const std::vector<T>& list, bool first) {
    std::set<T> these(list.begin(), list.end());
    if (first) {
        common = std::move(these);
    } else {
        std::erase_if(common, [&](const T& item) { return !these.contains(item); });
    }
}

// No lock is needed: what has been used anew since has another sequence number or handle, and
// whether the pod has it by now is looked at once more.
Result<void> release_leaks(Context& context, datastore::Store& store,
                           const std::set<ReportedLeak>& leaks) {
    if (leaks.empty()) {
        context.out << "Report didn't contain any leaked IPs to clean up.\n";
        return {};
    }
    ipam::Repair repair(store, {});
    unsigned released = 0;
    for (const ReportedLeak& reported : leaks) {
        TRY_ASSIGN(auto leak,
                   repair.find({reported.address, reported.handle, reported.sequence_number}));
        if (!leak) {
            context.err << "Skipped " << reported.address.text()
                        << ": released, or allocated anew, since the report\n";
            continue;
        }
        TRY_ASSIGN(unsigned count, repair.release({&*leak, 1}));
        released += count;
        if (count == 0) {
            context.err << "Skipped " << reported.address.text() << ": in use\n";
        }
    }
    context.out << "Released " << released << " IPs successfully\n";
    return {};
}

// Only those that nobody has written since.
Result<void> delete_handles(Context& context, datastore::Store& store,
                            const std::set<ReportedHandle>& handles) {
    if (handles.empty()) {
        context.out << "Report didn't contain any handles to clean up.\n";
        return {};
    }
    unsigned deleted = 0;
    for (const ReportedHandle& handle : handles) {
        datastore::Key key{api::Kind::IpamHandle, "", api::handle_name(handle.id)};
        auto done = store.remove(key, {"", handle.resource_version});
        if (done) {
            deleted++;
        } else if (done.error().kind != ErrorKind::NotFound &&
                   done.error().kind != ErrorKind::Conflict) {
            return done;
        }
    }
    context.out << fmt::format("Released {} handles; {} skipped; 0 errors.\n", deleted,
                               handles.size() - deleted);
    return {};
}

Result<void> release_reported(Context& context, datastore::Store& store,
                              const ReleaseOptions& options) {
    TRY_ASSIGN(auto cluster, cluster_information(store));
    std::set<ReportedLeak> leaks;
    std::set<ReportedHandle> handles;
    bool first = true;
    for (const std::string& path : options.reports) {
        TRY_ASSIGN(auto report, read_report(path));
        if (report.cluster_guid != cluster.cluster_guid) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: the report is of another cluster (clusterGUID {}, "
                                    "expected {})",
                                    path, report.cluster_guid, cluster.cluster_guid));
        }
        if (!options.force && report.version != cluster.calico_version) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: the report is of version {}, the cluster of {} (--force "
                                    "takes it nevertheless)",
                                    path, report.version, cluster.calico_version));
        }
        keep_common(leaks, report.leaks, first);
        keep_common(handles, report.handles, first);
        first = false;
    }
    TRY(release_leaks(context, store, leaks));
    return delete_handles(context, store, handles);
}

Result<void> run_release(Context& context, const ReleaseOptions& options) {
    if (options.ip.empty() == options.reports.empty()) {
        return fail(ErrorKind::ConfigInvalid, "one of --ip and --from-report is needed");
    }
    TRY_ASSIGN(auto* store, context.store());
    return options.ip.empty() ? release_reported(context, *store, options)
                              : release_ip(context, *store, options.ip);
}

} // namespace

void add_ipam_release(CLI::App& ipam, Context& context) {
    auto* command = ipam.add_subcommand("release", "Release addresses that nothing uses");
    auto options = std::make_shared<ReleaseOptions>();
    command->add_option("--ip", options->ip, "This address");
    command->add_option("--from-report", options->reports,
                        "What all of these reports of `ipam check -o` found leaked");
    command->add_flag("--force", options->force, "Take reports of other versions");
    command->callback([&context, options] { context.finish(run_release(context, *options)); });
}

} // namespace manx::ctl
