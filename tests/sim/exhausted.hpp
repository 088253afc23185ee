// A machine of a simulated world in which an ordinary request finds nothing.
#pragma once
#include <vector>

#include "sim/sim_driver.hpp"
// After the driver: the front header of all layers that a machine is made of.
#include "reclaim/reclaim.hpp"

namespace kmem::sim_test {

/// A machine and a task that takes all that an ordinary request can have.
struct exhausted {
  explicit exhausted(world& w, const char* parameters) : m(w.make<machine>()) {
    machine_config config;
    config.kswapd = kswapd_mode::off;  // unless a test asks for it
    config_error error;
    KMEM_SIM_CHECK(parse_config(parameters, config, error));
    config.cgroup = false;
    KMEM_SIM_CHECK(machine_init(m, config, error) == err::ok);
    while (page* const p = alloc_pages(m, gfp::kernel | gfp::nowarn | gfp::noretry, order_t(0))) taken.push_back(p);
  }
  /// The first ones are pages of NORMAL.
  void give_first(size_t n) {
    for (size_t i = 0; i < n; ++i) free_pages(m, taken[i], order_t(0));
    taken.erase(taken.begin(), taken.begin() + static_cast<std::ptrdiff_t>(n));
  }
  void give_all() {
    for (page* const p : taken) free_pages(m, p, order_t(0));
    taken.clear();
  }
  machine& m;
  std::vector<page*> taken;
};

}  // namespace kmem::sim_test
