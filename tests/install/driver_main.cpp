#include <cstdio>

extern "C" int driver_start(void);

int main() {
  if (driver_start() != 0) return 1;
  std::puts("served Linux");
  return 0;
}
