// What real threads do with the whole chain: they allocate, wait, shrink, set aside, interrupt each other and fork, and check what they
// hold.
#pragma once
#include <sys/types.h>

#include <deque>
#include <mutex>
#include <stop_token>

#include <kmem/interrupt.hpp>
#include <kmem/lru_cache.hpp>
#include <kmem/wait.hpp>

#include "stress/stress_load.hpp"

namespace kmem::stress {

/// How often what happened, to see that the load is one.
struct chain_counts {
  std::atomic<uint64_t> operations{0}, nulls{0}, timed_out{0}, interrupted{0}, stopped{0}, served{0}, never_failed{0}, scans{0}, scanned{0},
      kswapd_scans{0}, scan_allocations{0}, removed{0}, notified{0}, elements{0}, resizes{0}, reserved{0}, caches{0},
      lru_hits{0}, lru_evicted{0}, tasklets{0}, timers{0}, interrupts{0}, kept_by_handlers{0}, forks{0}, quiet_moments{0};
  std::array<uint64_t, nr_fail_points> failed{};  // of the passages of each fail point
};

/// What runs, on the process's machine. Threads run actors until stop(); two more send signals and fork. Whatever is wrong is kept, and
/// expected not to be there at the end.
class chain_load {
 public:
  static constexpr unsigned nr_actors = 8;

  chain_load(machine& m, uint64_t seed);
  ~chain_load();
  chain_load(const chain_load&) = delete;
  chain_load& operator=(const chain_load&) = delete;

  /// Runs all threads for that long, with a watchdog over them. `forks`: one of them forks. `fails`: percent of the passages of each fail
  /// point.
  void run(std::chrono::milliseconds duration, bool forks, uint32_t fails);
  chain_counts counts;

 private:
  // Pieces that are kept in softirq or hardirq context, where no container of the library may grow.
  struct kept_pieces {
    std::array<piece, 12> pieces{};
    unsigned n = 0;
    uint32_t random = 1;
    std::atomic<bool> in_use{false};
  };
  /// Pieces that reclaim may take. Its lock is only tried by reclaim: in the child of a fork its holder may be gone.
  struct takeable {
    std::mutex lock;
    std::vector<piece> pieces;
    std::atomic<size_t> n{0};
    std::atomic<bool> gone{true};
    bool registered = false;
    bool moody = false;
  };
  struct actor {
    chain_load* load = nullptr;
    unsigned number = 0;
    std::minstd_rand random;
    std::vector<piece> held;
    bool grows = true;
    std::atomic<uint64_t> progress{0};
    std::atomic<const char*> doing{"nothing yet"};
    std::atomic<bool> finished{false};
    takeable shrinkable, notified;
    kmem::shrinker shrinker;
    kmem::oom_notifier notifier;
    kmem::tasklet tasklet;
    kmem::timer timer;
    kept_pieces kept_by_tasklet, kept_by_timer;
    std::mutex stop_lock;
    std::stop_source stop{std::nostopstate};
  };
  struct lru_value {
    std::array<uint64_t, 20> words;
  };

  uint64_t roll(actor& me, uint64_t n) { return me.random() % n; }
  bool percent(actor& me, uint64_t p) { return roll(me, 100) < p; }
  void wrong(const char* what);

  void run_actor(actor& me);
  void finish(actor& me);
  void one_operation(actor& me);
  void churn(actor& me);
  void keep(actor& me, const piece& p);
  void give_one(actor& me);
  void clear_memory(actor& me);
  void wait_bounded(actor& me);
  void check_ended_wait(bool has_deadline, std::chrono::steady_clock::time_point deadline, bool interruptible, bool stopped);
  void stop_somebody(actor& me);
  void never_fail(actor& me);
  void use_pool(actor& me);
  void reserve_objects(actor& me);
  void toggle_shrinker(actor& me);
  void toggle_notifier(actor& me);
  void collect(actor& me, takeable& into, unsigned n);
  void let_go(takeable& from);
  void make_and_end_cache(actor& me);
  void use_lru(actor& me);
  void maintain(actor& me);
  void defer(actor& me);

  void check_asked(const void* inside, gfp_t needs, gfp_t told, bool gone);
  void run_deferred(kept_pieces& kept);
  void keep_or_give(kept_pieces& kept);
  static uint64_t count_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept;
  static uint64_t scan_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept;
  static uint64_t notify(kmem::oom_notifier* self) noexcept;
  static irq_return on_interrupt(int irq, void* device) noexcept;
  static lru_value value_of(uint64_t key);
  static void on_evicted(void* context, const uint64_t& key, lru_value& value) noexcept;

  static void pass_gate(const std::atomic<bool>& gate, std::atomic<unsigned>& arrived);
  bool close_gates();
  void open_gates();
  void wait_for_all(std::atomic<unsigned>& arrived);
  void set_fail_points(uint32_t probability);
  void send_signals(std::vector<std::thread>& threads);
  void fork_again_and_again();
  bool fork_once(bool quiet);
  int child_of_fork(bool quiet);
  void watch();
  [[noreturn]] void report_hang(const char* who);

  machine& m_;
  const uint64_t seed_;
  shared_load shared_;
  std::deque<actor> actors_;
  std::array<mempool*, 3> pools_{};
  std::array<unsigned, 3> element_bytes_{};
  std::mutex resize_lock_;
  std::unique_ptr<lru_cache<uint64_t, lru_value>> lru_;
  std::atomic<bool> stop_{false}, no_more_signals_{false}, watched_{true}, in_child_{false}, fails_{false};
  std::atomic<bool> sender_gate_{false}, gate_{false};
  std::atomic<unsigned> nr_senders_at_gate_{0}, nr_at_gate_{0};
  std::atomic<unsigned> nr_stopped_{0}, nr_deaf_{0};
  std::atomic<uint64_t> signal_progress_{0}, fork_progress_{0};
  std::vector<piece> held_by_forker_;
  std::mutex wrong_lock_;
  std::vector<std::string> wrong_;
};

}  // namespace kmem::stress
