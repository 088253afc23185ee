#pragma once

// A made-up replay with plausible proportions, for the tests of the reports. Same seed, same result.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tools/kmem/report/result.hpp"

namespace report_fixture {

using namespace kmem::tool::report;

inline constexpr std::uint64_t mib = 1024 * 1024;

struct gfp_shape {
  const char* gfp;
  const char* gfp_class;
  std::uint64_t allocs;
  std::uint64_t size;
  std::array<unsigned, alloc_context_count> contexts;  // percent
  unsigned failed_per_mille;                           // under the small budget
  const char* step;
};

inline const std::vector<gfp_shape>& shapes() {
  static const std::vector<gfp_shape> all{
      {"GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO", "GFP_HIGHUSER_MOVABLE", 71405, 4096, {100, 0, 0, 0}, 0, "reclaim"},
      {"GFP_NOWAIT|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC", "GFP_NOWAIT", 72411, 576, {70, 30, 0, 0}, 31, "larger classes"},
      {"GFP_HIGHUSER_MOVABLE|__GFP_COMP", "GFP_HIGHUSER_MOVABLE", 68545, 4096, {100, 0, 0, 0}, 2, "give-back"},
      {"GFP_KERNEL", "GFP_KERNEL", 64295, 312, {100, 0, 0, 0}, 0, "reclaim"},
      {"GFP_NOWAIT|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC", "GFP_NOWAIT", 50478, 104, {88, 12, 0, 0}, 22, "larger classes"},
      {"GFP_KERNEL|__GFP_ZERO", "GFP_KERNEL", 37208, 256, {99, 1, 0, 0}, 0, "reclaim"},
      {"GFP_ATOMIC", "GFP_ATOMIC", 13395, 640, {2, 41, 55, 2}, 12, "reserve"},
      {"GFP_KERNEL|__GFP_NOWARN|__GFP_NOMEMALLOC", "GFP_KERNEL", 9724, 1024, {100, 0, 0, 0}, 0, "reclaim"},
      {"GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC", "GFP_ATOMIC", 8469, 232, {0, 22, 76, 2}, 9, "reserve"},
      {"GFP_KERNEL_ACCOUNT|__GFP_ZERO", "GFP_KERNEL", 8851, 4096, {100, 0, 0, 0}, 0, "reclaim"},
      {"GFP_NOFS|__GFP_ZERO", "GFP_NOFS", 3701, 512, {100, 0, 0, 0}, 18, "give-back"},
      {"GFP_HIGHUSER|__GFP_ACCOUNT", "GFP_HIGHUSER", 3317, 4096, {100, 0, 0, 0}, 4, "give-back"},
      {"GFP_NOIO|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC", "GFP_NOIO", 1789, 2048, {97, 3, 0, 0}, 190, "drain"},
      {"GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP", "GFP_NOWAIT", 483, 16384, {98, 2, 0, 0}, 77, "larger classes"},
      {"__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC|__GFP_RECLAIMABLE",
       "other",
       11,
       32768,
       {100, 0, 0, 0},
       0,
       "drain"},
      {"GFP_USER|__GFP_COMP|__GFP_WRITE", "GFP_USER", 2, 4096, {100, 0, 0, 0}, 0, "reclaim"},
  };
  return all;
}

class generator {
 public:
  generator(std::uint64_t budget, bool suffices) : random_(suffices ? 11u : 12u), suffices_(suffices) { result_.budget_bytes = budget; }

  replay_result make() {
    run();
    flags();
    time_series();
    failures();
    caches();
    blocks();
    texts();
    latencies();
    sleeps();
    reclaim();
    return std::move(result_);
  }

 private:
  double uniform() { return std::uniform_real_distribution<double>(0.0, 1.0)(random_); }
  std::uint64_t lognormal(double median, double sigma) {
    return static_cast<std::uint64_t>(median * std::exp(std::normal_distribution<double>(0.0, sigma)(random_)));
  }

