// Never names malloc: operator new does. That it is kmem's is seen by the budget, which ends in bad_alloc.
#include <cstdio>
#include <new>

int main() {
  char* const block = new char[1 << 20];
  char* const huge = new (std::nothrow) char[size_t(1) << 30];
  if (block == nullptr || huge != nullptr) return 1;
  delete[] block;
  std::puts("served malloc");
  return 0;
}
