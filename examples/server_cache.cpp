// A server that keeps what it has rendered, and becomes slower instead of failing when memory runs short.
//
// Four threads answer requests for pages, a few of which are asked for most of the time. A page takes 16 KiB, there are four times more
// than the budget of 24 MiB holds, and while the server works a report is made that needs half of the budget itself. The pages are in a
// kmem::lru_cache without any limit of its own: whenever an allocation finds no memory, the pages that were asked for longest ago go.
//
// Build: c++ -std=c++20 -Iinclude examples/server_cache.cpp build/lib/libkmem.a -lpthread
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include <kmem/kmem.hpp>
#include <kmem/lru_cache.hpp>

namespace {

constexpr unsigned nr_pages = 6144, nr_threads = 4, requests_each = 30'000;
constexpr size_t page_size = 16 * 1024, report_part = 128 * 1024, report_parts = 96;

/// A rendered page, in memory of the allocator's.
class rendered {
 public:
  explicit rendered(unsigned number) noexcept : text_(static_cast<char*>(kmem::kmalloc(page_size, kmem::gfp::kernel))) {
    if (text_ == nullptr) return;
    std::memset(text_, 'a' + static_cast<int>(number % 26), page_size);
    std::snprintf(text_, page_size, "page %u", number);
  }
  rendered(rendered&& other) noexcept : text_(other.text_) { other.text_ = nullptr; }
  ~rendered() { kmem::kfree(text_); }
  rendered(const rendered&) = delete;
  rendered& operator=(const rendered&) = delete;
  const char* text() const noexcept { return text_; }

 private:
  char* text_;
};
using page_cache = kmem::lru_cache<unsigned, rendered>;

page_cache::options weighed() noexcept {
  page_cache::options options;
  options.name = "pages";
  options.weigh = [](const unsigned&, const rendered&) noexcept { return page_size; };
  return options;
}

struct counts {
  std::atomic<unsigned> served{0}, wrong{0}, refused{0};
};

bool is_right(const char* text, unsigned number) {
  char wanted[32];
  std::snprintf(wanted, sizeof wanted, "page %u", number);
  return std::strcmp(text, wanted) == 0;
}

void serve(page_cache& pages, counts& all, unsigned seed) {
  uint64_t x = seed;
  for (unsigned i = 0; i < requests_each; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    // Of eight requests seven are for an eighth of the pages.
    const auto draw = static_cast<unsigned>(x >> 33);
    const unsigned number = draw % 8 != 0 ? draw / 8 % (nr_pages / 8) : draw / 8 % nr_pages;
    if (const auto hit = pages.get(number)) {
      ++(is_right(hit->text(), number) ? all.served : all.wrong);
      continue;
    }
    rendered page(number);
    if (page.text() == nullptr) {
      ++all.refused;
      continue;
    }
    ++(is_right(page.text(), number) ? all.served : all.wrong);
    if (!pages.put(number, std::move(page))) ++all.refused;
  }
}

}  // namespace

int main() {
  char error[200];
  if (!kmem::init("mem=24M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  counts all;
  unsigned report_refused = 0;
  kmem::lru_cache_stats stats;
  {
    page_cache pages(weighed());
    if (!pages) return std::fprintf(stderr, "the cache cannot be told to shrink: error %d\n", pages.error()), 1;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < nr_threads; ++t) threads.emplace_back([&, t] { serve(pages, all, t + 1); });
    while (all.served < nr_threads * requests_each / 3) std::this_thread::yield();
    const uint64_t before = pages.bytes();
    std::vector<void*> report;
    for (unsigned i = 0; i < report_parts; ++i) {
      void* const part = kmem::kmalloc(report_part, kmem::gfp::kernel);
      if (part != nullptr)
        report.push_back(part);
      else
        ++report_refused;
    }
    std::printf("pages take %llu KiB; with the report there %llu KiB\n", static_cast<unsigned long long>(before >> 10),
                static_cast<unsigned long long>(pages.bytes() >> 10));
    for (void* const part : report) kmem::kfree(part);
    for (std::thread& thread : threads) thread.join();
    stats = pages.stats();
  }
  const unsigned requests = nr_threads * requests_each;
  std::printf("%u of %u requests served, %llu %% from the cache; %llu pages went; %u wrong, %u and %u of the report refused\n",
              all.served.load(), requests, static_cast<unsigned long long>(stats.hits * 100 / requests),
              static_cast<unsigned long long>(stats.shrunk), all.wrong.load(), all.refused.load(), report_refused);
  const bool good = all.served == requests && all.wrong == 0 && all.refused == 0 && report_refused == 0;
  std::puts(good ? "the server survived" : "the server failed");
  return good ? 0 : 1;
}
