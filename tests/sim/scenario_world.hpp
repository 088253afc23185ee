// The whole core under simulated load: tasks that allocate, write, hand over and free everything the machine offers.
//
// A core_world owns one machine in one simulated world. Its tasks run random operations; after each the account must balance, each NULL
// goes to the checker, and now and then everybody stops between two operations so that the walks of the layers can be made. At the end all
// memory is back. What happened is summed up in `coverage`, so that a test can insist that its load reached what it is for.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "sim/scenario_checker.hpp"
#include "sim/scenario_shadow.hpp"
#include "sim/sim_driver.hpp"

namespace kmem::sim_test {

struct load {
  std::vector<std::string> parameters = {"mem=6M"};  // of the machine; each world takes one of them
  int nr_tasks = 8;
  unsigned tight = 50;             // percent of the worlds in which most memory is taken, here and there, before the tasks start
  unsigned spare = 2;              // of what was taken then, up to one part in this many is free
  unsigned rounds = 40;            // operations of a task
  unsigned greed = 85;             // percent of allocations while a task grows
  unsigned most_order = 11;        // orders are below it, and below the machine's
  bool narrow = false;             // all ask for the same few small things, so that they meet in the same lists
  bool handlers = true;            // signals that allocate GFP_ATOMIC
  bool waits = false;              // one task may ask with __GFP_NOFAIL
  unsigned chain = 0;              // percent of operations on shrinkers, OOM notifiers, mempools, reservations and bounded waits
  bool judged = false;             // whoever sleeps for memory is judged; wants a machine where nobody wakes for no reason
  unsigned forks = 20;             // percent of the chances taken, a real fork being slow
  unsigned platform_failures = 0;  // of 1000 calls that map, open, fault in or give back
};

/// What the worlds of a test have reached, over all seeds.
struct coverage {
  uint64_t worlds = 0, operations = 0, nulls = 0, exact_nulls = 0, quiet_nulls = 0, served_when_quiet = 0, nested_nulls = 0,
           handlers_run = 0;
  uint64_t walks = 0, forks = 0, callbacks_run = 0, callback_pages = 0, caches_made = 0, handed_over = 0, platform_failures = 0;
  uint64_t stalls = 0, given_back = 0, reserve_used = 0, reclaimed = 0, waits = 0, deferred = 0, drains = 0;
  uint64_t shrinkers = 0, shrinkers_removed_inside = 0, shrinker_scans = 0, shrinker_objects = 0, shrinker_allocations = 0;
  uint64_t notifiers = 0, notifier_calls = 0, notifier_pages = 0, kswapd_rounds = 0, kswapd_scans = 0;
  uint64_t elements = 0, element_waits = 0, reservations = 0, reserved_objects = 0;
  uint64_t waits_timed_out = 0, waits_interrupted = 0, waits_stopped = 0, turns = 0;
  uint64_t sleeps = 0, sound_sleeps = 0, suspect_sleeps = 0, judged_sleepers = 0;
};

class core_world {
 public:
  core_world(world& w, const load& wanted, coverage& seen);
  core_world(const core_world&) = delete;
  core_world& operator=(const core_world&) = delete;
  ~core_world();

  machine& allocator() { return m_; }

 private:
  /// A reclaim callback of a task, with the pages that it may be asked for.
  struct cache_of_pages {
    core_world* owner = nullptr;
    std::vector<char*> pages;
    gfp_t needs = gfp::none;
    int number = -1;
    bool gone = false;  // unregistered: nobody may be inside it any more
    uint64_t calls = 0;
  };
  /// A shrinker of a task: a cache of objects and pages that others may drop.
  struct cache_of_objects {
    kmem::shrinker hooks;
    core_world* owner = nullptr;
    std::vector<char*> objects;
    bool registered = false;
    bool moody = false;  // says now and then that it cannot, or looks at less than it was told to
    bool gone = false;   // unregistered: nobody may be inside it any more
    uint64_t calls = 0;
  };
  struct notified {
    kmem::oom_notifier hooks;
    core_world* owner = nullptr;
    std::vector<char*> pages;
    bool registered = false;
    bool gone = false;
    uint64_t calls = 0;
  };
  struct actor {
    int number = 0;
    int task = -1;
    const ask* asked = nullptr;  // what it is asking for just now
    bool atomic = false;         // it must not sleep now, as it knows itself
    const void* inside = nullptr;  // the shrinker or notifier that it runs
    cache_of_objects shrinkable;
    notified oom;
    wait_conditions* conditions = nullptr;  // others may stop its waits
    unsigned nr_stopping = 0;               // those who are just doing that
    bool was_stopped = false;
    uint64_t nr_handlers = 0;
    std::vector<char*> held;
    std::vector<char*> held_by_handler;
    cache_of_pages reclaimable;
    kmem_cache* own_cache = nullptr;
    bool grows = true;
    bool ending = false;
  };

