// Overflows an int, on purpose: UndefinedBehaviorSanitizer must end it.
#include <climits>

int main() {
  const volatile int largest = INT_MAX;
  volatile int sum = largest + 1;
  (void)sum;
  return 0;
}
