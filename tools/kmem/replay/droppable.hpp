#pragma once

// Pages that the traced kernel could have taken back: page cache and memory of processes. When memory is short they are
// dropped, oldest first, as the kernel would have written them out; the trace's later frees of them are ignored.
//
// What may be done to get them back depends on who asks, so each sort is a shrinker of its own:
//
//   sort   which pages                          what the kernel would do        needs
//   clean  movable and not cleared: file pages  drop them                       nothing
//   swap   movable and cleared: anonymous       write them to swap              __GFP_IO
//   file   __GFP_WRITE: about to be dirtied     write them through file system  __GFP_IO, __GFP_FS
//
// They are asked for as much as the kernel scans of its own lists of pages: (pages of the sort) / 2^priority, 32 at a time.
// The flags do not tell for certain: a page read from a file may have been dirtied later, and a copied anonymous page
// is not cleared.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <kmem/shrinker.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "report/result.hpp"
#include "shared.hpp"

namespace kmem::tool::replay {

class droppable_pages {
 public:
  explicit droppable_pages(shared_state& state);
  ~droppable_pages();
  droppable_pages(const droppable_pages&) = delete;
  droppable_pages& operator=(const droppable_pages&) = delete;

  // Registers the shrinkers. Return: false with the reason.
  bool open(std::string& problem);
  void close();

  // The pages of this request may be dropped from now on; its slot has them.
  void add(trace::request_index request);

  // Calls of scan_objects.
  std::uint64_t calls() const;
  std::uint64_t dropped_pages() const;
  // What the shrinkers did, those with pages. `deferred` is known when they are closed.
  std::vector<report::shrinker_row> rows() const;

 private:
  // In order of allocation: positions are given out by add(), the reader stops at one that is not written yet.
  struct queue : shrinker {
    droppable_pages* owner = nullptr;
    std::unique_ptr<std::atomic<trace::request_index>[]> requests;  // plus one; 0: not written
    std::size_t capacity = 0;
    std::atomic<std::size_t> added{0};
    std::mutex lock;  // of `next`
    std::size_t next = 0;
    bool registered = false;
    std::atomic<std::uint64_t> counts{0}, scans{0}, scanned{0}, dropped{0};  // calls, and pages
  };

  static std::uint64_t count(shrinker* self, shrink_control* control) noexcept;
  static std::uint64_t scan(shrinker* self, shrink_control* control) noexcept;
  static trace::request_index oldest(queue& from);
  std::uint64_t drop(trace::request_index request);

  shared_state& state_;
  std::array<queue, drop_sorts> queues_;
};

}  // namespace kmem::tool::replay
