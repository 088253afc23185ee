// A list of objects in the order of their last use, for the shrinker of a cache: the kernel's list_lru, for one node.
//
//     struct entry { kmem::list_lru_item lru; ... };
//     unused.add(entry->lru);                         // nobody uses it: it may be freed
//     unused.del(entry->lru);                         // somebody does again
//     count_objects: return unused.count();
//     scan_objects:  unused.walk(isolate, &dispose, control->nr_to_scan), then free what was moved to `dispose`
//
// The list has a lock of its own, with interrupts off, so interrupt handlers may use it, too. The objects belong to the caller. A process
// with several threads that forks sees to it that none of them is in the list at that moment, or unregisters the shrinker in the child.
#pragma once
#include <stdint.h>

#include <kmem/context.hpp>

namespace kmem {

/// Embedded in each object; all null: on no list.
struct list_lru_item {
  list_lru_item* next = nullptr;
  list_lru_item* previous = nullptr;
};

/// Objects that were moved off, oldest first, to be freed without the lock. Not shared between threads.
class lru_batch {
 public:
  void push(list_lru_item& item) noexcept {
    item.next = nullptr;
    *last_ = &item;
    last_ = &item.next;
  }
  /// Return: the oldest one, which is on no list any more; nullptr: none is left.
  [[nodiscard]] list_lru_item* take() noexcept {
    list_lru_item* const item = first_;
    if (item == nullptr) return nullptr;
    first_ = item->next;
    if (first_ == nullptr) last_ = &first_;
    *item = {};
    return item;
  }
  lru_batch() noexcept = default;
  lru_batch(const lru_batch&) = delete;
  lru_batch& operator=(const lru_batch&) = delete;

 private:
  list_lru_item* first_ = nullptr;
  list_lru_item** last_ = &first_;
};

/// What the isolate function of a walk says about an object.
enum class lru_status : uint8_t {
  removed,        // LRU_REMOVED: it was taken off
  removed_retry,  // LRU_REMOVED_RETRY: it was taken off, and the lock was dropped in between
  rotate,         // LRU_ROTATE: it was used: to the end of the list
  skip,           // LRU_SKIP: it cannot be freed now: it stays where it is
  retry,          // LRU_RETRY: the lock was dropped in between, and it is as it was: from the start of the list
};

class list_lru : detail::no_copy {
 public:
  list_lru() noexcept { head_.next = head_.previous = &head_; }
  /// Items that are still on it are taken off: objects outlive the list, or are deleted from it.
  ~list_lru() {
    while (head_.next != &head_) unlink(*head_.next);
  }

  /// Puts an object at the end: it was used last. Context: any. Return: false when it is on a list already, where it stays as it is.
  bool add(list_lru_item& item) noexcept {
    const spin_irq_guard guard(lock_);
    if (item.next != nullptr) return false;
    link_last(item);
    __atomic_store_n(&nr_items_, nr_items_ + 1, __ATOMIC_RELAXED);
    return true;
  }
  /// Takes an object off. Context: any. Return: false when it is on no list.
  bool del(list_lru_item& item) noexcept {
    const spin_irq_guard guard(lock_);
    if (item.next == nullptr) return false;
    isolate(item);
    return true;
  }
  /// Objects on the list. Context: any.
  [[nodiscard]] uint64_t count() const noexcept { return __atomic_load_n(&nr_items_, __ATOMIC_RELAXED); }

  /// Called for each object, with the lock held. It may take this one off, by isolate() or isolate_to(), and nothing else; between
  /// drop_lock() and take_lock() it may do anything, but then has to return retry or removed_retry.
  using isolate_function = lru_status (*)(list_lru& lru, list_lru_item& item, void* context) noexcept;

  /// Looks at `nr_to_walk` objects, the one that was used longest ago first. Context: any. Return: how many were taken off.
  uint64_t walk(isolate_function isolate_one, void* context, uint64_t nr_to_walk) noexcept {
    uint64_t isolated = 0;
    take_lock();
    for (list_lru_item* item = head_.next; item != &head_ && nr_to_walk != 0; --nr_to_walk) {
      list_lru_item* const next = item->next;
      const lru_status status = isolate_one(*this, *item, context);
      const bool removed = status == lru_status::removed || status == lru_status::removed_retry;
      isolated += removed ? 1 : 0;
      if (status == lru_status::rotate) {
        unlink(*item);
        link_last(*item);
      }
      item = status == lru_status::retry || status == lru_status::removed_retry ? head_.next : next;
    }
    drop_lock();
    return isolated;
  }

  /// Takes an object off. Context: inside the isolate function of a walk, with the lock held.
  void isolate(list_lru_item& item) noexcept {
    unlink(item);
    __atomic_store_n(&nr_items_, nr_items_ - 1, __ATOMIC_RELAXED);
  }
  /// Moves an object to a batch. Context: as isolate.
  void isolate_to(list_lru_item& item, lru_batch& batch) noexcept {
    isolate(item);
    batch.push(item);
  }
  /// For an isolate function that has to do something without the lock.
  void drop_lock() noexcept KMEM_NO_ANALYSIS {
    const bool were_off = irqs_were_off_;
    lock_.unlock();
    irqs_set_disabled(were_off);
  }
  void take_lock() noexcept KMEM_NO_ANALYSIS {
    const bool were_off = irqs_set_disabled(true);
    lock_.lock();
    irqs_were_off_ = were_off;
  }

 private:
  static void unlink(list_lru_item& item) noexcept {
    item.previous->next = item.next;
    item.next->previous = item.previous;
    item = {};
  }
  void link_last(list_lru_item& item) noexcept {
    item.previous = head_.previous;
    item.next = &head_;
    head_.previous->next = &item;
    head_.previous = &item;
  }

  spinlock lock_;
  bool irqs_were_off_ = false;  // of a walk, while it has the lock
  list_lru_item head_;          // next: used longest ago
  uint64_t nr_items_ = 0;       // written under the lock
};

}  // namespace kmem
