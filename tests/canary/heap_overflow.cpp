// Writes behind a heap block, on purpose: AddressSanitizer must end it.
#include <cstdlib>

int main() {
  auto* block = static_cast<volatile char*>(std::malloc(8));
  block[8] = 1;
  std::free(const_cast<char*>(block));
  return 0;
}
