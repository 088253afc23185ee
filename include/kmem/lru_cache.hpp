// A cache from keys to values that becomes smaller when memory runs short: it is a shrinker, and what was used longest ago goes first.
//
//     kmem::lru_cache<uint64_t, page_text> pages;
//     if (auto hit = pages.get(number)) return serve(*hit);   // stays valid while `hit` is there, whatever happens to the cache
//     pages.put(number, render(number));                      // false when there is no memory, even after others have shrunk
//
// Every function may be called by any number of threads, and in interrupt handlers if the cache's mask does not block. The memory of
// entries and of the table comes from kmem, and so is part of the budget. Hash and == of keys run with a lock held: they must not
// allocate. Keys and values are destroyed, and the eviction hook runs, without it. In the child of a fork of a process with several
// threads the cache must not be used, as one of them may have been changing it; reclaim passes it by then.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <new>
#include <type_traits>
#include <utility>

#include <kmem/memory.hpp>
#include <kmem/shrinker.hpp>

namespace kmem {

/// Numbers, enums, pointers, and what has data() and size(): texts and the like. Specialise it, or give lru_cache a hash of your own, for
/// other keys.
template <class K>
struct lru_hash {
  [[nodiscard]] uint64_t operator()(const K& key) const noexcept {
    if constexpr (std::is_integral_v<K> || std::is_enum_v<K>) {
      return mix(static_cast<uint64_t>(key));
    } else if constexpr (std::is_pointer_v<K>) {
      return mix(reinterpret_cast<uintptr_t>(key));
    } else {
      static_assert(requires { key.data(), key.size(); }, "no hash for this type of key: give lru_cache one as its third argument");
      static_assert(std::has_unique_object_representations_v<std::remove_cvref_t<decltype(*key.data())>>);
      uint64_t hash = 0;
      const auto* bytes = reinterpret_cast<const unsigned char*>(key.data());
      for (size_t left = key.size() * sizeof(*key.data()); left != 0; --left) hash = (hash ^ *bytes++) * 0x100000001b3u;
      return mix(hash);
    }
  }

 private:
  /// Every bit of the result depends on every bit of x (the finalizer of MurmurHash3).
  static constexpr uint64_t mix(uint64_t x) noexcept {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
  }
};

struct lru_cache_stats {
  uint64_t hits = 0, misses = 0;
  uint64_t shrunk = 0;   // entries that went because memory ran short
  uint64_t dropped = 0;  // entries that went because of the capacity
};

template <class K, class V, class Hash = lru_hash<K>>
class lru_cache : detail::no_copy {
  static_assert(std::is_nothrow_move_constructible_v<K> && std::is_nothrow_move_constructible_v<V>,
                "keys and values are moved into the cache, where nobody could catch an exception");
  struct node;

 public:
  struct options {
    gfp_t gfp = gfp::kernel;            // of what the cache allocates
    uint64_t capacity = ~uint64_t{0};   // entries at most; at least 1
    gfp_t needs = gfp::none;            // of the eviction hook and the destructors: see shrinker::needs
    int seeks = default_seeks;          // see shrinker::seeks
    const char* name = "lru_cache";     // for reports
    /// Bytes of a value that are not in the object itself, for bytes().
    size_t (*weigh)(const K& key, const V& value) noexcept = nullptr;
    /// Called for an entry that goes because memory runs short or because of the capacity, before it is destroyed.
    void (*evicted)(void* context, const K& key, V& value) noexcept = nullptr;
    void* context = nullptr;
  };

  /// A value that is in use: it is not evicted, and stays valid even if its entry is erased or replaced. Must not outlive the cache.
  class handle {
   public:
    handle() noexcept = default;
    handle(handle&& other) noexcept : cache_(other.cache_), node_(std::exchange(other.node_, nullptr)) {}
    handle& operator=(handle&& other) noexcept {
      if (this == &other) return *this;
      reset();
      cache_ = other.cache_;
      node_ = std::exchange(other.node_, nullptr);
      return *this;
    }
    ~handle() { reset(); }
    explicit operator bool() const noexcept { return node_ != nullptr; }
    [[nodiscard]] V& operator*() const noexcept { return node_->value; }
    [[nodiscard]] V* operator->() const noexcept { return &node_->value; }
    [[nodiscard]] const K& key() const noexcept { return node_->key; }
    void reset() noexcept {
      if (node_ != nullptr) cache_->release(std::exchange(node_, nullptr));
    }

   private:
    friend class lru_cache;
    handle(lru_cache* cache, node* n) noexcept : cache_(cache), node_(n) {}
    lru_cache* cache_ = nullptr;
    node* node_ = nullptr;
  };

