#pragma once

// Traces made up in a test, and replays of them, each in a child process: a process has one allocator and one budget.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <functional>
#include <kmem/kmem.hpp>
#include <new>
#include <string>
#include <vector>

#include "tools/kmem/replay/engine.hpp"
#include "tools/kmem/report/json.hpp"
#include "tools/kmem/trace/requests.hpp"

namespace replay_fixture {

using namespace kmem::tool;

// Writes events as the kernel would print them.
class trace_text {
 public:
  // The latency columns and CPU of the events that follow.
  trace_text& on(int cpu, const std::string& columns = ".....") {
    cpu_ = cpu;
    columns_ = columns;
    return *this;
  }
  trace_text& after_us(std::uint64_t us) {
    time_us_ += us;
    return *this;
  }
  trace_text& kmalloc(std::uint64_t address, std::size_t bytes, const std::string& gfp = "GFP_KERNEL") {
    return object("kmalloc", address, bytes, gfp, "caller+0x1/0x2");
  }
  trace_text& kfree(std::uint64_t address) { return raw("kfree: call_site=caller+0x1/0x2 ptr=" + hex(address)); }
  trace_text& cache(std::uint64_t address, std::size_t bytes, const std::string& gfp = "GFP_KERNEL", const std::string& site = "site") {
    return object("kmem_cache_alloc", address, bytes, gfp, site + "+0x1/0x2");
  }
  trace_text& cache_free(std::uint64_t address, const std::string& name) {
    return raw("kmem_cache_free: call_site=caller+0x1/0x2 ptr=" + hex(address) + " name=" + name);
  }
  trace_text& pages(std::uint64_t frame, int order, const std::string& gfp = "GFP_KERNEL") {
    return raw("mm_page_alloc: page=" + hex(frame * 64) + " pfn=0x" + hex(frame) + " order=" + std::to_string(order) +
               " migratetype=0 gfp_flags=" + gfp);
  }
  trace_text& failed_pages(int order, const std::string& gfp) {
    return raw("mm_page_alloc: page=0000000000000000 pfn=0x0 order=" + std::to_string(order) + " migratetype=0 gfp_flags=" + gfp);
  }
  trace_text& free_pages(std::uint64_t frame, int order) {
    return raw("mm_page_free: page=" + hex(frame * 64) + " pfn=0x" + hex(frame) + " order=" + std::to_string(order));
  }
  trace_text& raw(const std::string& text) {
    time_us_++;
    char prefix[96];
    std::snprintf(prefix, sizeof prefix, "            task-1 [%03d] %s %llu.%06llu: ", cpu_, columns_.c_str(),
                  static_cast<unsigned long long>(time_us_ / 1000000), static_cast<unsigned long long>(time_us_ % 1000000));
    text_ += prefix + text + "\n";
    lines_++;
    return *this;
  }
  std::uint64_t lines() const { return lines_; }  // the number of the last line
  const std::string& str() const { return text_; }

  // Objects get addresses of a page each, so that no two share one.
  static std::uint64_t at(std::uint64_t number) { return 0xffff888000000000 + (number << 14); }

 private:
  trace_text& object(const char* name, std::uint64_t address, std::size_t bytes, const std::string& gfp, const std::string& site) {
    return raw(std::string(name) + ": call_site=" + site + " ptr=" + hex(address) + " bytes_req=" + std::to_string(bytes) +
               " bytes_alloc=" + std::to_string((bytes + 63) / 64 * 64) + " gfp_flags=" + gfp + " node=-1 accounted=false");
  }
  static std::string hex(std::uint64_t value) {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
    return digits;
  }

