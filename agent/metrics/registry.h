// SPDX-License-Identifier: Apache-2.0
// Metrics are read at scrape time: a module registers a collector that appends families. Names that
// mean the same as Felix's keep Felix's names, since people alert on them.
#pragma once

#include <prometheus/metric_family.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace manx::metrics {

class Registry {
public:
    using Families = std::vector<prometheus::MetricFamily>;
    using Collector = std::function<void(Families&)>;

    void add(Collector collector) { collectors_.push_back(std::move(collector)); }

    // The exposition text of all collectors now.
    [[nodiscard]] std::string text() const;

private:
    std::vector<Collector> collectors_;
};

using Labels = std::map<std::string, std::string>;

// Appends to the family's samples, making the family at the first one.
void gauge(Registry::Families& out, const std::string& name, const std::string& help, double value,
           const Labels& labels = {});
void counter(Registry::Families& out, const std::string& name, const std::string& help,
             double value, const Labels& labels = {});

} // namespace manx::metrics