  /// Context: process, may sleep.
  lru_cache() noexcept : lru_cache(options{}) {}
  explicit lru_cache(const options& wanted) noexcept : options_(wanted) {
    if (options_.capacity == 0) options_.capacity = 1;
    used_.next = used_.previous = &used_;
    shrinker_.count_objects = [](shrinker* self, shrink_control*) noexcept {
      return static_cast<lru_cache*>(self->private_data)->nr_evictable();
    };
    shrinker_.scan_objects = [](shrinker* self, shrink_control* control) noexcept {
      return static_cast<lru_cache*>(self->private_data)->evict_oldest(control->nr_to_scan, true);
    };
    shrinker_.seeks = options_.seeks;
    shrinker_.needs = options_.needs;
    shrinker_.name = options_.name;
    shrinker_.private_data = this;
    error_ = register_shrinker(shrinker_);
  }
  /// Context: process, may sleep; not from the cache's own hook. No handle is left.
  ~lru_cache() {
    if (error_ == 0) unregister_shrinker(shrinker_);
    clear();
    kvfree(table_.buckets);
    kvfree(old_.buckets);
  }

  /// Is it asked to shrink? Not if registering the shrinker failed: error() says why. It serves all the same.
  explicit operator bool() const noexcept { return error_ == 0; }
  [[nodiscard]] int error() const noexcept { return error_; }

  /// Context: any. Return: the value, used last from now on; false if there is none.
  [[nodiscard]] handle get(const K& key) noexcept {
    const uint64_t hash = Hash()(key);
    const spin_irq_guard guard(lock_);
    node** const link = find(hash, key);
    if (link == nullptr) return ++stats_.misses, handle();
    node* const n = *link;
    ++stats_.hits;
    unlink_used(*n);
    link_used(*n);
    if (n->users++ == 0) ++nr_used_;
    return handle(this, n);
  }
  /// Copies the value to `result`. Context: any that copying a V may happen in. Return: false if there is none.
  [[nodiscard]] bool get(const K& key, V& result) noexcept {
    const handle hit = get(key);
    if (hit) result = *hit;
    return static_cast<bool>(hit);
  }
  /// Adds a value, or replaces the one there is. Context: as the mask. Return: false when there is no memory, and the cache is as it was.
  [[nodiscard]] bool put(K key, V value) noexcept {
    node* const n = make_node(std::move(key), std::move(value));
    if (n == nullptr) return false;
    if (!make_room()) return destroy(n), false;
    node *replaced = nullptr, *dropped = nullptr;
    node** unused_table = nullptr;
    {
      const spin_irq_guard guard(lock_);
      unused_table = move_buckets();
      if (node** const link = find(n->hash, n->key)) replaced = take_off(link, false);
      node** const bucket = bucket_of(n->hash);
      n->next_in_bucket = *bucket;
      *bucket = n;
      link_used(*n);
      n->linked = true;
      ++nr_entries_;
      bytes_ += n->bytes;
      if (nr_entries_ > options_.capacity) {
        ++stats_.dropped;
        dropped = take_off_oldest();
      }
    }
    kvfree(unused_table);
    if (replaced != nullptr) destroy(replaced);
    if (dropped != nullptr) destroy(dropped);
    return true;
  }
  /// Context: any that destroying a V may happen in. Return: false if there was none.
  bool erase(const K& key) noexcept {
    const uint64_t hash = Hash()(key);
    node* unused = nullptr;
    {
      const spin_irq_guard guard(lock_);
      node** const link = find(hash, key);
      if (link == nullptr) return false;
      unused = take_off(link, false);
    }
    if (unused != nullptr) destroy(unused);
    return true;
  }
  /// Erases all entries. Context: as erase.
  void clear() noexcept {
    for (bool more = true; more;) {
      node* batch = nullptr;
      {
        const spin_irq_guard guard(lock_);
        for (unsigned i = 0; i < batch_nodes && used_.previous != &used_; ++i) {
          auto* const oldest = static_cast<node*>(used_.previous);
          node* const unused = take_off(find(oldest->hash, oldest->key), false);
          if (unused != nullptr) unused->next_in_bucket = std::exchange(batch, unused);
        }
        more = used_.previous != &used_;
      }
      destroy_all(batch);
    }
  }
  /// Evicts up to `n` entries that are not in use, oldest first, as reclaim does. Context: as erase. Return: entries evicted.
  uint64_t shrink(uint64_t n) noexcept {
    const uint64_t evicted = evict_oldest(n, false);
    return evicted == shrink_stop ? 0 : evicted;
  }

  /// Entries. Context: any.
  [[nodiscard]] uint64_t size() const noexcept {
    const spin_irq_guard guard(lock_);
    return nr_entries_;
  }
  /// Memory of entries, as weighed, and of the table. Context: any.
  [[nodiscard]] uint64_t bytes() const noexcept {
    const spin_irq_guard guard(lock_);
    return bytes_ + (table_.size() + old_.size()) * sizeof(node*);
  }
  [[nodiscard]] lru_cache_stats stats() const noexcept {
    const spin_irq_guard guard(lock_);
    return stats_;
  }

