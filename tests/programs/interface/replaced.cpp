// A program that replaces two operators, as the standard lets it: all others must come to these two.
#include <cstddef>
#include <cstdio>
#include <new>

namespace {
alignas(64) char pool[1 << 16];
size_t pool_used;
int news, deletes, foreign;
}  // namespace

void* operator new(size_t size) {
  ++news;
  char* const p = pool + pool_used;
  pool_used += (size + 63) / 64 * 64;
  if (pool_used > sizeof pool) throw std::bad_alloc();
  return p;
}

void operator delete(void* p) noexcept {
  ++deletes;
  if (p < pool || p >= pool + sizeof pool) ++foreign;
}

int main() {
  ::operator delete(::operator new(10));
  ::operator delete (::operator new(10), size_t{10});
  ::operator delete[](::operator new[](10));
  ::operator delete[](::operator new[](10), size_t{10});
  ::operator delete(::operator new(10, std::nothrow), std::nothrow);
  ::operator delete[](::operator new[](10, std::nothrow), std::nothrow);
  std::printf("%d news, %d deletes, %d of them foreign\n", news, deletes, foreign);
  return news == 6 && deletes == 6 && foreign == 0 ? 0 : 1;
}
