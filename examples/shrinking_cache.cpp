// A cache that becomes smaller instead of the program running out of memory.
//
// The program computes results of 256 KiB and keeps them in case they are asked for again. Its budget is 16 MiB: far too little for all of
// them. The cache registers a reclaim callback, so when an allocation finds no memory it drops its oldest results, and the allocation
// succeeds. Without the callback the program would get nullptr after about 60 results.
#include <kmem/kmem.hpp>
#include <kmem/reclaim.hpp>

#include <cstdio>
#include <cstring>

namespace {

constexpr size_t result_bytes = 256 * 1024;
constexpr int nr_results = 400;

class result_cache {
 public:
  result_cache() : number_(kmem::register_reclaim({this, drop_oldest, kmem::gfp::none})) {}
  ~result_cache() {
    kmem::unregister_reclaim(number_);
    while (oldest_ < newest_) kmem::kvfree(results_[oldest_++]);
  }
  result_cache(const result_cache&) = delete;
  result_cache& operator=(const result_cache&) = delete;

  /// Return: false if there was no memory, even after all old results were dropped.
  bool add(int value) {
    void* const result = kmem::kvmalloc(result_bytes, kmem::gfp::kernel);  // may call drop_oldest
    if (result == nullptr) return false;
    std::memset(result, value, result_bytes);
    results_[newest_++] = result;
    return true;
  }
  int kept() const { return newest_ - oldest_; }
  int dropped() const { return oldest_; }

 private:
  static uint64_t drop_oldest(void* context, kmem::gfp_t, uint64_t nr_pages) noexcept {
    auto& cache = *static_cast<result_cache*>(context);
    uint64_t freed = 0;
    while (freed < nr_pages && cache.oldest_ < cache.newest_) {
      kmem::kvfree(cache.results_[cache.oldest_++]);
      freed += result_bytes / kmem::page_bytes;
    }
    return freed;
  }

  void* results_[nr_results] = {};
  int oldest_ = 0, newest_ = 0;
  int number_;
};

}  // namespace

int main() {
  char error[200];
  if (!kmem::init("mem=16M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  static result_cache cache;
  for (int i = 0; i < nr_results; ++i)
    if (!cache.add(i)) return std::fprintf(stderr, "no memory for result %d\n", i), 1;
  std::printf("%d results of 256 KiB in a budget of 16 MiB: %d kept, %d dropped when memory was short, none refused\n", nr_results,
              cache.kept(), cache.dropped());
  return cache.dropped() > 0 && cache.kept() > 0 ? 0 : 1;
}
