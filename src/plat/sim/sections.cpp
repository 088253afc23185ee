// Restartable sequences of the simulation: what breaks one off, and how the sequence knows.
//
// What for. The twins of the sequences (slab/cpu_array.hpp) ask before each of their stores whether they are still intact, and begin anew
//           if not; the system does the same to a thread in a real sequence.
// States.   A sequence is intact while no other task has run on its CPU, and its task has not been moved, has run no handler and was not
//           fenced. Tasks that run on other CPUs do not matter to it: they are what runs at the same time.
// Tests.    tests/sim/sim_scheduler_test.cpp
#include "plat/plat.hpp"
#include "plat/sim/world.hpp"

namespace kmem {
namespace simulation {

void run_on_its_cpu(const task& t) noexcept {
  world& w = the_world;
  if (w.cpu_runs[t.cpu] == &t) return;
  w.cpu_runs[t.cpu] = &t;
  ++w.cpu_switches[t.cpu];
}

}  // namespace simulation

bool plat_sim::prepare_sections() noexcept { return simulation::the_world.knobs.has_sections; }

bool plat_sim::fence_sections() noexcept {
  yield_point();
  simulation::world& w = simulation::the_world;
  for (int i = 0; i < w.nr_tasks; ++i) ++w.tasks[i].breaks;
  return true;
}

plat_sim::section_mark plat_sim::section_begin() noexcept {
  const simulation::world& w = simulation::the_world;
  const simulation::task& me = w.running != nullptr ? *w.running : w.main_task;
  return {me.cpu, w.cpu_switches[me.cpu], me.breaks};
}

bool plat_sim::section_intact(const section_mark& mark) noexcept {
  const section_mark now = section_begin();
  return now.cpu == mark.cpu && now.cpu_switches == mark.cpu_switches && now.breaks == mark.breaks;
}

}  // namespace kmem
