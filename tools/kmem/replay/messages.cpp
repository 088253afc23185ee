#include "messages.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <kmem/info.hpp>

namespace kmem::tool::replay {

namespace {

constexpr std::size_t kept_max = 16;
constexpr std::size_t text_max = 240;

struct kept_message {
  std::array<char, text_max> text{};
  std::size_t length = 0;
  std::atomic<bool> ready{false};
};

// The sink is called in any context, also where nothing may be allocated or waited for.
std::array<kept_message, kept_max> kept;
std::atomic<std::uint64_t> nr_warnings{0};
std::atomic<std::uint64_t> nr_errors{0};

void collect(message_level level, const char* text, std::size_t bytes, const void* const*, unsigned) noexcept {
  if (level > message_level::warning) return;
  nr_warnings.fetch_add(1, std::memory_order_relaxed);
  if (level > message_level::err) return;
  const std::uint64_t number = nr_errors.fetch_add(1, std::memory_order_relaxed);
  if (number >= kept_max) return;
  kept_message& to = kept[number];
  const void* const end = std::memchr(text, '\n', bytes);
  to.length = end == nullptr ? bytes : static_cast<std::size_t>(static_cast<const char*>(end) - text);
  to.length = std::min(to.length, text_max);
  std::memcpy(to.text.data(), text, to.length);
  to.ready.store(true, std::memory_order_release);  // pairs: replay_message
}

}  // namespace

message_collector::message_collector() {
  for (kept_message& each : kept) each.ready.store(false, std::memory_order_relaxed);
  nr_warnings.store(0, std::memory_order_relaxed);
  nr_errors.store(0, std::memory_order_relaxed);
  set_message_sink(collect);
}

message_collector::~message_collector() { reset_message_sink(); }

std::uint64_t message_collector::warnings() const { return nr_warnings.load(std::memory_order_relaxed); }
std::uint64_t message_collector::errors() const { return nr_errors.load(std::memory_order_relaxed); }

std::vector<std::string> message_collector::first_errors() const {
  std::vector<std::string> texts;
  for (const kept_message& each : kept) {
    if (each.ready.load(std::memory_order_acquire)) texts.emplace_back(each.text.data(), each.length);  // pairs: replay_message
  }
  return texts;
}

}  // namespace kmem::tool::replay