  // ---- tasks ----
  void run_actor(actor& me);
  void one_operation(actor& me);
  void finish_actor(actor& me);
  void run_handler(actor& me);
  void end_of_world();
  void make_caches();
  void take_ballast();
  static bool fail_platform_call(simulation::platform_call, size_t) noexcept;

  // ---- operations ----
  ask random_ask(actor& me);
  ask narrow_ask(gfp_t mask);
  gfp_t random_mask(actor& me);
  /// Carries the request out. Return: the memory, entered in the shadow map, or nullptr.
  char* perform(const ask& asked);
  /// The same as the request of a task, with the flags that its scopes leave.
  char* perform_for(actor& me, const ask& asked, const ask& effective);
  char* enter(holding h, gfp_t mask);
  void allocate(actor& me);
  void on_null(actor& me, const ask& asked, bool exact);
  void check_null(const ask& asked, bool nested);
  void check_passed_over(const ask& asked);
  /// More pages than any zone that the flags allow could ever give: refused before anybody is asked.
  bool can_never_fit(const ask& asked);
  /// A shrinker that the flags allow has objects, or a notifier was not asked. Return: which, or an empty text.
  std::string chain_passed_over(const ask& asked);
  /// A callback that the flags allow has pages and was not asked, though those that were asked gave too little.
  bool callback_was_passed_over(const ask& asked);
  void forget_callback_calls();
  void give(char* begin);
  /// All of them.
  void give_all(std::vector<char*>& begins);
  void free_one(actor& me);
  void hand_over(actor& me);
  void take_over();
  void resize(actor& me);
  void bulk(actor& me);
  void area(actor& me);
  void maintain(actor& me);
  void toggle_cache(actor& me);
  void toggle_callback(actor& me);
  void fork_now(actor& me);
  void walk(actor& me);
  void check_account();
  void check_residency();
  static uint64_t reclaim(void* context, gfp_t mask, uint64_t nr_pages) noexcept;

  // ---- the chain (scenario_chain.cpp) ----
  void chain_operation(actor& me);
  void toggle_shrinker(actor& me);
  void toggle_notifier(actor& me);
  void use_pool(actor& me);
  void reserve_objects(actor& me);
  void wait_bounded(actor& me);
  void stop_somebody();
  void finish_chain(actor& me);
  void make_pools();
  /// Lets others run, for fewer than `most` scheduling points.
  void pause(uint64_t most);
  static void* scarce_alloc(gfp_t mask, void* data) noexcept;
  static void scarce_free(void* element, void* data) noexcept;
  void end_of_pools();
  void check_reserves();
  /// Whoever is asked for memory back: in the right context, for the right reason, and not inside itself.
  void check_asked_rightly(const void* inside, gfp_t needs, gfp_t told, bool gone);
  static uint64_t count_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept;
  static uint64_t scan_objects(kmem::shrinker* self, kmem::shrink_control* control) noexcept;
  static uint64_t notify(kmem::oom_notifier* self) noexcept;
  actor* running_actor();

  // ---- sleepers (scenario_chain.cpp) ----
  void watch_sleepers();
  static void on_sleep(const uint32_t* word) noexcept;
  void note_sleep(actor& me, const uint32_t* word);
  /// Somebody sleeps although something is left for it: why will be seen when everybody has finished what he does.
  void call_judge();
  /// Looks at all sleepers as they are just now, in the middle of what others do.
  void look_for_suspects();
  const waiter* waiter_on(const uint32_t* word);
  int nr_asleep();
  /// Would each of those who sleep for memory ever wake? Context: the gate is closed.
  void check_sleepers();
  void run_judge();

  // ---- the gate: everybody stops between two operations, or sleeps for memory ----
  /// `own`: 1 if the caller is one of those inside.
  bool close_gate(int own = 1);
  void open_gate();
  void pass_gate();
  void wake_gate();

  /// A number below `bound`.
  uint64_t roll(uint64_t bound) { return simulation::random(bound); }
  bool percent(unsigned chance) { return roll(100) < chance; }

  world& w_;
  const load load_;
  coverage& seen_;
  machine& m_;
  shadow_map shadow_;
  std::vector<actor*> actors_;
  std::vector<char*> mailbox_;
  std::vector<char*> ballast_;
  std::vector<kmem_cache*> caches_;
  std::vector<mempool*> pools_;
  uint32_t judge_word_ = 0;
  int nr_actors_ = 0;  // that have not ended
  uint64_t pages_reclaimed_ = 0;  // by callbacks since forget_callback_calls()
  uint64_t nr_platform_failures_ = 0;
  bool gate_closed_ = false;
  int nr_inside_ = 0;
  uint32_t gate_word_ = 0;
  bool ready_ = false;
};

/// Runs the load under `seeds` seeds (or as many as the environment asks for) from `first` on.
void expect_load_passes(const load& wanted, simulation::config knobs, uint64_t seeds, coverage& seen, uint64_t first = 1);
/// True when the environment asks for less than all seeds, so that sums over them say nothing.
bool runs_few_seeds();

}  // namespace kmem::sim_test
