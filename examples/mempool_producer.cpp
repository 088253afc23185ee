// A producer that has to go on when memory is exhausted: its requests come from a mempool, so that it is slowed down to the pace of what
// comes back, and never fails. Beside it the same work with plain kmalloc, which is refused.
//
// Build: c++ -std=c++20 -Iinclude examples/mempool_producer.cpp build/lib/libkmem.a -lpthread
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include <kmem/kmem.hpp>
#include <kmem/mempool.hpp>

namespace {

constexpr unsigned nr_requests = 20'000, nr_reserved = 16;

struct request {
  unsigned number;
  char text[500];
};

/// What is on its way to the writer.
class queue {
 public:
  void push(request* r) {
    {
      const std::lock_guard<std::mutex> hold(lock_);
      requests_.push_back(r);
    }
    ready_.notify_one();
  }
  request* pop() {
    std::unique_lock<std::mutex> hold(lock_);
    ready_.wait(hold, [this] { return !requests_.empty(); });
    request* const r = requests_.front();
    requests_.pop_front();
    return r;
  }

 private:
  std::mutex lock_;
  std::condition_variable ready_;
  std::deque<request*> requests_;
};

}  // namespace

int main() {
  char error[200];
  if (!kmem::init("mem=8M", error, sizeof error)) return std::fprintf(stderr, "%s\n", error), 1;
  kmem::mempool* const pool = kmem::mempool_create_kmalloc_pool(nr_reserved, sizeof(request));
  if (pool == nullptr) return std::fputs("no memory for the pool\n", stderr), 1;

  // The rest of the budget is gone.
  std::vector<void*> others;
  while (void* const p = kmem::kmalloc(sizeof(request), kmem::gfp::kernel | kmem::gfp::nowarn | kmem::gfp::noretry)) others.push_back(p);

  // NOIO: the writer below is what frees memory, so an allocation on its way must not wait for more writing.
  unsigned refused = 0;
  for (unsigned i = 0; i < 100; ++i) {
    void* const p = kmem::kmalloc(sizeof(request), kmem::gfp::noio | kmem::gfp::nowarn);
    refused += p == nullptr ? 1 : 0;
    kmem::kfree(p);
  }

  queue to_write;
  unsigned written = 0, damaged = 0;
  std::thread writer([&] {
    for (unsigned expected = 0; expected < nr_requests; ++expected) {
      request* const r = to_write.pop();
      char wanted[sizeof r->text];
      std::snprintf(wanted, sizeof wanted, "request %u", expected);
      damaged += r->number != expected || std::strcmp(r->text, wanted) != 0 ? 1 : 0;
      ++written;
      kmem::mempool_free(r, pool);
    }
  });
  unsigned failed = 0;
  for (unsigned i = 0; i < nr_requests; ++i) {
    auto* const r = static_cast<request*>(kmem::mempool_alloc(pool, kmem::gfp::noio));
    if (r == nullptr) {
      ++failed;
      continue;
    }
    r->number = i;
    std::snprintf(r->text, sizeof r->text, "request %u", i);
    to_write.push(r);
  }
  writer.join();
  kmem::mempool_info info;
  kmem::read_mempool_info(pool, info);
  kmem::mempool_destroy(pool);
  for (void* const p : others) kmem::kfree(p);
  std::printf("plain kmalloc: %u of 100 refused; mempool of %u: %u of %u written, %u failed, %u damaged, waited %llu times\n", refused,
              nr_reserved, written, nr_requests, failed, damaged, static_cast<unsigned long long>(info.waits));
  const bool good = written == nr_requests && failed == 0 && damaged == 0;
  std::puts(good ? "the producer survived" : "the producer lost requests");
  return good ? 0 : 1;
}
