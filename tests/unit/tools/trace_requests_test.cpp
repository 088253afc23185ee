// From events to requests: what is counted once, what belongs together, what cannot be replayed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tools/kmem/trace/requests.hpp"

namespace kmem::tool::trace {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t map_base = 0xffff888000000000;

// Writes events as the kernel would print them, and makes requests of them.
class trace_builder {
 public:
  trace_builder& task(int pid, int cpu = 0, const std::string& columns = ".....") {
    pid_ = pid;
    cpu_ = cpu;
    columns_ = columns;
    return *this;
  }
  trace_builder& raw(const std::string& text) {
    time_us_++;
    std::string fraction = std::to_string(1000000 + time_us_ % 1000000).substr(1);
    text_ += "            task-" + std::to_string(pid_) + " [00" + std::to_string(cpu_) + "] " + columns_ + " " +
             std::to_string(time_us_ / 1000000) + "." + fraction + ": " + text + "\n";
    return *this;
  }
  trace_builder& kmalloc(std::uint64_t address, int bytes, const std::string& gfp = "GFP_KERNEL") {
    return object("kmalloc", address, bytes, bytes, gfp, "caller+0x1/0x2");
  }
  trace_builder& cache(std::uint64_t address, int bytes, int slot, const std::string& gfp = "GFP_KERNEL",
                       const std::string& site = "caller+0x1/0x2") {
    return object("kmem_cache_alloc", address, bytes, slot, gfp, site);
  }
  trace_builder& kfree(std::uint64_t address) { return raw("kfree: call_site=caller+0x1/0x2 ptr=" + hex(address)); }
  trace_builder& cache_free(std::uint64_t address, const std::string& name) {
    return raw("kmem_cache_free: call_site=caller+0x1/0x2 ptr=" + hex(address) + " name=" + name);
  }
  trace_builder& pages(std::uint64_t frame, int order, const std::string& gfp = "GFP_KERNEL") {
    return raw("mm_page_alloc: page=" + hex(frame * 64) + " pfn=0x" + hex(frame) + " order=" + std::to_string(order) +
               " migratetype=0 gfp_flags=" + gfp);
  }
  trace_builder& free_pages(std::uint64_t frame, int order) {
    return raw("mm_page_free: page=" + hex(frame * 64) + " pfn=0x" + hex(frame) + " order=" + std::to_string(order));
  }
  trace_builder& free_batched(std::uint64_t frame) {
    return raw("mm_page_free_batched: page=" + hex(frame * 64) + " pfn=0x" + hex(frame) + " order=0");
  }
  // Enough slabs with objects on them to tell where the kernel maps memory.
  trace_builder& show_addresses() {
    for (std::uint64_t frame = 0x80000; frame < 0x80008; frame++) {
      pages(frame, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY").kmalloc(address_of(frame), 64);
    }
    return *this;
  }
  static std::uint64_t address_of(std::uint64_t frame) { return map_base + (frame << 12); }

  request_list make(bool by_address = true) {
    input from;
    EXPECT_TRUE(from.open_memory("built.trace", {reinterpret_cast<const std::uint8_t*>(text_.data()), text_.size()}));
    const bool loaded = load_events(from, {}, events);
    EXPECT_TRUE(loaded) << events.errors.back().to_string();
    request_options options;
    options.classify.by_address = by_address;
    request_list made = make_requests(events, options);
    check(made);
    return made;
  }

  event_list events;

 private:
  static std::string hex(std::uint64_t value) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (int shift = 60; shift >= 0; shift -= 4) out += digits[(value >> shift) & 15];
    return out;
  }
  trace_builder& object(const char* name, std::uint64_t address, int bytes, int slot, const std::string& gfp, const std::string& site) {
    return raw(std::string(name) + ": call_site=" + site + " ptr=" + hex(address) + " bytes_req=" + std::to_string(bytes) +
               " bytes_alloc=" + std::to_string(slot) + " gfp_flags=" + gfp + " node=-1 accounted=false");
  }
  // What holds for every list of requests.
  static void check(const request_list& made) {
    std::uint64_t live = 0;
    for (request_index index = 0; index < made.requests.size(); index++) {
      const request& each = made.requests[index];
      if (each.kind == request_kind::free) {
        ASSERT_LT(each.target, index);
        const request& allocation = made.requests[each.target];
        EXPECT_NE(allocation.kind, request_kind::free);
        EXPECT_EQ(allocation.target, index);
        EXPECT_EQ(allocation.kind, each.freed);
        EXPECT_EQ(allocation.size, each.size);
        EXPECT_FALSE(allocation.failed_in_trace);
      } else if (each.target == no_request) {
        live += each.failed_in_trace || each.size == 0 ? 0 : 1;
      } else {
        EXPECT_GT(each.target, index);
      }
    }
    EXPECT_EQ(made.counts.allocs + made.counts.frees, made.requests.size());
    EXPECT_EQ(made.counts.live_at_end, live - made.counts.hidden_allocs);
  }

