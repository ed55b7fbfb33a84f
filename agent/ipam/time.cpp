// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/time.h"

#include <fmt/format.h>

#include <charconv>

namespace manx::ipam {

namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::hh_mm_ss;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::year_month_day;

struct Fields {
    year_month_day date;
    hh_mm_ss<nanoseconds> clock;
};

Fields split(Time time) {
    auto day = floor<days>(time);
    return {year_month_day(day), hh_mm_ss<nanoseconds>(time - day)};
}

// Reads exactly `width` digits and the separator behind them (0: none).
bool take(std::string_view& text, size_t width, char separator, int& value) {
    if (text.size() < width + (separator == 0 ? 0 : 1)) {
        return false;
    }
    auto [end, ec] = std::from_chars(text.data(), text.data() + width, value);
    if (ec != std::errc{} || end != text.data() + width ||
        (separator != 0 && text[width] != separator)) {
        return false;
    }
    text.remove_prefix(width + (separator == 0 ? 0 : 1));
    return true;
}

// "YYYY-MM-DD<between>hh:mm:ss[.fraction]"; leaves what follows in text.
bool take_date_time(std::string_view& text, char between, Time& out) {
    int year = 0;
    int month = 0;
    int day = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
    if (!take(text, 4, '-', year) || !take(text, 2, '-', month) || !take(text, 2, between, day) ||
        !take(text, 2, ':', hour) || !take(text, 2, ':', minute) || !take(text, 2, 0, second)) {
        return false;
    }
    year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                        std::chrono::day(static_cast<unsigned>(day))};
    if (!date.ok() || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    int64_t fraction = 0;
    if (!text.empty() && text[0] == '.') {
        text.remove_prefix(1);
        int64_t unit = 100'000'000;
        while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
            fraction += (text[0] - '0') * unit;
            unit /= 10;
            text.remove_prefix(1);
        }
    }
    out = std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
          seconds(second) + nanoseconds(fraction);
    return true;
}

} // namespace

Time system_now() {
    return std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now());
}

std::string rfc3339(Time time) {
    auto [date, clock] = split(time);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                       clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

Result<Time> parse_rfc3339(std::string_view text) {
    std::string_view rest = text;
    Time time;
    if (take_date_time(rest, 'T', time)) {
        if (rest == "Z") {
            return time;
        }
        int hours = 0;
        int minutes = 0;
        if (rest.size() == 6 && (rest[0] == '+' || rest[0] == '-')) {
            bool east = rest[0] == '+';
            rest.remove_prefix(1);
            if (take(rest, 2, ':', hours) && take(rest, 2, 0, minutes)) {
                auto offset = std::chrono::hours(hours) + std::chrono::minutes(minutes);
                return east ? time - offset : time + offset;
            }
        }
    }
    return fail(ErrorKind::ConfigInvalid,
                fmt::format("\"{}\": expected a time as 2006-01-02T15:04:05Z", text));
}

std::string go_time(Time time) {
    auto [date, clock] = split(time);
    std::string fraction;
    if (auto ns = clock.subseconds().count(); ns != 0) {
        fraction = fmt::format(".{:09}", ns);
        fraction.erase(fraction.find_last_not_of('0') + 1);
    }
    return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}{} +0000 UTC",
                       static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                       static_cast<unsigned>(date.day()), clock.hours().count(),
                       clock.minutes().count(), clock.seconds().count(), fraction);
}

Result<Time> parse_go_time(std::string_view text) {
    std::string_view rest = text;
    Time time;
    if (take_date_time(rest, ' ', time) && rest.starts_with(" +0000 UTC")) {
        return time; // behind it, Go may print its monotonic clock
    }
    return fail(ErrorKind::ConfigInvalid,
                fmt::format("\"{}\": expected a time as 2006-01-02 15:04:05 +0000 UTC", text));
}

} // namespace manx::ipam
