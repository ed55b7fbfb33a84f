// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/registry.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

namespace manx::metrics {

namespace {

prometheus::ClientMetric& sample(Registry::Families& out, const std::string& name,
                                 const std::string& help, prometheus::MetricType type,
                                 const Labels& labels) {
    auto family = std::ranges::find_if(
        out, [&](const prometheus::MetricFamily& f) { return f.name == name; });
    if (family == out.end()) {
        out.push_back({name, help, type, {}});
        family = out.end() - 1;
    }
    auto& metric = family->metric.emplace_back();
    for (const auto& [key, value] : labels) {
        metric.label.push_back({key, value});
    }
    return metric;
}

} // namespace

std::string Registry::text() const {
    Families families;
    for (const auto& collector : collectors_) {
        collector(families);
    }
    std::ostringstream out;
    prometheus::TextSerializer{}.Serialize(out, families);
    return out.str();
}

void gauge(Registry::Families& out, const std::string& name, const std::string& help, double value,
           const Labels& labels) {
    sample(out, name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
}

void counter(Registry::Families& out, const std::string& name, const std::string& help,
             double value, const Labels& labels) {
    sample(out, name, help, prometheus::MetricType::Counter, labels).counter.value = value;
}

} // namespace manx::metrics
