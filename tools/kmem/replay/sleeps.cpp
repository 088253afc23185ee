#include "sleeps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "worker.hpp"

namespace kmem::tool::replay {

namespace {

constexpr std::uint32_t named_cpus = 3;

void add(report::sleep_row& to, const noted_sleep& sleep) {
  to.sleeps++;
  to.served += sleep.end == "served" ? 1 : 0;
  to.pages += sleep.pages;
  to.length_ns.record(sleep.slept_ns);
}

// Rows by a key of the sleep, the one that slept longest in all first.
template <typename Key, typename Name>
std::vector<report::sleep_row> rows_by(std::span<const noted_sleep> sleeps, Key key, Name name) {
  std::map<decltype(key(sleeps.front())), report::sleep_row> rows;
  for (const noted_sleep& each : sleeps) add(rows[key(each)], each);
  std::vector<report::sleep_row> out;
  for (auto& [which, row] : rows) {
    row.name = name(which);
    out.push_back(std::move(row));
  }
  std::stable_sort(out.begin(), out.end(), [](const report::sleep_row& left, const report::sleep_row& right) {
    return left.length_ns.sum() > right.length_ns.sum();
  });
  return out;
}

// The number of a thread of the replay, or `threads`.
unsigned thread_of(std::string_view name, unsigned threads) {
  for (unsigned number = 0; number < threads; number++) {
    if (name == thread_name(number)) return number;
  }
  return threads;
}

report::wake_row wake_of(const noted_sleep& sleep, unsigned threads, std::uint32_t cpus) {
  report::wake_row row;
  row.sleeper = fmt::format("CPU {}", sleep.cpu);
  row.sleeper_thread = thread_name(sleep.thread);
  if (sleep.waker_id == 0) {
    row.waker = "nobody";
    row.cause = "none";
    return row;
  }
  row.cause = sleep.cause;
  row.waker_thread = std::string(sleep.waker.data(), std::find(sleep.waker.begin(), sleep.waker.end(), '\0'));
  const unsigned thread = thread_of(row.waker_thread, threads);
  row.waker = sleep.cause == "kswapd" ? "kswapd" : thread != threads ? cpus_of_thread(thread, threads, cpus) : row.waker_thread;
  return row;
}

std::vector<report::wake_row> wakes_of(std::span<const noted_sleep> sleeps, unsigned threads, std::uint32_t cpus) {
  std::map<std::tuple<std::string, std::string, std::string, std::string>, report::wake_row> rows;
  for (const noted_sleep& each : sleeps) {
    report::wake_row now = wake_of(each, threads, cpus);
    const auto key = std::tuple(now.waker_thread, now.cause, now.sleeper, now.sleeper_thread);
    report::wake_row& row = rows.try_emplace(key, std::move(now)).first->second;
    row.wakes++;
    row.slept_ns += each.slept_ns;
  }
  std::vector<report::wake_row> out;
  for (auto& [key, row] : rows) out.push_back(std::move(row));
  std::stable_sort(out.begin(), out.end(),
                   [](const report::wake_row& left, const report::wake_row& right) { return left.wakes > right.wakes; });
  return out;
}

}  // namespace

std::string cpus_of_thread(unsigned thread, unsigned threads, std::uint32_t cpus) {
  if (threads >= cpus) return fmt::format("CPU {}", cpus == 0 ? thread : thread % cpus);
  std::string names;
  std::uint32_t count = 0;
  for (std::uint32_t cpu = thread; cpu < cpus; cpu += threads, count++) {
    if (count < named_cpus) names += fmt::format("{}{}", names.empty() ? "" : ", ", cpu);
  }
  if (count == 1) return "CPU " + names;
  return "CPUs " + names + (count > named_cpus ? ", ..." : "");
}

report::sleep_figures sum_up_sleeps(const plan& work, std::span<const noted_sleep> sleeps, unsigned threads, std::uint64_t records) {
  report::sleep_figures out;
  for (const noted_sleep& each : sleeps) out.length_ns.record(each.slept_ns);
  out.unrecorded = records > sleeps.size() ? records - sleeps.size() : 0;
  out.by_end = rows_by(
      sleeps, [](const noted_sleep& each) { return each.end; }, [](std::string_view end) { return std::string(end); });
  out.by_gfp = rows_by(
      sleeps, [](const noted_sleep& each) { return each.gfp; }, [&](std::uint16_t gfp) { return work.gfps[gfp].text; });
  out.by_cpu = rows_by(
      sleeps, [](const noted_sleep& each) { return each.cpu; }, [](std::uint16_t cpu) { return fmt::format("CPU {}", cpu); });
  out.by_pages = rows_by(
      sleeps, [](const noted_sleep& each) { return each.pages; },
      [](std::uint64_t pages) { return fmt::format("{} {}", pages, pages == 1 ? "page" : "pages"); });
  out.wakes = wakes_of(sleeps, threads, work.cpus());
  return out;
}

}  // namespace kmem::tool::replay
