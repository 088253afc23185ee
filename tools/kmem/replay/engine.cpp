#include "engine.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <kmem/context.hpp>
#include <mutex>
#include <thread>

#include "clock.hpp"
#include "gate.hpp"
#include "worker.hpp"

namespace kmem::tool::replay {

namespace {

constexpr std::size_t run_length = 32;  // requests that one of several threads of a CPU does in a row
constexpr std::chrono::milliseconds report_interval(50);

// One thread stays on one CPU, so that the same per-CPU lists serve it from beginning to end.
void bind_to_this_cpu() {
  const int cpu = sched_getcpu();
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu), &one);
  sched_setaffinity(0, sizeof one, &one);  // where it is refused, runs only differ a little more
}

// Counts threads that have ended, for somebody who waits with a time limit.
class finish_line {
 public:
  void arrive() {
    const std::lock_guard<std::mutex> hold(lock_);
    arrived_++;
    all_.notify_one();
  }
  bool wait(std::size_t threads) {
    std::unique_lock<std::mutex> hold(lock_);
    return all_.wait_for(hold, report_interval, [&] { return arrived_ == threads; });
  }

 private:
  std::mutex lock_;
  std::condition_variable all_;
  std::size_t arrived_ = 0;
};

}  // namespace

std::vector<std::vector<trace::request_index>> deal_requests(const plan& work, trace::request_index first, trace::request_index end,
                                                             unsigned threads) {
  std::vector<std::vector<trace::request_index>> dealt(threads);
  const std::uint32_t cpus = work.cpus();
  std::vector<std::size_t> seen(cpus);  // by CPU
  for (trace::request_index index = first; index < end; index++) {
    const std::uint32_t cpu = work.requests[index].cpu;
    if (threads <= cpus) {
      dealt[cpu % threads].push_back(index);
      continue;
    }
    // Threads cpu, cpu + cpus, cpu + 2 * cpus, ... belong to this CPU.
    const std::size_t own = (threads - cpu + cpus - 1) / cpus;
    dealt[cpu + cpus * (seen[cpu]++ / run_length % own)].push_back(index);
  }
  return dealt;
}

engine::engine(const plan& work, const engine_options& options)
    : work_(work), options_(options), state_(work_, options_), rows_(work_), droppable_(state_), sampler_(state_, rows_, droppable_) {
  if (options_.threads == 1) bind_to_this_cpu();
  total_.resize(work.gfps.size(), work.gfp_classes.size(), rows_.size());
  state_.clock_cost_ns = clock_cost_ns();
}

bool engine::prepare(std::string& problem) {
  violations_before_ = context_violations();
  rows_.make_class_caches();
  drain();
  charged_before_bytes_ = read_memory(false).info.charged_bytes;
  return rows_.create(state_.caches, problem) && droppable_.open(problem);
}

void engine::run(const std::function<bool(const engine_progress&)>& report) {
  const std::uint64_t start = now_ns();
  rows_.snapshot();  // learns how large objects are here
  sampler_.set_base(total_);
  sampler_.start();
  vmstat_before_ = read_vmstat();
  sleeps_before_ = long_sleeps_total();
  for (std::size_t trace = 0; trace < work_.traces.size() && completed_; trace++) run_trace(trace, report);
  wall_ns_ = now_ns() - start;
  finish();
}

void engine::run_trace(std::size_t trace, const std::function<bool(const engine_progress&)>& report) {
  const planned_trace& about = work_.traces[trace];
  const auto dealt = deal_requests(work_, about.first, about.end, options_.threads);
  const auto points = sample_points(work_, about.first, about.end, options_.samples / work_.traces.size() + 1);
  gate order(options_.threads, options_.window, points, state_.stop);
  std::vector<std::unique_ptr<worker>> workers;
  std::vector<worker*> watched;
  for (unsigned number = 0; number < options_.threads; number++) {
    workers.push_back(std::make_unique<worker>(state_, rows_, droppable_, number));
    watched.push_back(workers.back().get());
  }
  sampler_.watch(watched);
  finish_line line;
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < options_.threads; number++) {
    threads.emplace_back([&, number] {
      workers[number]->run(order, sampler_, dealt[number]);
      line.arrive();
    });
  }
  for (bool ended = false; !ended;) {
    ended = line.wait(threads.size());
    engine_progress now;
    now.requests = std::clamp(order.done(), about.first, about.end);
    now.failed = state_.figures.failed.load(std::memory_order_relaxed);
    memory_info info;
    if (read_memory_info(info)) {
      now.charged_bytes = info.charged_bytes;
      now.budget_bytes = info.limit_bytes;
    }
    if (report(now) || ended) continue;
    interrupted_ = true;
    state_.stop.store(true, std::memory_order_relaxed);
  }
  for (std::thread& each : threads) each.join();
  for (const auto& each : workers) total_.merge(each->counts());
  sampler_.watch({});
  completed_ = order.done() == trace::no_request;
  const trace::request_index reached = std::clamp(order.done(), about.first, about.end);
  sampler_.end(reached, !completed_ || trace + 1 == work_.traces.size() ? "end" : "");
  free_what_is_left(about);
}

void engine::free_what_is_left(const planned_trace& trace) {
  for (trace::request_index index = trace.first; index < trace.end; index++) {
    if (work_.requests[index].kind == trace::request_kind::free) continue;
    void* const memory = state_.slots[index].exchange(slot_table::freed());
    if (!slot_table::is_memory(memory)) continue;
    if (options_.verify && work_.requests[index].size != 0) verify_contents(state_, index, memory, "at the end of the trace");
    free_memory(state_, index, memory);
    state_.figures.sub_live(work_.requests[index].size);
    if (work_.requests[index].droppable) state_.figures.sub_droppable(work_.requests[index]);
    left_objects_++;
    left_bytes_ += work_.requests[index].size;
  }
}

void engine::finish() {
  vmstat_after_ = read_vmstat();
  sleeps_after_ = long_sleeps_total();
  droppable_.close();
  cache_rows::destroy(state_.caches);
  drain();
  const memory_figures after = read_memory(true);
  charged_after_bytes_ = after.info.charged_bytes > charged_before_bytes_ ? after.info.charged_bytes - charged_before_bytes_ : 0;
  if (charged_after_bytes_ != 0) {
    state_.errors.add(0, 0, fmt::format("{} bytes are still charged after everything was freed", charged_after_bytes_));
  }
  for (std::string& each : broken_promises(after, true)) state_.errors.add(0, 0, std::move(each));
  if (const char* const wrong = validate()) state_.errors.add(0, 0, fmt::format("the allocator's structures do not agree: {}", wrong));
  const std::uint64_t violations = context_violations() - violations_before_;
  if (violations != 0) {
    state_.errors.add(0, 0, fmt::format("{} allocations broke the rules of their context, such as sleeping in an interrupt", violations),
                      violations);
  }
  const std::vector<std::string> texts = messages_.first_errors();
  for (const std::string& each : texts) state_.errors.add(0, 0, "the allocator says: " + each);
  if (messages_.errors() > texts.size()) {
    const std::uint64_t more = messages_.errors() - texts.size();
    state_.errors.add(0, 0, fmt::format("{} more messages of that kind from the allocator", more), more);
  }
}

}  // namespace kmem::tool::replay
