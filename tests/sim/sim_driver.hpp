// Runs scenarios of the simulated core, one seed after another.
//
// A scenario sets up its world and spawns tasks; they start when it has returned. A seed that fails is reported with its number and the
// command that runs just that seed again. Environment: KMEM_SEED=n runs one seed, KMEM_SEEDS=count that many from 1.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/base.hpp"
#include "plat/sim/simulation.hpp"

namespace kmem::sim_test {

/// What a scenario builds with. Objects of make() live until all tasks are done; those of a failed world are not destroyed.
class world {
 public:
  explicit world(uint64_t seed) : seed_(seed) {}
  world(const world&) = delete;
  world& operator=(const world&) = delete;

  uint64_t seed() const { return seed_; }
  /// Adds a task, on CPU `cpu` (-1: the seed chooses). Every task must leave its context as it found it: no count, lock or scope open.
  /// Return: its number.
  int spawn(std::string name, std::function<void()> body, int cpu = -1);
  /// A signal handler of a task, called by config::signal_chance. It must leave the task's context as it found it.
  void set_handler(int task, std::function<void()> handler);
  /// Runs as a task of its own when all others are done: the checks of the end.
  void at_end(std::function<void()> check) { at_end_.push_back(std::move(check)); }
  /// An object that all tasks may use.
  template <class T, class... Arguments>
  T& make(Arguments&&... arguments) {
    auto owner = std::make_unique<holder<T>>(std::forward<Arguments>(arguments)...);
    T& object = owner->object;
    objects_.push_back(std::move(owner));
    return object;
  }
  /// A number below `bound` from the world's seed.
  uint64_t random(uint64_t bound) { return simulation::random(bound); }

 private:
  friend struct runner;
  struct any_holder {
    virtual ~any_holder() = default;
  };
  template <class T>
  struct holder : any_holder {
    template <class... Arguments>
    explicit holder(Arguments&&... arguments) : object(std::forward<Arguments>(arguments)...) {}
    T object;
  };

  uint64_t seed_;
  std::vector<std::unique_ptr<any_holder>> objects_;
  std::vector<std::unique_ptr<std::function<void()>>> functions_;  // bodies and handlers: their addresses must stay
  std::vector<std::function<void()>> at_end_;
};

using scenario = std::function<void(world&)>;

struct result {
  uint64_t seed = 0;
  bool failed = false;
  std::string why;     // with the tasks' states and stacks
  std::string output;  // what the core wrote
  uint64_t steps = 0;
  uint64_t history = 0;  // equal for equal runs
};

/// Runs one seed. `knobs.seed` is replaced by `seed`. Failures of gtest expectations inside tasks count, too.
result run_seed(const scenario& body, uint64_t seed, simulation::config knobs = {});
/// Runs `seeds` seeds, or as many as the environment asks for, from `first` on. One that fails fails the current test and ends it.
void expect_seeds_pass(const scenario& body, simulation::config knobs = {}, uint64_t seeds = 200, uint64_t first = 1);
/// Runs seeds 1 .. seeds, whatever the environment says. Return: the first that fails.
std::optional<result> find_failing_seed(const scenario& body, simulation::config knobs, uint64_t seeds);
/// The command that runs only `seed` of the current test.
std::string command_for(uint64_t seed);

}  // namespace kmem::sim_test

/// Fails the world when the condition does not hold. Unlike gtest's ASSERT_*, works at any depth and stops all tasks.
#define KMEM_SIM_TEXT_(x) #x
#define KMEM_SIM_TEXT(x) KMEM_SIM_TEXT_(x)
#define KMEM_SIM_CHECK(condition) \
  ((condition) ? void(0) : ::kmem::simulation::fail(__FILE__ ":" KMEM_SIM_TEXT(__LINE__) ": " #condition))