  void run() {
    result_.kmem_version = "0.1.0";
    result_.traces = {{"traces/net.trace.zst", "zstd", 4266847, 906978, 906966, 16'400'000'000, 2, "Linux 6.1.192"}};
    result_.threads = 2;
    result_.touch = true;
    result_.verify = true;
    result_.parameters = {{"mem", suffices_ ? "320M" : "96M"}, {"vm.min_free_kbytes", "2048"}, {"vm.reserve_policy", "spec"}};
    result_.wall_ns = 1'930'000'000;
    totals& total = result_.total;
    total.events = 906966;
    total.unmatched_frees = 29788;
    total.implied_frees = 2912;
    total.null_frees = 14168;
    total.skipped_pages_events = 9120;
    total.frees = 433182;
    total.live_at_end_objects = 5212;
    total.live_at_end_bytes = 5 * mib + 812345;
    result_.gfp_classes = {"GFP_KERNEL", "GFP_ATOMIC",   "GFP_NOWAIT",           "GFP_NOIO", "GFP_NOFS",
                           "GFP_USER",   "GFP_HIGHUSER", "GFP_HIGHUSER_MOVABLE", "other"};
  }

  void flags() {
    std::vector<context_row> cells;
    for (const gfp_shape& shape : shapes()) {
      gfp_row row;
      row.gfp = shape.gfp;
      row.gfp_class = shape.gfp_class;
      row.allocs = shape.allocs;
      row.bytes = shape.allocs * shape.size;
      row.failed = suffices_ ? 0 : shape.allocs * shape.failed_per_mille / 1000;
      row.failed_bytes = row.failed * shape.size;
      if (row.failed != 0) {
        row.failed_by_step.push_back({shape.step, row.failed - row.failed / 5});
        row.failed_by_step.push_back({"no pages in zone", row.failed / 5});
      }
      for (std::uint64_t number = 0; number < std::min<std::uint64_t>(shape.allocs, 2000); ++number) {
        row.latency_ns.record(lognormal(shape.size > 2048 ? 310 : 44, 0.5));
      }
      for (std::size_t context = 0; context < alloc_context_count; ++context) {
        const std::uint64_t allocs = shape.allocs * shape.contexts[context] / 100;
        if (allocs != 0) {
          add_cell(cells, {static_cast<alloc_context>(context), shape.gfp_class, allocs, allocs * shape.size,
                           row.failed * shape.contexts[context] / 100});
        }
      }
      result_.total.allocs += row.allocs;
      result_.total.failed += row.failed;
      result_.total.requested_bytes += row.bytes;
      result_.by_gfp.push_back(std::move(row));
    }
    result_.by_context = cells;
    result_.total.frees_of_failed = result_.total.failed;
    const std::uint64_t failed = result_.total.failed;
    result_.by_kind = {{"kmalloc", 44619, 44619, 0, failed / 5, 61 * mib},
                       {"kfree", 56779, 34611, 22168, 0, 60 * mib},
                       {"kmem_cache_alloc", 242880, 242880, 0, failed / 3, 118 * mib},
                       {"kmem_cache_free", 244678, 238290, 6388, 0, 116 * mib},
                       {"mm_page_alloc", 156497, 147377, 9120, failed - failed / 5 - failed / 3, 601 * mib},
                       {"mm_page_free", 161513, 143201, 18312, 0, 598 * mib}};
  }

  static void add_cell(std::vector<context_row>& cells, const context_row& cell) {
    for (context_row& one : cells) {
      if (one.context == cell.context && one.gfp_class == cell.gfp_class) {
        one.allocs += cell.allocs;
        one.bytes += cell.bytes;
        one.failed += cell.failed;
        return;
      }
    }
    cells.push_back(cell);
  }

  // What the workload would like to hold: small requests first, then two memory hogs.
  static double wanted(double t) {
    double bytes = 18.0 + 9.0 * std::sin(t * 31.0) * std::exp(-3.0 * (t - 0.2) * (t - 0.2)) + 14.0 * t;
    bytes += t > 0.55 ? 175.0 * std::min(1.0, (t - 0.55) / 0.17) : 0.0;
    bytes -= t > 0.78 ? 120.0 * std::min(1.0, (t - 0.78) / 0.02) : 0.0;
    bytes += t > 0.83 ? 150.0 * std::min(1.0, (t - 0.83) / 0.1) : 0.0;
    return bytes - (t > 0.96 ? 165.0 * std::min(1.0, (t - 0.96) / 0.02) : 0.0);
  }

  void time_series() {
    constexpr int count = 900;
    const double budget = static_cast<double>(result_.budget_bytes) / static_cast<double>(mib);
    double dropped = 0.0;
    double pressure = 0.0;
    std::vector<double> squeezes;
    for (int number = 0; number <= count; ++number) {
      const double t = static_cast<double>(number) / count;
      const double metadata = 1.6 + t * 1.1;
      const double wish = wanted(t) * (1.0 + 0.02 * uniform()) - dropped * 0.2;
      const double room = budget - metadata - 0.7 - uniform() * 1.2;
      const double charged = std::clamp(wish, 4.0, room);
      const double over = std::max(0.0, wish - room);
      dropped += over * 0.035;
      pressure += over;
      squeezes.push_back(pressure);
      sample one;
      one.time_ns = static_cast<std::uint64_t>(t * 16.4e9);
      one.events = static_cast<std::uint64_t>(t * 906966.0);
      one.charged_bytes = static_cast<std::uint64_t>(charged * static_cast<double>(mib));
      one.live_bytes = static_cast<std::uint64_t>(charged * 0.93 * static_cast<double>(mib));
      one.metadata_bytes = static_cast<std::uint64_t>(metadata * static_cast<double>(mib));
      one.budget_bytes = result_.budget_bytes;
      one.free_present_bytes = static_cast<std::uint64_t>(std::min(3.0 + 5.0 * uniform(), std::max(0.0, budget - charged - metadata)) *
                                                          static_cast<double>(mib));
      one.reserve_bytes = static_cast<std::uint64_t>((over > 0.0 ? 0.4 + uniform() : 2.0) * static_cast<double>(mib));
      one.arena_resident_bytes = one.charged_bytes * 97 / 100;
      one.droppable_bytes = static_cast<std::uint64_t>(std::max(0.0, charged - 24.0) * 0.8 * static_cast<double>(mib));
      one.dropped_bytes = static_cast<std::uint64_t>(dropped * static_cast<double>(mib));
      result_.samples.push_back(one);
    }
    spread_failures(squeezes);
    peaks_from_samples();
    totals& total = result_.total;
    total.dropped_bytes = result_.samples.back().dropped_bytes / page_bytes * page_bytes;
    total.dropped_pages = total.dropped_bytes / page_bytes;
    total.reclaim_calls = total.dropped_pages / 41;
    total.late_frees_of_dropped = total.dropped_pages * 9 / 10;
  }

  void spread_failures(const std::vector<double>& pressure) {
    std::vector<std::uint64_t> by_class(result_.gfp_classes.size(), 0);
    for (const gfp_row& row : result_.by_gfp) {
      by_class[class_index(row.gfp_class)] += row.failed;
    }
    for (std::size_t number = 0; number < result_.samples.size(); ++number) {
      const double share = pressure.back() > 0.0 ? pressure[number] / pressure.back() : 0.0;
      sample& one = result_.samples[number];
      for (const std::uint64_t failed : by_class) {
        one.failed_by_class.push_back(static_cast<std::uint64_t>(static_cast<double>(failed) * share));
        one.failed += one.failed_by_class.back();
      }
    }
  }

  void peaks_from_samples() {
    for (const sample& one : result_.samples) {
      if (one.charged_bytes > result_.peak.charged_bytes) {
        result_.peak.charged_bytes = one.charged_bytes;
        result_.peak.charged_time_ns = one.time_ns;
      }
      result_.peak.live_bytes = std::max(result_.peak.live_bytes, one.live_bytes);
      result_.peak.metadata_bytes = std::max(result_.peak.metadata_bytes, one.metadata_bytes);
      result_.peak.arena_resident_bytes = std::max(result_.peak.arena_resident_bytes, one.arena_resident_bytes);
    }
  }

  std::size_t class_index(const std::string& name) const {
    const auto found = std::find(result_.gfp_classes.begin(), result_.gfp_classes.end(), name);
    return static_cast<std::size_t>(found - result_.gfp_classes.begin());
  }

  void failures() {
    if (result_.total.failed == 0) {
      return;
    }
    std::uint64_t line = 611002;
    for (int number = 0; number < 60; ++number) {
      const gfp_shape& shape = shapes()[static_cast<std::size_t>(uniform() * 13.0)];
      if (shape.failed_per_mille == 0) {
        continue;
      }
      failure_record record;
      record.line = line += lognormal(40, 1.2);
      record.time_ns = 9'100'000'000 + static_cast<std::uint64_t>(number) * 31'700'000;
      record.gfp = shape.gfp;
      record.gfp_class = shape.gfp_class;
      record.size_bytes = shape.size;
      record.kind = shape.size >= 4096 ? "mm_page_alloc" : "kmem_cache_alloc";
      record.order = shape.size >= 4096 ? static_cast<int>(std::log2(static_cast<double>(shape.size) / 4096.0)) : -1;
      record.cache = shape.size >= 4096 ? "" : "skbuff_head_cache";
      record.context = shape.contexts[2] > 50 ? alloc_context::softirq : alloc_context::task;
      record.step = shape.step;
      record.zone = record.gfp_class == "GFP_HIGHUSER_MOVABLE" ? "Movable" : "Normal";
      record.charged_bytes = result_.budget_bytes - 3 * mib;
      record.free_bytes = static_cast<std::uint64_t>(uniform() * 1e6) / page_bytes * page_bytes;
      record.reserve_bytes = shape.contexts[2] > 50 ? 0 : 512 * 1024;
      result_.failures.push_back(record);
    }
  }

  void caches() {
    struct shape {
      const char* name;
      bool size_class;
      std::uint64_t size;
      std::uint64_t active;
      std::uint32_t pages;
      double fill;
      double rounding;
    };
    static const shape all[] = {{"vm_area_struct", false, 208, 9120, 1, 0.91, 0.04},
                                {"dentry", false, 192, 21120, 1, 0.97, 0.0},
                                {"radix_tree_node", false, 576, 6410, 4, 0.88, 0.0},
                                {"inode_cache", false, 600, 2610, 4, 0.93, 0.01},
                                {"anon_vma_chain", false, 64, 15240, 1, 0.84, 0.0},
                                {"anon_vma", false, 112, 8120, 1, 0.86, 0.07},
                                {"filp", false, 256, 2840, 1, 0.62, 0.09},
                                {"sock_inode_cache", false, 832, 940, 8, 0.71, 0.02},
                                {"skbuff_head_cache", false, 256, 610, 1, 0.33, 0.09},
                                {"task_struct", false, 4160, 124, 8, 0.9, 0.0},
                                {"maple_node", false, 256, 3310, 1, 0.79, 0.0},
                                {"signal_cache", false, 1088, 130, 8, 0.54, 0.0},
                                {"TCP", false, 2304, 88, 8, 0.41, 0.0},
                                {"pid", false, 128, 512, 1, 0.77, 0.11},
                                {"kmalloc-8", true, 8, 412, 1, 0.81, 0.32},
                                {"kmalloc-16", true, 16, 3120, 1, 0.93, 0.21},
                                {"kmalloc-32", true, 32, 2010, 1, 0.88, 0.09},
                                {"kmalloc-64", true, 64, 6210, 1, 0.94, 0.12},
                                {"kmalloc-128", true, 128, 911, 1, 0.71, 0.08},
                                {"kmalloc-256", true, 256, 1620, 1, 0.78, 0.03},
                                {"kmalloc-512", true, 512, 812, 1, 0.72, 0.11},
                                {"kmalloc-1k", true, 1024, 1310, 2, 0.55, 0.02},
                                {"kmalloc-2k", true, 2048, 310, 4, 0.69, 0.06},
                                {"kmalloc-4k", true, 4096, 214, 8, 0.83, 0.04},
                                {"kmalloc-8k", true, 8192, 31, 8, 0.74, 0.01}};
    result_.cache_moment = "at the charged peak";
    for (const shape& one : all) {
      cache_row row;
      row.name = one.name;
      row.size_class = one.size_class;
      row.object_bytes = one.size;
      row.allocs = one.active * 7;
      row.failed = suffices_ ? 0 : one.active / 90;
      row.allocated_bytes = row.allocs * one.size;
      row.requested_bytes = static_cast<std::uint64_t>(static_cast<double>(row.allocated_bytes) * (1.0 - one.rounding));
      row.active_objects = one.active;
      row.pages_per_slab = one.pages;
      const std::uint64_t per_slab = std::max<std::uint64_t>(1, one.pages * page_bytes / one.size);
      row.slabs = static_cast<std::uint64_t>(static_cast<double>(one.active) / one.fill / static_cast<double>(per_slab)) + 1;
      row.total_objects = row.slabs * per_slab;
      result_.by_cache.push_back(row);
    }
  }

  void blocks() {
    result_.block_caches = {"dentry",         "vm_area_struct", "radix_tree_node", "inode_cache",
                            "anon_vma_chain", "kmalloc-1k",     "kmalloc-64",      "filp"};
    constexpr std::size_t count = 24;
    std::size_t peak = 0;
    for (std::size_t number = 0; number < count; ++number) {
      const sample& at = result_.samples[number * (result_.samples.size() - 1) / (count - 1)];
      block_snapshot snapshot;
      snapshot.time_ns = at.time_ns;
      snapshot.events = at.events;
      snapshot.blocks = blocks_of(at);
      result_.block_maps.push_back(snapshot);
      const auto larger = result_.block_maps[peak].blocks.size() < snapshot.blocks.size();
      peak = larger ? number : peak;
    }
    result_.block_maps.front().label = "start";
    result_.block_maps.back().label = "end";
    result_.block_maps[peak].label = "charged peak";
  }

  std::vector<block_info> blocks_of(const sample& at) {
    std::vector<block_info> blocks;
    const auto used = static_cast<std::uint32_t>(at.charged_bytes / (2 * mib)) + 2;
    for (std::uint32_t number = 0; number < used + 3; ++number) {
      block_info block;
      block.index = number < 6 ? number : number + 10;
      const bool edge = number + 2 >= used;
      block.used_pages = edge ? static_cast<std::uint32_t>(uniform() * 300.0) : 440 + static_cast<std::uint32_t>(uniform() * 73.0);
      if (number == 0) {
        block.owner = block_owner::reserve;
        block.used_pages = static_cast<std::uint32_t>(at.reserve_bytes / page_bytes);
      } else if (number < 9) {
        block.owner = number == 5 ? block_owner::mixed : block_owner::slab;
        block.cache = static_cast<std::int32_t>((number * 5) % result_.block_caches.size());
      } else if (number < 12) {
        block.owner = block_owner::mixed;
      } else if (number == 14 || number == 15) {
        block.owner = block_owner::large;
        block.used_pages = 512;
      } else if (number >= used) {
        block.owner = number == used + 2 ? block_owner::in_transit : block_owner::free_present;
        block.used_pages = 0;
      } else {
        block.owner = block_owner::pages;
      }
      block.used_pages = std::min(block.used_pages, pages_per_block);
      block.present_pages = std::min<std::uint32_t>(pages_per_block, block.used_pages + 70);
      blocks.push_back(block);
    }
    return blocks;
  }

  void texts() {
    result_.slabinfo = {"slabinfo - version: 2.1",
                        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> "
                        "<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"};
    for (const cache_row& row : result_.by_cache) {
      char line[256];
      std::snprintf(line, sizeof line, "%-17s %6llu %6llu %6llu %4llu %4u : tunables    0    0    0 : slabdata %6llu %6llu      0",
                    row.name.c_str(), static_cast<unsigned long long>(row.active_objects),
                    static_cast<unsigned long long>(row.total_objects), static_cast<unsigned long long>(row.object_bytes),
                    static_cast<unsigned long long>(row.total_objects / row.slabs), row.pages_per_slab,
                    static_cast<unsigned long long>(row.slabs), static_cast<unsigned long long>(row.slabs));
      result_.slabinfo.emplace_back(line);
    }
    result_.buddyinfo = {"Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      2 ",
                         "Node 0, zone    DMA32      3      2      6      4      2      5      3      1      0      2     11 ",
                         "Node 0, zone   Normal    211    104     61     33     12      9      4      2      1      0      3 ",
                         "Node 0, zone  Movable     96     40     22      9      6      2      1      0      0      0      9 "};
  }

  void latencies() {
    const auto fill = [&](latency_path path, std::uint64_t count, double median, double sigma, double tail) {
      latency_histogram& histogram = result_.latency_ns[static_cast<std::size_t>(path)];
      for (std::uint64_t number = 0; number < count; ++number) {
        histogram.record(uniform() < tail ? lognormal(median * 40.0, 0.8) : lognormal(median, sigma));
      }
    };
    fill(latency_path::per_cpu, 40000, 38, 0.22, 0.002);
    fill(latency_path::slab_refill, 9000, 410, 0.35, 0.003);
    fill(latency_path::page_allocator, 12000, 620, 0.6, 0.01);
    fill(latency_path::slow_chain, suffices_ ? 0 : 3000, 9800, 0.9, 0.02);
    fill(latency_path::free, 40000, 33, 0.3, 0.004);
  }

  sleep_row row_of_sleeps(const std::string& name, std::uint64_t sleeps, std::uint64_t served, std::uint64_t pages, double median) {
    sleep_row row{name, sleeps, served, pages, {}};
    for (std::uint64_t number = 0; number < sleeps; ++number) {
      row.length_ns.record(lognormal(median, 1.1));
    }
    return row;
  }

  void sleeps() {
    if (suffices_) return;
    sleep_figures& slept = result_.sleeps;
    slept.by_end = {row_of_sleeps("served", 412, 412, 437, 240'000), row_of_sleeps("exhausted", 9, 0, 72, 10'000'000)};
    for (const sleep_row& row : slept.by_end) {
      slept.length_ns.merge(row.length_ns);
    }
    slept.by_gfp = {row_of_sleeps("GFP_KERNEL", 330, 325, 335, 240'000),
                    row_of_sleeps("GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO", 91, 87, 174, 310'000)};
    slept.by_cpu = {row_of_sleeps("CPU 0", 300, 295, 370, 240'000), row_of_sleeps("CPU 1", 121, 117, 139, 240'000)};
    slept.by_pages = {row_of_sleeps("1 page", 412, 412, 412, 240'000), row_of_sleeps("8 pages", 9, 0, 72, 10'000'000)};
    slept.wakes = {{"CPU 1", "replay-1", "page", "CPU 0", "replay-0", 210, 61'000'000},
                   {"kswapd", "kswapd0", "kswapd", "CPU 0", "replay-0", 81, 20'000'000},
                   {"CPU 0", "replay-0", "object", "CPU 1", "replay-1", 64, 19'000'000},
                   {"kswapd", "kswapd0", "kswapd", "CPU 1", "replay-1", 48, 9'000'000},
                   {"CPU 1", "replay-1", "reclaim", "CPU 0", "replay-0", 9, 700'000},
                   {"nobody", "", "none", "CPU 1", "replay-1", 9, 90'000'000}};
  }

  void reclaim() {
    result_.shrinkers = {{"clean page cache", "", 8957, suffices_ ? 0u : 1333u, suffices_ ? 0u : 42656u, suffices_ ? 0u : 42656u, 3377},
                         {"anonymous memory", "__GFP_IO", 8919,
                          suffices_ ? 0u : 1581u, suffices_ ? 0u : 50592u, suffices_ ? 0u : 50590u, 2}};
    result_.vmstat = {{"allocstall_normal", suffices_ ? 0u : 612u}, {"pgsteal_kswapd", suffices_ ? 0u : 58627u},
                      {"pgsteal_direct", suffices_ ? 0u : 38799u},  {"pgscan_kswapd", suffices_ ? 0u : 193139u},
                      {"pgscan_direct", suffices_ ? 0u : 39321u},   {"kswapd_low_wmark_hit_quickly", suffices_ ? 0u : 647u},
                      {"pageoutrun", suffices_ ? 0u : 653u},        {"kmem_kswapd_wakes", suffices_ ? 0u : 648u},
                      {"kmem_kswapd_vain_rounds", suffices_ ? 0u : 17u}, {"kmem_kswapd_surrenders", suffices_ ? 0u : 1u},
                      {"kmem_kswapd_slept_us", suffices_ ? 0u : 551276u}, {"kmem_deadlocks", suffices_ ? 0u : 1u}};
    std::uint64_t slept = 0;
    for (sample& one : result_.samples) {
      const std::uint64_t budget_free = one.budget_bytes - std::min(one.budget_bytes, one.charged_bytes + one.metadata_bytes);
      one.free_bytes = budget_free;
      one.min_bytes = 2 * mib;
      one.low_bytes = 2 * mib + mib / 2;
      one.high_bytes = 3 * mib;
      slept += !suffices_ && budget_free < one.low_bytes ? 1 : 0;
      one.sleeps = slept;
    }
  }

  std::mt19937 random_;
  bool suffices_;
  replay_result result_;
};

[[nodiscard]] inline replay_result plentiful() { return generator(320 * mib, true).make(); }
[[nodiscard]] inline replay_result scarce() { return generator(96 * mib, false).make(); }

}  // namespace report_fixture
