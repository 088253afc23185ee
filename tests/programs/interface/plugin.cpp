// A C++ library that a C program loads where nobody else sees its C++ run time: bad_alloc is thrown and caught in here.
#include <new>
#include <string>

extern "C" int use_memory() {
  int caught = 0;
  void* first = nullptr;
  try {
    for (;;) {
      void* const p = ::operator new(50000);
      *static_cast<void**>(p) = first;
      first = p;
    }
  } catch (const std::bad_alloc&) {
    ++caught;
  }
  try {
    const std::string text(size_t{1} << 50, 'x');
    caught += text[0] == 'x' ? 100 : 200;
  } catch (const std::bad_alloc&) {
    ++caught;
  }
  while (first != nullptr) {
    void* const next = *static_cast<void**>(first);
    ::operator delete(first);
    first = next;
  }
  return caught;
}
