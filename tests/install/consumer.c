/* Uses an installed libkmem; linked by the C driver, since no C++ run time is needed. */
#include <kmem/kmem.h>
#include <stdio.h>

int main(void) {
  char error[200];
  if (!kmem_init("mem=16M", error, sizeof error)) return fprintf(stderr, "%s\n", error), 1;
  void *p = kmem_kmalloc(100, KMEM_GFP_KERNEL);
  if (p == NULL || kmem_ksize(p) < 100) return 2;
  kmem_kfree(p);
  kmem_cache_t *cache = kmem_cache_create("consumer", 40, 0, 0, NULL);
  if (cache == NULL) return 3;
  void *object = kmem_cache_alloc(cache, KMEM_GFP_ATOMIC);
  if (object == NULL) return 4;
  kmem_cache_free(cache, object);
  kmem_cache_destroy(cache);
  puts("served C");
  return 0;
}
