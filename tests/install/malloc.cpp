// Never names malloc: operator new does. That it is kmem's is seen by the budget, in which there is no GiB.
#include <cstdio>
#include <new>

int main() {
  // Calls of the functions, since a compiler may leave out what new-expressions allocate.
  void* const block = ::operator new(size_t(1) << 20);
  if (::operator new(size_t(1) << 30, std::nothrow) != nullptr) return 1;
  ::operator delete(block);
  std::puts("served malloc");
  return 0;
}
