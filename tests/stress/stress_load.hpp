// Real threads on one machine: what they allocate, write, hand to each other and free.
#pragma once
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "reclaim/reclaim.hpp"
#include "support/thread_sanitizer.hpp"

namespace kmem::stress {

/// Something a thread holds. Written over its whole length with a pattern that follows from its address and `tag`.
struct piece {
  enum class kind : uint8_t { none, object, pages, cached, area };
  char* begin = nullptr;
  size_t bytes = 0;
  uint64_t tag = 0;
  kind what = kind::none;
  uint8_t order = 0;
};

inline uint64_t word_of(const piece& p, size_t index) {
  return (p.tag ^ reinterpret_cast<uintptr_t>(p.begin)) * 0x9e3779b97f4a7c15u + index;
}

inline void write_pattern(const piece& p) {
  for (size_t i = 0; (i + 1) * 8 <= p.bytes; ++i) {
    const uint64_t word = word_of(p, i);
    std::memcpy(p.begin + i * 8, &word, 8);
  }
}

inline bool is_intact(const piece& p) {
  for (size_t i = 0; (i + 1) * 8 <= p.bytes; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, p.begin + i * 8, 8);
    if (word != word_of(p, i)) return false;
  }
  return true;
}

/// A cache of its own on somebody's machine, and a mailbox of slots through which pieces change threads. Ends with both gone.
class shared_load {
 public:
  explicit shared_load(machine& m) : m_(&m) {
    cache_ = cache_create(*m_, {.name = "stress", .object_size = 136, .flags = slab_flags_t::no_merge});
    EXPECT_NE(cache_, nullptr);
  }
  ~shared_load() {
    empty_mailbox();
    EXPECT_EQ(nr_damaged.load(), 0u) << "contents of memory changed while somebody held it";
    EXPECT_EQ(cache_destroy(*m_, cache_), err::ok);
  }
  shared_load(const shared_load&) = delete;
  shared_load& operator=(const shared_load&) = delete;

  machine& operator*() { return *m_; }
  kmem_cache& cache() { return *cache_; }

  void empty_mailbox() {
    for (auto& slot : mailbox_)
      if (const std::unique_ptr<piece> last{slot.exchange(nullptr)}) give(*last);
  }

  /// Allocates something of a random kind and size and writes it. Return: a piece of kind none when there was no memory.
  piece take(std::minstd_rand& random, gfp_t mask) {
    piece p;
    p.tag = random();
    const unsigned kinds = may_block(mask) ? 4 : 3;
    switch (random() % kinds) {
      case 0:
        p.what = piece::kind::object;
        p.bytes = 1 + random() % (size_t{16} << random() % 12);
        p.begin = static_cast<char*>(kmalloc(*m_, p.bytes, mask));
        break;
      case 1:
        p.what = piece::kind::cached;
        p.bytes = 136;
        p.begin = static_cast<char*>(cache_alloc(*m_, *cache_, mask));
        break;
      case 2:
        p.what = piece::kind::pages;
        p.order = static_cast<uint8_t>(random() % 4);
        p.bytes = page_size << p.order;
        p.begin = static_cast<char*>(get_free_pages(*m_, mask, order_t(p.order)));
        break;
      default:
        p.what = piece::kind::area;
        p.bytes = 1 + random() % 20'000;
        p.begin = static_cast<char*>(p.tag % 2 != 0 ? vmalloc(*m_, p.bytes, mask, nullptr) : kvmalloc(*m_, p.bytes, mask, nullptr));
        break;
    }
    if (p.begin == nullptr) return {};
    write_pattern(p);
    return p;
  }

  void give(const piece& p) {
    if (!is_intact(p)) nr_damaged.fetch_add(1);
    switch (p.what) {
      case piece::kind::none:
        break;
      case piece::kind::object:
        kfree(*m_, p.begin);
        break;
      case piece::kind::cached:
        cache_free(*m_, *cache_, p.begin);
        break;
      case piece::kind::pages:
        free_pages_at(*m_, p.begin, order_t(p.order));
        break;
      case piece::kind::area:
        kvfree(*m_, p.begin);
        break;
    }
  }

  /// Leaves a piece for another thread and frees what somebody left before.
  void exchange(std::minstd_rand& random, const piece& p) {
    const std::unique_ptr<piece> other{mailbox_[random() % mailbox_.size()].exchange(new piece(p))};
    if (other != nullptr) give(*other);
  }

