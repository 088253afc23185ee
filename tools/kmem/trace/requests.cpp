#include "requests.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "caches.hpp"
#include "flat_map.hpp"

namespace kmem::tool::trace {

namespace {

namespace bit = gfp_bit;

// Memory of processes and the page cache: movable on behalf of a user, or allocated to be written to a file. The
// kernel can write it out and take it.
bool is_droppable(gfp_bits gfp) {
  return (gfp & (bit::movable | bit::hardwall)) == (bit::movable | bit::hardwall) || (gfp & bit::write) != 0;
}

// One mm_page_alloc.
struct page_block {
  std::uint32_t request;     // no_request for pages of slabs and large kmallocs
  std::uint32_t pages_left;  // not yet freed
  request_index objects;     // first live object on it
  gfp_bits gfp;
};

class request_maker {
 public:
  request_maker(const event_list& from, const request_options& options)
      : from_(from), classes_(classify_pages(from.events, options.classify)), caches_(from) {
    out_.real_addresses = classes_.direct_map.has_value();
    out_.requests.reserve(from.events.size());
    has_batched_ = from.counts.of(event_kind::page_free_batched) != 0;
  }

  request_list run() {
    for (std::uint32_t index = 0; index < from_.events.size(); index++) {
      current_ = &from_.events[index];
      note_event();
      switch (current_->kind) {
        case event_kind::kfree:
        case event_kind::cache_free:
          free_object();
          break;
        case event_kind::page_alloc:
          alloc_pages(classes_.use[index]);
          break;
        case event_kind::page_free:
        case event_kind::page_free_batched:
          free_pages();
          break;
        default:
          alloc_object();
          break;
      }
    }
    finish();
    return std::move(out_);
  }

 private:
  request_counts& counts() { return out_.counts; }

  void note_event() {
    if (current_ == from_.events.data()) out_.first_ns = out_.last_ns = current_->timestamp_ns;
    out_.first_ns = std::min(out_.first_ns, current_->timestamp_ns);
    out_.last_ns = std::max(out_.last_ns, current_->timestamp_ns);
    counts().cpus = std::max(counts().cpus, std::uint32_t{current_->cpu} + 1);
  }

  request& add(request_kind kind) {
    request next;
    next.kind = kind;
    next.timestamp_ns = current_->timestamp_ns;
    next.line = current_->line;
    next.cpu = current_->cpu;
    next.node = current_->node;
    next.context = current_->context;
    next.from = current_->kind;
    next.call_site = current_->call_site;
    out_.requests.push_back(next);
    objects_.emplace_back();
    return out_.requests.back();
  }

  request& add_alloc(request_kind kind, std::uint64_t size) {
    request& made = add(kind);
    made.size = size;
    made.gfp = current_->gfp;
    made.failed_in_trace = current_->failed;
    made.early_boot = (current_->gfp & bit::direct_reclaim) != 0 && current_->context.atomic();
    counts().allocs++;
    counts().early_boot += made.early_boot ? 1 : 0;
    counts().failed_in_trace += made.failed_in_trace ? 1 : 0;
    return made;
  }

  void add_free(request_index target, bool implied) {
    const request allocation = out_.requests[target];
    const auto index = static_cast<request_index>(out_.requests.size());
    request& made = add(request_kind::free);
    made.target = target;
    made.freed = allocation.kind;
    made.size = allocation.size;
    made.order = allocation.order;
    made.droppable = allocation.droppable;
    made.implied = implied;
    out_.requests[target].target = index;
    counts().frees++;
    live_now(allocation, false);
  }

  // Keeps the books of what is live.
  void live_now(const request& allocation, bool more) {
    const bool pages = allocation.kind == request_kind::pages;
    std::uint64_t& sum = pages ? page_bytes_ : object_bytes_;
    sum = more ? sum + allocation.size : sum - allocation.size;
    if (allocation.droppable) droppable_bytes_ = more ? droppable_bytes_ + allocation.size : droppable_bytes_ - allocation.size;
    counts().live_at_end = more ? counts().live_at_end + 1 : counts().live_at_end - 1;
    counts().peak_object_bytes = std::max(counts().peak_object_bytes, object_bytes_);
    counts().peak_page_bytes = std::max(counts().peak_page_bytes, page_bytes_);
    counts().peak_bytes = std::max(counts().peak_bytes, object_bytes_ + page_bytes_);
    counts().peak_fixed_bytes = std::max(counts().peak_fixed_bytes, object_bytes_ + page_bytes_ - droppable_bytes_);
  }