 private:
  static constexpr unsigned batch_nodes = 32;         // taken off with the lock held once
  static constexpr unsigned moved_buckets = 16;       // with each put, while the table is changed for another one
  static constexpr uint64_t fewest_buckets = 64;

  struct used_link {
    used_link* next = nullptr;  // towards what was used longer ago
    used_link* previous = nullptr;
  };
  struct node : used_link {
    node(K&& k, V&& v, uint64_t h) noexcept : hash(h), key(std::move(k)), value(std::move(v)) {}
    node* next_in_bucket = nullptr;
    uint64_t hash;
    size_t bytes = 0;
    uint32_t users = 0;  // handles
    bool linked = false;
    bool evicted = false;  // the hook is to be called
    K key;
    V value;
  };
  struct table {
    node** buckets = nullptr;
    uint64_t mask = 0;
    uint64_t size() const noexcept { return buckets != nullptr ? mask + 1 : 0; }
  };

  // ---- nodes, without the lock

  node* make_node(K&& key, V&& value) noexcept {
    void* const memory = detail::allocate(sizeof(node), alignof(node), options_.gfp & ~gfp::zero);
    if (memory == nullptr) return nullptr;
    const uint64_t hash = Hash()(key);
    node* const n = new (memory) node(std::move(key), std::move(value), hash);
    n->bytes = kmalloc_size_roundup(sizeof(node));
    if (options_.weigh != nullptr) n->bytes += options_.weigh(n->key, n->value);
    return n;
  }
  void destroy(node* n) noexcept {
    if (n->evicted && options_.evicted != nullptr) options_.evicted(options_.context, n->key, n->value);
    n->~node();
    kvfree(n);
  }
  uint64_t destroy_all(node* batch) noexcept {
    uint64_t n = 0;
    for (; batch != nullptr; ++n) destroy(std::exchange(batch, batch->next_in_bucket));
    return n;
  }
  void release(node* n) noexcept {
    {
      const spin_irq_guard guard(lock_);
      if (--n->users != 0) return;
      if (n->linked) {
        --nr_used_;
        return;
      }
    }
    destroy(n);
  }

  // ---- shrinking

  /// For reclaim, which may run in a child whose parent had a thread that held the lock: there it is only tried.
  [[nodiscard]] bool lock_in_reclaim() const noexcept KMEM_TRY_ACQUIRE(true, lock_) {
    if (getpid() != owner_) return lock_.try_lock_briefly();
    lock_.lock();
    return true;
  }
  /// Return: as count_objects.
  uint64_t nr_evictable() const noexcept {
    const bool irqs_were_off = irqs_set_disabled(true);
    uint64_t evictable = 0;
    if (lock_in_reclaim()) {
      evictable = nr_entries_ == 0 ? shrink_empty : nr_entries_ - nr_used_;
      lock_.unlock();
    }
    irqs_set_disabled(irqs_were_off);
    return evictable;
  }
  /// `in_reclaim`: see lock_in_reclaim. Return: entries evicted; shrink_stop when there was none that is not in use.
  uint64_t evict_oldest(uint64_t n, bool in_reclaim) noexcept {
    uint64_t evicted = 0, left = n;
    while (left != 0) {
      node* batch = nullptr;
      const bool irqs_were_off = irqs_set_disabled(true);
      if (!in_reclaim) {
        lock_.lock();
      } else if (!lock_in_reclaim()) {
        irqs_set_disabled(irqs_were_off);
        break;
      }
      const bool more = take_oldest(left, batch);
      lock_.unlock();
      irqs_set_disabled(irqs_were_off);
      evicted += destroy_all(batch);
      if (!more) break;
    }
    return evicted != 0 || n == 0 ? evicted : shrink_stop;
  }
  /// Looks at up to `left` entries, a batch of them at most. Return: false if no other one can go.
  bool take_oldest(uint64_t& left, node*& batch) noexcept KMEM_REQUIRES(lock_) {
    for (unsigned i = 0; i < batch_nodes && left != 0; ++i) {
      if (nr_entries_ == nr_used_) return false;
      --left;
      auto* const oldest = static_cast<node*>(used_.previous);
      if (oldest->users != 0) {
        unlink_used(*oldest);
        link_used(*oldest);
        continue;
      }
      ++stats_.shrunk;
      node* const unused = take_off(find(oldest->hash, oldest->key), true);
      unused->next_in_bucket = std::exchange(batch, unused);
    }
    return true;
  }

  // ---- the table

