#pragma once

// Pages that the traced kernel could have taken back: page cache and memory of processes. When an allocation finds no
// memory they are dropped, oldest first, as the kernel would have written them out; the trace's later frees of them
// are ignored.
//
// What an allocation may do to get them back depends on its flags, so there is one reclaim callback for each sort:
//
//   sort   which pages                          what the kernel would do        needs
//   clean  movable and not cleared: file pages  drop them                       nothing
//   swap   movable and cleared: anonymous       write them to swap              __GFP_IO
//   file   __GFP_WRITE: about to be dirtied     write them through file system  __GFP_IO, __GFP_FS
//
// The flags do not tell for certain: a page read from a file may have been dirtied later, and a copied anonymous page
// is not cleared.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "shared.hpp"

namespace kmem::tool::replay {

enum class drop_sort : std::uint8_t { clean, swap, file };
inline constexpr std::size_t drop_sorts = 3;

drop_sort drop_sort_of(trace::gfp_bits gfp);

class droppable_pages {
 public:
  explicit droppable_pages(shared_state& state);
  ~droppable_pages();
  droppable_pages(const droppable_pages&) = delete;
  droppable_pages& operator=(const droppable_pages&) = delete;

  // Registers the callbacks. Return: false with the reason.
  bool open(std::string& problem);
  void close();

  // The pages of this request may be dropped from now on; its slot has them.
  void add(trace::request_index request);

  std::uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
  std::uint64_t dropped_pages() const { return dropped_pages_.load(std::memory_order_relaxed); }

 private:
  // In order of allocation: positions are given out by add(), the reader stops at one that is not written yet.
  struct queue {
    droppable_pages* owner = nullptr;
    std::unique_ptr<std::atomic<trace::request_index>[]> requests;  // plus one; 0: not written
    std::size_t capacity = 0;
    std::atomic<std::size_t> added{0};
    std::mutex lock;  // of `next`
    std::size_t next = 0;
    int number = -1;  // of the callback
  };

  static std::uint64_t reclaim(void* context, gfp_t gfp, std::uint64_t nr_pages) noexcept;
  static trace::request_index oldest(queue& from);
  std::uint64_t drop(trace::request_index request);

  shared_state& state_;
  std::array<queue, drop_sorts> queues_;
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> dropped_pages_{0};
};

}  // namespace kmem::tool::replay