  void alloc_object() {
    const event& now = *current_;
    const bool zero_size = !now.hidden && !now.failed && now.address <= event::zero_size_ptr;
    const bool placed = !now.failed && !now.hidden && !zero_size;
    if (placed) imply_free(now.address);
    const auto index = static_cast<request_index>(out_.requests.size());
    request& made = add_alloc(is_kmalloc(now.kind) ? request_kind::kmalloc : request_kind::cache_alloc, now.bytes_req);
    counts().hidden_allocs += now.hidden ? 1 : 0;
    std::uint32_t block = no_block;
    if (placed) {
      live_now(made, true);
      live_objects_.set(now.address, index);
      if (classes_.direct_map.has_value() && now.address >= *classes_.direct_map) {
        block = block_of_frame_.find((now.address - *classes_.direct_map) >> page_shift);
      }
      if (block != no_block) link(index, block);
    }
    objects_[index].address = now.address;
    if (made.kind == request_kind::cache_alloc) {
      caches_.add(index, now, block, block == no_block ? 0 : blocks_[block].gfp, out_.real_addresses);
    }
  }

  void imply_free(std::uint64_t address) {
    const request_index before = live_objects_.take(address);
    if (before == flat_map::absent) return;
    unlink(before);
    add_free(before, true);
    counts().implied_by_reuse++;
  }

  void free_object() {
    const event& now = *current_;
    if (now.hidden) {
      counts().hidden_frees++;
      return;
    }
    if (now.address <= event::zero_size_ptr) {
      counts().null_frees++;
      return;
    }
    const request_index allocation = live_objects_.take(now.address);
    if (allocation == flat_map::absent) {
      counts().unmatched_object_frees++;
      return;
    }
    unlink(allocation);
    if (now.cache_name != no_string) caches_.learn(allocation, now.cache_name);
    add_free(allocation, false);
    counts().matched_object_frees++;
  }

  void alloc_pages(page_use use) {
    const event& now = *current_;
    page_counts& pages = counts().pages;
    pages.failed += now.failed ? 1 : 0;
    std::uint64_t& kind = use == page_use::direct ? pages.direct : use == page_use::slab ? pages.slab : pages.kmalloc_large;
    kind++;
    const std::uint64_t frames = std::uint64_t{1} << now.order;
    if (!now.failed) {
      for (std::uint64_t frame = now.address; frame < now.address + frames; frame++) {
        freed_frames_.take(frame);
        const std::uint32_t old = block_of_frame_.find(frame);
        if (old != no_block) imply_block_free(old);
      }
    }
    request_index index = no_request;
    if (use == page_use::direct) {
      index = static_cast<request_index>(out_.requests.size());
      request& made = add_alloc(request_kind::pages, page_size << now.order);
      made.order = now.order;
      made.droppable = is_droppable(now.gfp);
      pages.droppable += made.droppable ? 1 : 0;
      if (!now.failed) live_now(made, true);
    }
    if (now.failed) return;
    const auto block = static_cast<std::uint32_t>(blocks_.size());
    blocks_.push_back({index, static_cast<std::uint32_t>(frames), no_request, now.gfp});
    first_frame_.push_back({now.address, now.order});
    for (std::uint64_t frame = 0; frame < frames; frame++) block_of_frame_.set(now.address + frame, block);
  }

  // One of its frames is given out again, so the block was freed without an event. Whether all of it was cannot be
  // known; what frees without events frees whole blocks.
  void imply_block_free(std::uint32_t block) {
    const auto [first, order] = first_frame_[block];
    for (std::uint64_t frame = first; frame < first + (std::uint64_t{1} << order); frame++) {
      if (block_of_frame_.find(frame) == block) block_of_frame_.take(frame);
    }
    blocks_[block].pages_left = 0;
    if (blocks_[block].request != no_request) {
      add_free(blocks_[block].request, true);
      counts().implied_by_reuse++;
    }
    drop_objects(block);
  }

  void free_pages() {
    const event& now = *current_;
    const bool batched = now.kind == event_kind::page_free_batched;
    const std::uint64_t frames = std::uint64_t{1} << now.order;
    bool any = false;
    bool duplicate = false;
    for (std::uint64_t frame = now.address; frame < now.address + frames; frame++) {
      const std::uint32_t block = block_of_frame_.take(frame);
      if (batched && block == no_block && freed_frames_.take(frame) != flat_map::absent) duplicate = true;
      if (!batched && has_batched_) freed_frames_.set(frame, 0);
      if (block == no_block) continue;
      any = true;
      if (--blocks_[block].pages_left == 0) {
        finish_block(block);
      } else if (frame + 1 == now.address + frames) {
        counts().partial_page_frees++;
      }
    }
    if (any) return;
    if (duplicate) {
      counts().batched_duplicates++;
    } else {
      counts().unmatched_page_frees++;
    }
  }