  std::string text_;
  std::uint64_t time_us_ = 0;
  int pid_ = 1;
  int cpu_ = 0;
  std::string columns_ = ".....";
};

TEST(trace_requests, an_allocation_and_its_free) {
  trace_builder built;
  const request_list made = built.task(7, 1, "d.s2.").kmalloc(0x10000, 100, "GFP_ATOMIC").task(8, 0).kfree(0x10000).make();
  ASSERT_EQ(made.requests.size(), 2u);
  const request& allocation = made.requests[0];
  EXPECT_EQ(allocation.kind, request_kind::kmalloc);
  EXPECT_EQ(allocation.size, 100u);
  EXPECT_EQ(allocation.gfp, 0xa20u);
  EXPECT_EQ(allocation.cpu, 1);
  EXPECT_EQ(allocation.context.preempt_depth, 2);
  EXPECT_EQ(allocation.line, 1u);
  EXPECT_EQ(allocation.timestamp_ns, 1000u);
  EXPECT_EQ(allocation.cache, no_cache);
  EXPECT_FALSE(allocation.early_boot);
  const request& freed = made.requests[1];
  EXPECT_EQ(freed.kind, request_kind::free);
  EXPECT_EQ(freed.freed, request_kind::kmalloc);
  EXPECT_EQ(freed.target, 0u);
  EXPECT_EQ(freed.cpu, 0);
  EXPECT_FALSE(freed.implied);
  EXPECT_EQ(made.counts.matched_object_frees, 1u);
  EXPECT_EQ(made.counts.live_at_end, 0u);
  EXPECT_EQ(made.counts.peak_object_bytes, 100u);
  EXPECT_EQ(made.counts.cpus, 2u);
  EXPECT_EQ(made.first_ns, 1000u);
  EXPECT_EQ(made.last_ns, 2000u);
}

TEST(trace_requests, free_of_null_and_of_nothing_is_harmless) {
  trace_builder built;
  const request_list made = built.kfree(0).kfree(0x10).kmalloc(0x10, 0).kfree(0x10).kmalloc(0x20000, 8).make();
  EXPECT_EQ(made.counts.null_frees, 3u);
  EXPECT_EQ(made.counts.unmatched_object_frees, 0u);
  EXPECT_EQ(made.counts.frees, 0u);
  EXPECT_EQ(made.requests.size(), 2u) << "kmalloc(0) is still a request";
}

TEST(trace_requests, frees_of_the_unseen_are_counted_and_dropped) {
  trace_builder built;
  const request_list made = built.kfree(0x10000).cache_free(0x20000, "filp").free_pages(0x99, 0).kmalloc(0x10000, 8).make();
  EXPECT_EQ(made.counts.unmatched_object_frees, 2u);
  EXPECT_EQ(made.counts.unmatched_page_frees, 1u);
  EXPECT_EQ(made.requests.size(), 1u);
}

TEST(trace_requests, same_address_again_is_an_implied_free) {
  trace_builder built;
  const request_list made = built.kmalloc(0x10000, 8).task(2, 3).kmalloc(0x10000, 16).kfree(0x10000).make();
  ASSERT_EQ(made.requests.size(), 4u);
  EXPECT_EQ(made.requests[1].kind, request_kind::free);
  EXPECT_TRUE(made.requests[1].implied);
  EXPECT_EQ(made.requests[1].target, 0u);
  EXPECT_EQ(made.requests[1].cpu, 3);
  EXPECT_EQ(made.requests[2].size, 16u);
  EXPECT_EQ(made.requests[3].target, 2u);
  EXPECT_EQ(made.counts.implied_by_reuse, 1u);
  EXPECT_EQ(made.counts.matched_object_frees, 1u);
}

TEST(trace_requests, same_frame_again_is_an_implied_free) {
  trace_builder built;
  const request_list made = built.pages(0x100, 2).pages(0x102, 0).free_pages(0x102, 0).free_pages(0x100, 2).make();
  EXPECT_EQ(made.counts.implied_by_reuse, 1u);
  EXPECT_EQ(made.counts.matched_page_frees, 1u);
  EXPECT_EQ(made.counts.unmatched_page_frees, 1u);
  EXPECT_EQ(made.counts.live_at_end, 0u);
}

TEST(trace_requests, failed_allocations_have_no_free) {
  trace_builder built;
  const request_list made = built.kmalloc(0, 8).pages(0, 3, "GFP_NOWAIT").kfree(0).kmalloc(0, 8).make();
  ASSERT_EQ(made.requests.size(), 3u);
  for (const request& each : made.requests) {
    EXPECT_TRUE(each.failed_in_trace);
    EXPECT_EQ(each.target, no_request);
  }
  EXPECT_EQ(made.counts.failed_in_trace, 3u);
  EXPECT_EQ(made.counts.pages.failed, 1u);
  EXPECT_EQ(made.counts.live_at_end, 0u);
  EXPECT_EQ(made.counts.implied_by_reuse, 0u);
  EXPECT_EQ(made.counts.peak_bytes, 0u);
}

TEST(trace_requests, slab_pages_are_not_counted_twice) {
  for (const bool by_address : {true, false}) {
    trace_builder built;
    built.show_addresses();
    built.pages(0x90000, 3, "__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC|__GFP_RECLAIMABLE");
    built.cache(trace_builder::address_of(0x90003) + 0x40, 1184, 1192).cache(trace_builder::address_of(0x90004), 1184, 1192);
    built.free_pages(0x90000, 3).pages(0x90001, 0);
    const request_list made = built.make(by_address);
    EXPECT_EQ(made.real_addresses, by_address);
    EXPECT_EQ(made.counts.pages.slab, 9u);
    EXPECT_EQ(made.counts.pages.direct, 1u);
    EXPECT_EQ(made.counts.slab_page_frees, 1u);
    ASSERT_EQ(made.caches.size(), 1u);
    EXPECT_EQ(made.caches[0].reclaim_account, by_address);
    EXPECT_EQ(made.counts.implied_by_page, by_address ? 2u : 0u) << "the slab page was freed, so its objects were";
  }
}

TEST(trace_requests, large_kmalloc_is_counted_once) {
  for (const bool by_address : {true, false}) {
    for (const bool pages_first : {true, false}) {
      trace_builder built;
      built.show_addresses();
      if (pages_first) built.pages(0x90000, 2, "GFP_KERNEL|__GFP_COMP|__GFP_ZERO");
      built.kmalloc(trace_builder::address_of(0x90000), 16384, "GFP_KERNEL|__GFP_ZERO");
      if (!pages_first) built.pages(0x90000, 2, "GFP_KERNEL|__GFP_COMP|__GFP_ZERO");
      built.kfree(trace_builder::address_of(0x90000)).free_pages(0x90000, 2);
      const request_list made = built.make(by_address);
      EXPECT_EQ(made.counts.pages.kmalloc_large, 1u) << by_address << pages_first;
      EXPECT_EQ(made.counts.pages.direct, 0u);
      EXPECT_EQ(made.counts.matched_object_frees, 1u);
      EXPECT_EQ(made.counts.slab_page_frees, 1u);
      EXPECT_EQ(made.counts.unmatched_page_frees, 0u);
    }
  }
}

TEST(trace_requests, pages_that_only_look_like_slabs_are_direct) {
  for (const bool by_address : {true, false}) {
    trace_builder built;
    built.show_addresses();
    // A network buffer's pages: no direct reclaim, but the rest of GFP_KERNEL; then some object.
    built.pages(0x90000, 3, "GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP").kmalloc(0x10000, 64);
    // Flags of a slab, but the object is in another task, or far away, or of other flags.
    built.pages(0x90010, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY").task(2).kmalloc(0x20000, 64).task(1);
    for (int other = 0; other < 8; other++) built.pages(0x91000 + static_cast<std::uint64_t>(other), 0, "GFP_USER");
    built.kmalloc(0x30000, 64);
    built.pages(0x90020, 0, "GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY").kmalloc(0x40000, 64);
    const request_list made = built.make(by_address);
    EXPECT_EQ(made.counts.pages.slab, 8u) << by_address;
    EXPECT_EQ(made.counts.pages.direct, 11u);
  }
}

TEST(trace_requests, pages_between_interrupts_belong_to_the_task) {
  trace_builder built;
  built.show_addresses();
  built.pages(0x90000, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY");
  built.task(1, 0, "..s1.");
  for (std::uint64_t other = 0; other < 20; other++) built.kmalloc(0x10000 + other * 64, 64, "GFP_ATOMIC");
  built.task(1, 0, ".....").kmalloc(trace_builder::address_of(0x90000), 64);
  EXPECT_EQ(built.make(false).counts.pages.slab, 9u);
}

TEST(trace_requests, failed_slab_pages_are_no_request) {
  trace_builder built;
  built.show_addresses();
  built.pages(0, 3, "__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC");
  built.pages(0x90000, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY").kmalloc(trace_builder::address_of(0x90000), 64);
  built.pages(0, 0, "GFP_NOWAIT|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC");
  built.cache(0, 192, 256, "GFP_NOWAIT|__GFP_NOWARN|__GFP_NORETRY|__GFP_NOMEMALLOC");
  const request_list made = built.make();
  EXPECT_EQ(made.counts.pages.slab, 11u);
  EXPECT_EQ(made.counts.pages.direct, 0u);
  EXPECT_EQ(made.counts.pages.failed, 2u);
  EXPECT_EQ(made.counts.failed_in_trace, 1u);
}

TEST(trace_requests, pages_freed_in_parts_are_one_free) {
  trace_builder built;
  const request_list made = built.pages(0x100, 2).free_pages(0x100, 0).free_pages(0x101, 0).free_pages(0x102, 1).make();
  ASSERT_EQ(made.requests.size(), 2u);
  EXPECT_EQ(made.requests[0].order, 2);
  EXPECT_EQ(made.requests[0].size, 16384u);
  EXPECT_EQ(made.requests[1].order, 2);
  EXPECT_EQ(made.requests[1].line, 4u);
  EXPECT_EQ(made.counts.partial_page_frees, 2u);
  EXPECT_EQ(made.counts.matched_page_frees, 1u);
}

TEST(trace_requests, one_free_may_end_several_allocations) {
  trace_builder built;
  const request_list made = built.pages(0x100, 0).pages(0x101, 0).free_pages(0x100, 1).make();
  EXPECT_EQ(made.counts.matched_page_frees, 2u);
  EXPECT_EQ(made.counts.live_at_end, 0u);
}

TEST(trace_requests, batched_frees_count_once) {
  trace_builder both;
  const request_list twice = both.pages(0x100, 0).free_pages(0x100, 0).free_batched(0x100).free_batched(0x100).make();
  EXPECT_EQ(twice.counts.matched_page_frees, 1u);
  EXPECT_EQ(twice.counts.batched_duplicates, 1u);
  EXPECT_EQ(twice.counts.unmatched_page_frees, 1u);

  trace_builder alone;
  const request_list once = alone.pages(0x100, 0).free_batched(0x100).make();
  EXPECT_EQ(once.counts.matched_page_frees, 1u);
  EXPECT_EQ(once.counts.batched_duplicates, 0u);

  trace_builder unseen;
  const request_list never = unseen.kmalloc(0x10000, 8).free_pages(0x100, 0).free_batched(0x100).make();
  EXPECT_EQ(never.counts.unmatched_page_frees, 1u);
  EXPECT_EQ(never.counts.batched_duplicates, 1u);
}

TEST(trace_requests, user_memory_and_page_cache_are_droppable) {
  const auto droppable = [](const std::string& gfp) {
    trace_builder built;
    return built.pages(0x100, 0, gfp).make().requests[0].droppable;
  };
  EXPECT_TRUE(droppable("GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO"));
  EXPECT_TRUE(droppable("GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_WRITE"));
  EXPECT_TRUE(droppable("GFP_USER|__GFP_COMP|__GFP_WRITE"));
  EXPECT_TRUE(droppable("GFP_NOFS|__GFP_NOFAIL|__GFP_COMP|__GFP_HARDWALL|__GFP_MOVABLE"));
  EXPECT_TRUE(droppable("GFP_TRANSHUGE_LIGHT"));
  EXPECT_FALSE(droppable("GFP_HIGHUSER|__GFP_ACCOUNT"));
  EXPECT_FALSE(droppable("GFP_KERNEL|__GFP_ZERO"));
  EXPECT_FALSE(droppable("GFP_NOIO|__GFP_HIGHMEM|__GFP_MOVABLE"));
}

TEST(trace_requests, peaks_tell_fixed_from_droppable) {
  trace_builder built;
  const request_list made = built.kmalloc(0x10000, 1000)
                                .pages(0x100, 1, "GFP_HIGHUSER_MOVABLE")
                                .pages(0x200, 0, "GFP_KERNEL")
                                .kfree(0x10000)
                                .free_pages(0x100, 1)
                                .pages(0x300, 0, "GFP_KERNEL")
                                .make();
  EXPECT_EQ(made.counts.peak_object_bytes, 1000u);
  EXPECT_EQ(made.counts.peak_page_bytes, 3u * 4096);
  EXPECT_EQ(made.counts.peak_bytes, 1000u + 3 * 4096);
  EXPECT_EQ(made.counts.peak_fixed_bytes, 2u * 4096);
  EXPECT_EQ(made.counts.pages.droppable, 1u);
  EXPECT_EQ(made.counts.live_at_end, 2u);
}

TEST(trace_requests, sleeping_flags_in_atomic_context_mean_early_boot) {
  trace_builder built;
  const request_list made = built.task(0, 0, "d..1.").kmalloc(0x10000, 8).kmalloc(0x20000, 8, "GFP_ATOMIC").make();
  EXPECT_TRUE(made.requests[0].early_boot);
  EXPECT_FALSE(made.requests[1].early_boot);
  EXPECT_EQ(made.counts.early_boot, 1u);
}

TEST(trace_requests, hashed_pointers_are_matched_too) {
  trace_builder built;
  // Pages and objects have nothing to do with each other, but each is unique.
  for (std::uint64_t round = 0; round < 32; round++) {
    const std::uint64_t hashed = (round * 0x9e3779b1 & 0xffffffff) | 0x100;
    built.pages(0x100 + round, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY").kmalloc(hashed, 64).kfree(hashed).free_pages(0x100 + round, 0);
  }
  const request_list made = built.make();
  EXPECT_TRUE(made.ok);
  EXPECT_FALSE(made.real_addresses);
  EXPECT_EQ(made.counts.matched_object_frees, 32u);
  EXPECT_EQ(made.counts.pages.slab, 32u);
  EXPECT_EQ(made.counts.slab_page_frees, 32u);
}

TEST(trace_requests, hidden_pointers_are_an_error_that_says_what_to_do) {
  trace_builder built;
  for (int round = 0; round < 3; round++) {
    built.raw("kmalloc: call_site=a ptr=(____ptrval____) bytes_req=8 bytes_alloc=8 gfp_flags=GFP_KERNEL");
    built.raw("kfree: call_site=a ptr=(____ptrval____)");
  }
  const request_list made = built.make();
  EXPECT_FALSE(made.ok);
  EXPECT_THAT(made.error.to_string(), HasSubstr("built.trace: 6 of 6 object events have a hidden pointer"));
  EXPECT_THAT(made.error.to_string(), HasSubstr("no_hash_pointers"));
}

TEST(trace_requests, a_few_hidden_pointers_do_no_harm) {
  trace_builder built;
  built.raw("kmalloc: call_site=a ptr=(____ptrval____) bytes_req=8 bytes_alloc=8 gfp_flags=GFP_KERNEL");
  built.raw("kfree: call_site=a ptr=(____ptrval____)");
  built.kmalloc(0x10000, 8).kfree(0x10000).kmalloc(0x10000, 8).kfree(0x10000);
  const request_list made = built.make();
  EXPECT_TRUE(made.ok);
  EXPECT_EQ(made.counts.hidden_allocs, 1u);
  EXPECT_EQ(made.counts.hidden_frees, 1u);
  EXPECT_EQ(made.counts.matched_object_frees, 2u);
}

TEST(trace_requests, one_address_for_everything_is_an_error) {
  trace_builder built;
  for (int round = 0; round < 32; round++) built.kmalloc(0x12345678, 8);
  const request_list made = built.make();
  EXPECT_FALSE(made.ok);
  EXPECT_THAT(made.error.to_string(), HasSubstr("nearly all the same address"));
  EXPECT_THAT(made.error.to_string(), HasSubstr("no_hash_pointers"));

  trace_builder fair;
  for (int round = 0; round < 32; round++) fair.kmalloc(0x12345678, 8).kfree(0x12345678);
  EXPECT_TRUE(fair.make().ok) << "one object, allocated again and again";
}

TEST(trace_requests, caches_get_their_names_from_frees) {
  trace_builder built;
  built.cache(0x10000, 232, 256, "GFP_KERNEL", "open+0x1/0x2").cache(0x10100, 240, 256, "GFP_KERNEL", "open+0x1/0x2");
  built.cache(0x20000, 40, 64, "GFP_KERNEL", "other+0x1/0x2").cache(0x30000, 256, 256, "GFP_KERNEL", "close+0x1/0x2");
  built.cache_free(0x10000, "filp");
  const request_list made = built.make();
  ASSERT_EQ(made.caches.size(), 3u);
  EXPECT_EQ(made.caches[0].name, "filp");
  EXPECT_TRUE(made.caches[0].named);
  EXPECT_EQ(made.caches[0].allocs, 2u) << "the second is known by its call site and size";
  EXPECT_EQ(made.caches[0].object_size, 240u);
  EXPECT_EQ(made.caches[0].slot_size, 256u);
  EXPECT_EQ(made.caches[1].name, "other-64");
  EXPECT_FALSE(made.caches[1].named);
  EXPECT_EQ(made.caches[2].name, "close-256");
  EXPECT_EQ(made.requests[0].cache, 0u);
  EXPECT_EQ(made.requests[1].cache, 0u);
  EXPECT_EQ(made.requests[2].cache, 1u);
}

TEST(trace_requests, caches_get_their_names_from_the_event_itself) {
  trace_builder built;
  built.raw("kmem_cache_alloc: call_site=a name=dentry ptr=0000000000010000 bytes_req=192 bytes_alloc=192 gfp_flags=GFP_KERNEL node=-1");
  const request_list made = built.make();
  ASSERT_EQ(made.caches.size(), 1u);
  EXPECT_EQ(made.caches[0].name, "dentry");
}

TEST(trace_requests, objects_on_one_slab_page_are_of_one_cache) {
  trace_builder built;
  built.show_addresses();
  const std::uint64_t page = trace_builder::address_of(0x90000);
  built.pages(0x90000, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_RECLAIMABLE");
  built.cache(page, 192, 192, "GFP_KERNEL", "a+0x1/0x2").cache(page + 192, 192, 192, "GFP_KERNEL", "b+0x1/0x2").cache_free(page, "dentry");
  const request_list made = built.make();
  ASSERT_EQ(made.caches.size(), 1u);
  EXPECT_EQ(made.caches[0].name, "dentry");
  EXPECT_EQ(made.caches[0].allocs, 2u);
  EXPECT_TRUE(made.caches[0].reclaim_account);
}

TEST(trace_requests, alignment_is_what_all_addresses_share) {
  trace_builder built;
  built.show_addresses();
  const std::uint64_t page = trace_builder::address_of(0x80000);
  built.cache(page + 128, 64, 64, "GFP_KERNEL", "line+0x1/0x2").cache(page + 256, 64, 64, "GFP_KERNEL", "line+0x1/0x2");
  built.cache(page + 512, 72, 72, "GFP_KERNEL", "word+0x1/0x2");
  built.cache(page + 1024, 96, 96, "GFP_KERNEL", "half+0x1/0x2").cache(0, 96, 96, "GFP_KERNEL", "half+0x1/0x2");
  const request_list made = built.make();
  ASSERT_EQ(made.caches.size(), 3u);
  EXPECT_EQ(made.caches[0].align, 64u);
  EXPECT_EQ(made.caches[1].align, 8u);
  EXPECT_EQ(made.caches[2].align, 32u);

  trace_builder hashed;
  const request_list unknown = hashed.cache(0x1000, 64, 64).make();
  EXPECT_EQ(unknown.caches[0].align, 8u) << "a hashed address tells nothing";
}

TEST(trace_classify, object_flags_and_page_flags) {
  const auto fits = [](const std::string& pages, int order, const std::string& object, std::uint64_t bytes = 64) {
    event page;
    page.kind = event_kind::page_alloc;
    page.gfp = parse_gfp(pages).bits;
    page.order = static_cast<std::uint8_t>(order);
    page.address = 1;
    event made;
    made.kind = event_kind::cache_alloc;
    made.gfp = parse_gfp(object).bits;
    made.bytes_alloc = bytes;
    made.address = 1;
    return fits_slab(page, made);
  };
  EXPECT_TRUE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY", 0, "GFP_KERNEL"));
  EXPECT_TRUE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY", 0, "GFP_KERNEL|__GFP_ZERO|__GFP_ACCOUNT|__GFP_NOFAIL"));
  EXPECT_TRUE(fits("GFP_NOFS|__GFP_NOWARN|__GFP_NORETRY|__GFP_RECLAIMABLE", 0, "GFP_KERNEL")) << "under memalloc_nofs_save";
  EXPECT_TRUE(fits("__GFP_NOWARN|__GFP_NORETRY", 0, "GFP_KERNEL")) << "early in boot";
  EXPECT_TRUE(fits("__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC", 3, "GFP_KERNEL"));
  EXPECT_TRUE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_RETRY_MAYFAIL|__GFP_NORETRY", 0, "GFP_KERNEL|__GFP_RETRY_MAYFAIL"));
  EXPECT_FALSE(fits("GFP_KERNEL", 0, "GFP_KERNEL"));
  EXPECT_FALSE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_ZERO", 0, "GFP_KERNEL|__GFP_ZERO"));
  EXPECT_FALSE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY", 0, "GFP_ATOMIC"));
  EXPECT_FALSE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY", 1, "GFP_KERNEL")) << "no compound page";
  EXPECT_FALSE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP", 0, "GFP_KERNEL")) << "one page is not compound";
  EXPECT_FALSE(fits("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY", 0, "GFP_KERNEL", 8192)) << "too small";
  EXPECT_FALSE(fits("GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP", 3, "GFP_KERNEL"));
  EXPECT_FALSE(fits("__GFP_IO|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC", 3, "GFP_NOWAIT|__GFP_IO"));
  EXPECT_FALSE(fits("GFP_HIGHUSER|__GFP_NOWARN|__GFP_NORETRY", 0, "GFP_USER"));
}

TEST(trace_classify, few_or_quarrelling_addresses_are_not_believed) {
  trace_builder few;
  few.pages(0x100, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY").kmalloc(trace_builder::address_of(0x100), 64);
  EXPECT_FALSE(few.make().real_addresses);

  trace_builder quarrel;
  quarrel.show_addresses();
  for (std::uint64_t frame = 0x100; frame < 0x108; frame++) {
    quarrel.pages(frame, 0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY").kmalloc(0x1000000 * frame, 64);
  }
  const request_list made = quarrel.make();
  EXPECT_FALSE(made.real_addresses);
  EXPECT_EQ(made.counts.pages.slab, 16u) << "the order of events still tells";
}

}  // namespace
}  // namespace kmem::tool::trace