  std::string text_;
  std::string columns_ = ".....";
  int cpu_ = 0;
  std::uint64_t time_us_ = 0;
  std::uint64_t lines_ = 0;
};

inline void add_trace(replay::plan& work, const std::string& text, const std::string& name = "built.trace") {
  trace::input from;
  trace::event_list events;
  ASSERT_TRUE(from.open_memory(name, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  ASSERT_TRUE(trace::load_events(from, {}, events)) << events.errors.back().to_string();
  trace::request_list made = trace::make_requests(events);
  ASSERT_TRUE(made.ok) << made.error.to_string();
  ASSERT_TRUE(work.add(events, std::move(made)));
}

inline replay::plan plan_of(const std::string& text) {
  replay::plan work;
  add_trace(work, text);
  return work;
}

// Numbers that a hook in the child leaves for the test.
class shared_notes {
 public:
  static constexpr std::size_t count = 4096;
  shared_notes() {
    void* const memory =
        mmap(nullptr, sizeof(std::atomic<std::uint64_t>) * count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    values_ = static_cast<std::atomic<std::uint64_t>*>(memory);
  }
  ~shared_notes() { munmap(values_, sizeof(std::atomic<std::uint64_t>) * count); }
  shared_notes(const shared_notes&) = delete;
  shared_notes& operator=(const shared_notes&) = delete;
  std::atomic<std::uint64_t>& operator[](std::size_t index) const { return values_[index]; }

 private:
  std::atomic<std::uint64_t>* values_;
};

using progress_function = std::function<bool(const replay::engine_progress&)>;

// Replays in a child with an allocator of its own. A problem of the child fails the test.
inline report::replay_result replay_in_child(
    const replay::plan& work, const std::string& cmdline, const replay::engine_options& options,
    const progress_function& progress = [](const replay::engine_progress&) { return true; }) {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe(ends.data()), 0);
  const pid_t child = fork();
  EXPECT_GE(child, 0);
  if (child == 0) {
    close(ends[0]);
    std::string text;
    char error[256] = "";
    if (!kmem::init(cmdline.c_str(), error, sizeof error)) {
      text = std::string("init: ") + error;
    } else {
      replay::engine runner(work, options);
      std::string problem;
      if (runner.prepare(problem)) {
        runner.run(progress);
        text = report::json_text(runner.result());
      } else {
        text = "prepare: " + problem;
      }
    }
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t written = write(ends[1], text.data() + done, text.size() - done);
      if (written <= 0) _exit(3);
      done += static_cast<std::size_t>(written);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 65536> buffer{};
  for (ssize_t got = 0; (got = read(ends[0], buffer.data(), buffer.size())) > 0;) text.append(buffer.data(), static_cast<std::size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the child ended with status " << status;
  try {
    return report::result_from_json(text);
  } catch (const report::json_error& error) {
    ADD_FAILURE() << error.what() << ": " << text.substr(0, 300);
    return {};
  }
}

inline std::string all_errors(const report::replay_result& result) {
  std::string text;
  for (const report::described_error& each : result.errors) text += std::to_string(each.line) + ": " + each.text + "\n";
  return text;
}

inline const report::gfp_row* row_of(const report::replay_result& result, const std::string& gfp) {
  for (const report::gfp_row& each : result.by_gfp) {
    if (each.gfp == gfp) return &each;
  }
  return nullptr;
}

// What holds for every replay that went to its end without an error.
inline void expect_clean(const report::replay_result& result) {
  EXPECT_TRUE(result.completed) << result.stop_reason;
  EXPECT_EQ(result.total.errors, 0u) << all_errors(result);
  EXPECT_EQ(result.total.charged_after_bytes, 0u);
  ASSERT_FALSE(result.samples.empty());
  for (const report::sample& each : result.samples) EXPECT_LE(each.charged_bytes + each.metadata_bytes, each.budget_bytes);
  std::uint64_t timed = 0;
  for (std::size_t path = 0; path < report::latency_path_count; path++) {
    if (path != static_cast<std::size_t>(report::latency_path::free)) timed += result.latency_ns[path].count();
  }
  EXPECT_EQ(timed, result.total.allocs);
  EXPECT_EQ(result.latency_ns[static_cast<std::size_t>(report::latency_path::free)].count(), result.total.frees);
}

}  // namespace replay_fixture
