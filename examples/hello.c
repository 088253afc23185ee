/* The smallest program in C. */
#include <kmem/kmem.h>
#include <stdio.h>

int main(void) {
  char error[200];
  if (!kmem_init("mem=16M", error, sizeof error)) return fprintf(stderr, "%s\n", error), 1;
  char *name = kmem_kstrdup("kmem", KMEM_GFP_KERNEL);  /* may reclaim and sleep */
  void *now = kmem_kmalloc(100, KMEM_GFP_ATOMIC);      /* never sleeps */
  if (name == NULL || now == NULL) return 1;
  printf("hello from %s in C: %zu bytes for 100 asked\n", name, kmem_ksize(now));
  kmem_kfree(now);
  kmem_kfree(name);
  return 0;
}
