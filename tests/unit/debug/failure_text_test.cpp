#include <cstring>

#include "debug_fixture.hpp"

namespace kmem {
namespace {

TEST(failure_text, has_the_kernels_form) {
  alloc_failure f;
  f.gfp = gfp::atomic;
  f.order = 2;
  f.bytes = 16384;
  f.reached = chain_step::reserve;
  f.zone = static_cast<uint8_t>(zone_idx::normal);
  f.limit = 4096;
  f.metadata = 100;
  f.managed = 3000;
  f.charged = 2999;
  f.free = 1;
  f.preempt_count = 0x10001;
  std::strcpy(f.cache, "kmalloc-4k");
  memcpy(f.comm, "worker", 7);
  f.pcs[0] = reinterpret_cast<void*>(0x1000);
  f.pcs[1] = reinterpret_cast<void*>(0x2000);
  f.nr_pcs = 2;
  char text[2000];
  const size_t length = write_failure(f, text, sizeof text, write_raw_pc);
  EXPECT_EQ(length, strlen(text));
  EXPECT_STREQ(text,
               "worker: page allocation failure: order:2, mode:0xa20(GFP_ATOMIC), nodemask=(null),cpuset=/,mems_allowed=0\n"
               "request: 16384 bytes for cache kmalloc-4k, last step: reserve, preempt_count: 10001\n"
               "Call Trace:\n"
               " <TASK>\n"
               "  0x0000000000001000\n"
               "  0x0000000000002000\n"
               " </TASK>\n"
               "Mem-Info:\n"
               "budget:16384kB metadata:400kB\n"
               "Node 0 Normal free:4kB managed:12000kB charged:11996kB reserve:0kB free_pcp:0kB transit:0kB\n");
  char cut[40];
  EXPECT_EQ(write_failure(f, cut, sizeof cut, write_raw_pc), length);
  EXPECT_EQ(strlen(cut), sizeof cut - 1);
}

TEST(failure_text, names_zones_and_types) {
  EXPECT_STREQ(zone_name(zone_idx::dma), "DMA");
  EXPECT_STREQ(zone_name(zone_idx::movable), "Movable");
  EXPECT_STREQ(zone_name(zone_idx(17)), "?");
  EXPECT_STREQ(migratetype_name(migratetype::reclaimable), "Reclaimable");
  EXPECT_STREQ(migratetype_name(migratetype(9)), "?");
}

}  // namespace
}  // namespace kmem