  /// Sees that there is a table, and begins to change it for one that fits. Return: false when there is none at all.
  bool make_room() noexcept {
    uint64_t wanted = 0;
    bool first = false;
    {
      const spin_irq_guard guard(lock_);
      first = table_.buckets == nullptr;
      if (old_.buckets != nullptr) return true;
      wanted = fewest_buckets;
      while (wanted < nr_entries_) wanted *= 2;
      // It becomes smaller when it is eight times too large: not to go to and fro.
      if (!first && (wanted == table_.size() || (wanted < table_.size() && wanted * 8 > table_.size()))) return true;
    }
    if (wanted > ~size_t{0} / sizeof(node*)) return !first;
    const gfp_t mask = (options_.gfp & ~gfp::zero) | (first ? gfp::none : gfp::nowarn);
    auto** const buckets = static_cast<node**>(detail::allocate(wanted * sizeof(node*), alignof(node*), mask));
    if (buckets == nullptr) return !first;  // a table that is too small makes it slow, nothing else
    for (uint64_t i = 0; i < wanted; ++i) buckets[i] = nullptr;
    node** unused = buckets;
    {
      const spin_irq_guard guard(lock_);
      if (old_.buckets == nullptr && (table_.buckets != nullptr) == !first) {  // nobody was faster
        old_ = table_;
        table_ = {buckets, wanted - 1};
        nr_moved_ = 0;
        unused = nullptr;
      }
    }
    kvfree(unused);
    return true;
  }
  /// Moves some entries to the new table. Return: the old one, when it is empty, to be freed.
  node** move_buckets() noexcept KMEM_REQUIRES(lock_) {
    if (old_.buckets == nullptr) return nullptr;
    for (unsigned i = 0; i < moved_buckets && nr_moved_ < old_.size(); ++i) {
      node* n = old_.buckets[nr_moved_++];
      while (n != nullptr) {
        node** const bucket = &table_.buckets[n->hash & table_.mask];
        node* const next = n->next_in_bucket;
        n->next_in_bucket = *bucket;
        *bucket = n;
        n = next;
      }
    }
    if (nr_moved_ < old_.size()) return nullptr;
    return std::exchange(old_, table()).buckets;
  }
  node** bucket_of(uint64_t hash) noexcept KMEM_REQUIRES(lock_) {
    if (old_.buckets != nullptr && (hash & old_.mask) >= nr_moved_) return &old_.buckets[hash & old_.mask];
    return table_.buckets != nullptr ? &table_.buckets[hash & table_.mask] : nullptr;
  }
  /// Return: the pointer that points to the entry; nullptr: there is none.
  node** find(uint64_t hash, const K& key) noexcept KMEM_REQUIRES(lock_) {
    node** link = bucket_of(hash);
    if (link == nullptr) return nullptr;
    while (*link != nullptr && ((*link)->hash != hash || !((*link)->key == key))) link = &(*link)->next_in_bucket;
    return *link != nullptr ? link : nullptr;
  }

  // ---- entries

  void link_used(node& n) noexcept KMEM_REQUIRES(lock_) {
    n.previous = &used_;
    n.next = used_.next;
    used_.next->previous = &n;
    used_.next = &n;
  }
  void unlink_used(node& n) noexcept KMEM_REQUIRES(lock_) {
    n.previous->next = n.next;
    n.next->previous = n.previous;
  }
  /// Takes an entry off. Return: the node, to be destroyed without the lock; nullptr: its last user does that.
  node* take_off(node** link, bool evicted) noexcept KMEM_REQUIRES(lock_) {
    node* const n = *link;
    *link = n->next_in_bucket;
    unlink_used(*n);
    n->linked = false;
    n->evicted = evicted;
    --nr_entries_;
    bytes_ -= n->bytes;
    if (n->users == 0) return n;
    --nr_used_;
    return nullptr;
  }
  node* take_off_oldest() noexcept KMEM_REQUIRES(lock_) {
    auto* const oldest = static_cast<node*>(used_.previous);
    return take_off(find(oldest->hash, oldest->key), true);
  }

  options options_;
  mutable spinlock lock_;
  const pid_t owner_ = getpid();  // the process that made it
  table table_ KMEM_GUARDED_BY(lock_);
  table old_ KMEM_GUARDED_BY(lock_);         // being emptied: buckets below nr_moved_ are
  uint64_t nr_moved_ KMEM_GUARDED_BY(lock_) = 0;
  used_link used_ KMEM_GUARDED_BY(lock_);    // next: used last
  uint64_t nr_entries_ KMEM_GUARDED_BY(lock_) = 0;
  uint64_t nr_used_ KMEM_GUARDED_BY(lock_) = 0;  // entries with handles
  uint64_t bytes_ KMEM_GUARDED_BY(lock_) = 0;
  lru_cache_stats stats_ KMEM_GUARDED_BY(lock_);
  shrinker shrinker_;
  int error_ = 0;
};

}  // namespace kmem