  void finish_block(std::uint32_t block) {
    drop_objects(block);
    if (blocks_[block].request == no_request) {
      counts().slab_page_frees++;
      return;
    }
    add_free(blocks_[block].request, false);
    counts().matched_page_frees++;
  }

  // Objects still on a slab page that is freed: they were freed without an event.
  void drop_objects(std::uint32_t block) {
    while (blocks_[block].objects != no_request) {
      const request_index object = blocks_[block].objects;
      live_objects_.take(objects_[object].address);
      unlink(object);
      add_free(object, true);
      counts().implied_by_page++;
    }
  }

  void link(request_index object, std::uint32_t block) {
    object_links& mine = objects_[object];
    mine.block = block;
    mine.next = blocks_[block].objects;
    if (mine.next != no_request) objects_[mine.next].previous = object;
    blocks_[block].objects = object;
  }

  void unlink(request_index object) {
    object_links& mine = objects_[object];
    if (mine.block == no_block) return;
    if (mine.next != no_request) objects_[mine.next].previous = mine.previous;
    (mine.previous != no_request ? objects_[mine.previous].next : blocks_[mine.block].objects) = mine.next;
    mine.block = no_block;
  }

  void finish() {
    caches_.assign(out_.requests, out_.caches);
    check_matching();
  }

  // Without addresses that tell objects apart nothing can be freed, and a replay would only fill the memory.
  void check_matching() {
    std::uint64_t object_allocs = 0;
    std::uint64_t object_frees = 0;
    for (std::size_t kind = 0; kind < event_kind_count; kind++) {
      const auto each = static_cast<event_kind>(kind);
      if (is_object_alloc(each)) object_allocs += from_.counts.of(each);
      if (is_object_free(each)) object_frees += from_.counts.of(each);
    }
    const std::uint64_t hidden = counts().hidden_allocs + counts().hidden_frees;
    const std::uint64_t placed = object_allocs - std::min(object_allocs, counts().hidden_allocs + counts().failed_in_trace);
    std::string what;
    if (hidden != 0 && hidden * 2 > object_allocs + object_frees) {
      what = std::to_string(hidden) + " of " + std::to_string(object_allocs + object_frees) +
             " object events have a hidden pointer, (____ptrval____)";
    } else if (placed >= few_objects && counts().implied_by_reuse * 2 > placed && distinct_addresses_are_few(placed)) {
      what = "the " + std::to_string(placed) + " objects of this trace have nearly all the same address";
    }
    if (what.empty()) return;
    out_.ok = false;
    out_.error.file = from_.file;
    out_.error.what = what + ", so no free can be matched with its allocation";
    out_.error.expected = "an address of its own for every live object";
    out_.error.advice = "boot the traced kernel with no_hash_pointers (5.12 and newer), or read the trace with trace-cmd record and report";
  }

  static constexpr std::uint64_t few_objects = 16;
  bool distinct_addresses_are_few(std::uint64_t placed) {
    flat_map seen;
    for (const event& each : from_.events) {
      if (is_object_alloc(each.kind) && !each.failed && !each.hidden && each.address > event::zero_size_ptr) seen.set(each.address, 0);
      if (seen.size() > 1 + placed / 1000) return false;
    }
    return seen.size() != 0;
  }

  static constexpr std::uint32_t no_block = flat_map::absent;
  struct object_links {
    std::uint64_t address = 0;
    std::uint32_t block = no_block;
    request_index next = no_request;
    request_index previous = no_request;
  };

  const event_list& from_;
  page_classes classes_;
  cache_namer caches_;
  request_list out_;
  const event* current_ = nullptr;

  flat_map live_objects_;              // address -> request
  std::vector<object_links> objects_;  // by request
  flat_map block_of_frame_;            // frame number -> block
  bool has_batched_ = false;
  flat_map freed_frames_;  // freed by mm_page_free and not allocated since
  std::vector<page_block> blocks_;
  std::vector<std::pair<std::uint64_t, std::uint8_t>> first_frame_;  // and order, by block
  std::uint64_t object_bytes_ = 0;
  std::uint64_t page_bytes_ = 0;
  std::uint64_t droppable_bytes_ = 0;
};

}  // namespace

request_list make_requests(const event_list& from, const request_options& options) { return request_maker(from, options).run(); }

}  // namespace kmem::tool::trace
