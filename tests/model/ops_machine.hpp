// Runs operations on a machine and on the model, and compares. Whatever the machine does wrong is an ops_error.
//
// Compared after each operation: every range that is freed or moved still has its pattern; new ones overlap none, are aligned, large
// enough, in a zone that the mask allows and zero if asked; the budget's equations hold. A request that the machine has plenty of free
// pages for must not fail, unless a fail point says so. By `check` and at the end: the walks of all layers, the pages charged against the
// sum of what is out, and at last everything freed and drained leaves the machine as it was.
#pragma once
#include <sched.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "model/ops.hpp"
#include "model/ops_model.hpp"
#include "reclaim/reclaim.hpp"

namespace kmem::testing {

enum class entry_kind : std::uint8_t { kmalloc, object, pages, run, exact, vmalloc, kvmalloc };

/// Something that is handed out.
struct entry {
  entry_kind kind = entry_kind::kmalloc;
  char* at = nullptr;
  std::size_t bytes = 0;  // that carry the pattern: all that may be used
  std::uint64_t id = 0;
  kmem_cache* cache = nullptr;  // object
  page* head = nullptr;         // pages, run
  unsigned order = 0;           // pages
  unsigned references = 1;
};

inline constexpr unsigned nr_slots = 8;           // caches
inline constexpr std::size_t held_most = 20'000;  // ranges at once: a bound for the model's own memory
inline constexpr std::uint64_t plenty_pages =
    160;  // free beyond the request: metadata of new blocks, page tables, slabs of the largest order

inline void constructor_of_ops(void* object) noexcept { std::memset(object, 0x5c, 8); }
inline void quiet_sink(log_level, const char*, std::size_t, const void* const*, unsigned) noexcept {}

/// Keeps the thread on one CPU at a time, so that a program runs the same way twice.
class cpu_choice {
 public:
  cpu_choice() {
    CPU_ZERO(&before_);
    sched_getaffinity(0, sizeof before_, &before_);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before_)) cpus_.push_back(cpu);
    move_to(0);
  }
  ~cpu_choice() { sched_setaffinity(0, sizeof before_, &before_); }
  cpu_choice(const cpu_choice&) = delete;
  cpu_choice& operator=(const cpu_choice&) = delete;
  void move_to(std::size_t which) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpus_[which % cpus_.size()], &one);
    sched_setaffinity(0, sizeof one, &one);
  }

 private:
  cpu_set_t before_;
  std::vector<int> cpus_;
};

class ops_machine {
 public:
  explicit ops_machine(const std::string& parameters) : machine_(new machine) {
    before_ = set_printk_sink(quiet_sink);
    set_context_policy(context_policy::count);
    machine_config config;
    config.kswapd = kswapd_mode::off;  // unless a test asks for it
    config.cgroup = false;
    config_error error;
    if (!parse_config(parameters.c_str(), config, error) || machine_init(*machine_, config, error) != err::ok)
      throw ops_error("no machine for \"" + parameters + "\": " + error.text);
    settle();
    charged_at_start_ = charged_pages(*machine_);
  }
  ~ops_machine() {
    disarm();
    machine_destroy(*machine_);
    set_context_policy(context_policy::report);
    set_printk_sink(before_);
  }
  ops_machine(const ops_machine&) = delete;
  ops_machine& operator=(const ops_machine&) = delete;

  void step(const operation& op);
  void finish();
  void check_everything();
  machine& m() { return *machine_; }
  std::size_t held() const { return held_.size() + pool_.size(); }

 private:
  struct cache_slot {
    kmem_cache* cache = nullptr;
    bool constructed = false;
    bool dma = false;
  };
  /// What surrounds one operation.
  struct surroundings {
    gfp_t gfp = gfp::kernel;
    op_context context = op_context::process;
    bool nested = false;
    std::uint32_t scopes = 0;
    std::uint32_t fail_nth = 0;
    bool fail_persistent = false;
  };

  // ops_machine_alloc.hpp
  void allocate(const operation& op);
  void allocate_pages(const operation& op);
  void reallocate(const operation& op);
  void bulk(const operation& op);
  void create_cache(const operation& op);
  void destroy_cache(const operation& op);
  void wrong_free(const operation& op);
  void wrong_free_of_page(const operation& op);
  void wrong_free_of_object(const operation& op);
  void refused(std::uint64_t before, std::uint64_t after, const char* what);
  void release(const entry& e);
  void free_at(std::size_t index);

  void run_one(const operation& op);
  void run_surrounded(const operation& op);
  void run_with_locks(const operation& op);
  bool allowed_in_handler(const operation& op) const;
  void modify(const operation& op);
  void drain(unsigned which);
  void settle();
  void disarm();
  void check_budget();
  void check_charged();
  bool must_succeed(std::uint64_t n) const;
  void expect_served(bool served, std::uint64_t n, const char* what) const;
  void keep(entry e, bool zeroed, std::size_t asked);
  void check_place(const entry& e, gfp_t gfp) const;
  bool in_handler() const { return now_.nested; }
  std::size_t pick_of(const operation& op) const { return op.pick % held_.size(); }
  static std::uint64_t reclaim(void* context, gfp_t gfp, std::uint64_t nr_pages) noexcept;

  std::unique_ptr<machine> machine_;
  printk_sink before_ = nullptr;
  cpu_choice cpus_;
  range_map ranges_;
  std::vector<entry> held_;
  std::vector<entry> pool_;  // what the reclaim callback may free
  cache_slot slots_[nr_slots];
  std::uint64_t ids_ = 0;
  std::uint64_t charged_at_start_ = 0;
  surroundings now_, next_;
  bool points_armed_ = false;
  int callback_ = -1;
  bool callback_allocates_ = false;
  bool unsettled_ = false;  // something may be on a deferred list
  std::string callback_error_;
  unsigned busy_locks_ = 0;  // of the next operation
};

}  // namespace kmem::testing

#include "model/ops_machine_alloc.hpp"
#include "model/ops_machine_run.hpp"