  /// What a thread does until `stop`: it allocates, frees, hands over and now and then drains. It holds up to `most` pieces, or what there
  /// is memory for; then it lets most of them go.
  void work(unsigned seed, size_t most, const std::atomic<bool>& stop) {
    std::minstd_rand random(seed);
    constexpr gfp_t masks[] = {gfp::kernel, gfp::kernel, gfp::atomic, gfp::nowait, gfp::noio, gfp::kernel | gfp::noretry};
    std::vector<piece> held;
    bool grows = true;
    while (!stop.load(std::memory_order_relaxed)) {
      const auto dice = static_cast<unsigned>(random() % 100);
      if (held.empty() || held.size() >= most) grows = held.empty();
      if (dice < (grows ? 70 : 30)) {
        const piece p = take(random, masks[random() % std::size(masks)] | gfp::nowarn);
        if (p.what == piece::kind::none)
          nr_nulls.fetch_add(1), grows = false;
        else
          held.push_back(p);
      } else if (dice < 99 && !held.empty()) {
        const size_t at = random() % held.size();
        const piece p = held[at];
        held[at] = held.back();
        held.pop_back();
        dice < 90 ? give(p) : exchange(random, p);
      } else if (dice == 99) {
        random() % 2 == 0 ? drain_cpu_pages(*m_, true) : drain_caches(*m_, true);
      }
      nr_operations.fetch_add(1, std::memory_order_relaxed);
    }
    for (const piece& p : held) give(p);
  }

  std::atomic<uint64_t> nr_operations{0}, nr_nulls{0}, nr_damaged{0};

 private:
  machine* m_;
  kmem_cache* cache_ = nullptr;
  std::array<std::atomic<piece*>, 32> mailbox_{};
};

/// A machine that says nothing, and ends with silent walks.
class owned_machine {
 public:
  explicit owned_machine(const char* parameters) : machine_(new machine) {
    machine_config config;
    config.cgroup = false;
    config_error error;
    EXPECT_TRUE(parse_config(parameters, config, error)) << error.text;
    before_ = set_printk_sink(nullptr);
    EXPECT_EQ(machine_init(*machine_, config, error), err::ok) << error.text;
  }
  ~owned_machine() {
    kswapd_stop(*machine_);
    page_alloc_totals totals;
    page_alloc_read_totals(*machine_, totals);
    EXPECT_EQ(totals.bad_pages, 0u);
    EXPECT_EQ(machine_->bad_frees.load_relaxed(), 0u);
    const char* const damage = machine_is_valid(*machine_);
    EXPECT_EQ(damage, nullptr) << damage;
    EXPECT_TRUE(machine_destroy(*machine_));
    set_printk_sink(before_);
  }
  owned_machine(const owned_machine&) = delete;
  owned_machine& operator=(const owned_machine&) = delete;

 protected:
  std::unique_ptr<machine> machine_;

 private:
  printk_sink before_ = nullptr;
};

/// A load with a machine of its own.
class shared_machine : owned_machine, public shared_load {
 public:
  explicit shared_machine(const char* parameters) : owned_machine(parameters), shared_load(*machine_) {}
};

/// What a child of a fork does: it is the only thread there is. Return: its exit code.
inline int use_in_child(shared_load& shared, gfp_t mask) {
  std::minstd_rand random(7);
  std::array<piece, 64> held{};
  for (int round = 0; round < 20; ++round) {
    for (piece& p : held) p = shared.take(random, mask);
    for (const piece& p : held)
      if (p.what != piece::kind::none && !is_intact(p)) return 3;
    for (const piece& p : held)
      if (p.what != piece::kind::none) shared.give(p);
    drain_caches(*shared, true);
  }
  return shared.nr_damaged.load() == 0 ? 0 : 4;
}

/// Threads that work until it is destroyed.
class workers {
 public:
  workers(shared_load& shared, unsigned n, size_t most) {
    for (unsigned i = 0; i < n; ++i) threads_.emplace_back([&shared, this, i, most] { shared.work(i + 1, most, stop_); });
  }
  ~workers() {
    stop_.store(true);
    for (std::thread& one : threads_) one.join();
  }
  workers(const workers&) = delete;
  workers& operator=(const workers&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace kmem::stress
