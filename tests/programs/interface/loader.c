/* A C program that loads a C++ library, twice, and unloads it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int main(int argc, char** argv) {
  /* Whoever serves this program: it must not take all that the system has. */
  const struct rlimit limit = {1u << 30, 1u << 30};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 1;
  for (int round = 0; round < 2; ++round) {
    void* const library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    int (*use_memory)(void) = (int (*)(void))dlsym(library, "use_memory");
    printf("bad_alloc caught %d times\n", use_memory());
    dlclose(library);
  }
  free(malloc(100));
  return 0;
}
