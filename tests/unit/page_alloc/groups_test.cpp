// A budget that came from a cgroup is read again as the machine grows.
#include "unit/memmap/fake_system.hpp"
#include "unit/page_alloc/fixture.hpp"

namespace kmem {
namespace {

using kmem::test::fake_system;
using testing::held_pages;
using testing::printed;
using testing::test_machine;

constexpr uint64_t mib = uint64_t{1} << 20;
constexpr uint64_t limit = 100 * mib;
constexpr uint64_t slack_pages = 4 * mib >> page_shift;  // readings are 4 MiB of growth apart

/// What the group counts of the machine: everything that is backed or may be touched.
uint64_t held_budget(page_allocator& pa) {
  uint64_t sum = pa.metadata_pages.load_relaxed();
  for (const zone& z : pa.zones) sum += z.committed.load_relaxed();
  return sum;
}

/// A v2 group of 100 MiB whose other processes use what a test says.
class shared_group {
 public:
  shared_group() {
    system_.proc("0::/box\n", kmem::test::mount2);
    others_use(0, nullptr);
  }
  machine_config config() const {
    machine_config c;
    c.cpus = 4;
    c.path_prefix = system_.prefix();
    return c;
  }
  void others_use(uint64_t bytes, page_allocator* pa) const {
    const uint64_t own = pa != nullptr ? held_budget(*pa) << page_shift : 0;
    system_.group2("/sys/fs/cgroup/box", std::to_string(limit), "max", bytes + own);
  }
  /// Takes pages until there are none, with the group's usage following. Return: pages held.
  uint64_t exhaust(page_allocator& pa, held_pages& held, uint64_t others) const {
    for (unsigned n = 0; held.take(gfp::kernel | gfp::noretry | gfp::nowarn) != nullptr; ++n)
      if (n % 256 == 0) others_use(others, &pa);
    return charged_pages(pa);
  }

 private:
  fake_system system_;
};

TEST(groups, what_others_use_is_withheld_as_the_machine_grows) {
  const shared_group group;
  test_machine m(group.config());
  const printed output;
  ASSERT_EQ(m->limit.raw(), 80 * mib >> page_shift);
  held_pages held(*m);
  group.exhaust(*m, held, 60 * mib);
  EXPECT_GT(m->withheld.load_relaxed(), 0u);
  EXPECT_LE(held_budget(*m), (30 * mib >> page_shift) + slack_pages) << "100 - 10 of headroom - 60 of others";
  EXPECT_GE(held_budget(*m), 24 * mib >> page_shift);
  EXPECT_NE(output.text().find("the cgroup's limit leaves"), std::string::npos) << output.text();
  m.check();
}

TEST(groups, what_others_give_back_can_be_used_again) {
  const shared_group group;
  test_machine m(group.config());
  const printed output;
  held_pages held(*m);
  const uint64_t tight = group.exhaust(*m, held, 60 * mib);
  held.release();
  drain_cpu_pages(*m, true);
  give_back(*m, ~uint64_t{0}, true);
  group.others_use(0, &*m);
  const uint64_t wide = group.exhaust(*m, held, 0);
  EXPECT_GT(wide, 2 * tight);
  EXPECT_EQ(m->withheld.load_relaxed(), 0u);
  m.check();
}

TEST(groups, free_pages_make_room_for_what_is_withheld) {
  const shared_group group;
  test_machine m(group.config());
  const printed output;
  {
    held_pages held(*m);
    group.exhaust(*m, held, 0);
  }
  drain_cpu_pages(*m, true);
  const uint64_t before = held_budget(*m);
  ASSERT_GT(before, 70 * mib >> page_shift) << "free, and backed";
  group.others_use(60 * mib, &*m);
  follow_groups(*m);
  follow_groups(*m);
  EXPECT_GE(m->withheld.load_relaxed(), 40 * mib >> page_shift);
  EXPECT_LE(held_budget(*m), 35 * mib >> page_shift);
  m.check();
}

TEST(groups, a_stated_budget_follows_nobody) {
  const shared_group group;
  machine_config config = group.config();
  config.mem = 64 * mib;
  test_machine m(config);
  EXPECT_FALSE(m->follows_groups);
}

}  // namespace
}  // namespace kmem
