/*
 * All headers together, and what they compute.
 */
#include <asm/atomic.h>
#include <asm/bitops.h>
#include <asm/errno.h>
#include <asm/page.h>
#include <asm/param.h>
#include <linux/align.h>
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/bug.h>
#include <linux/cache.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/types.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "check.h"

struct node {
  int value;
  struct list_head list;
  struct hlist_node hash;
};

static void lists(void) {
  LIST_HEAD(a);
  LIST_HEAD(b);
  HLIST_HEAD(chain);
  struct node nodes[5], *n, *next;
  struct hlist_node *after;
  int sum = 0;
  CHECK(list_empty(&a));
  for (int i = 0; i < 5; ++i) {
    nodes[i].value = i;
    list_add_tail(&nodes[i].list, &a);
    hlist_add_head(&nodes[i].hash, &chain);
  }
  list_for_each_entry(n, &a, list) sum = sum * 10 + n->value;
  CHECK(sum == 1234);
  list_for_each_entry_safe(n, next, &a, list)
    if (n->value % 2) list_move(&n->list, &b);
  CHECK(list_first_entry(&b, struct node, list)->value == 3 && list_last_entry(&b, struct node, list)->value == 1);
  list_splice_init(&b, &a);
  CHECK(list_empty(&b));
  sum = 0;
  list_for_each_entry_reverse(n, &a, list) sum = sum * 10 + n->value;
  CHECK(sum == 42013);
  sum = 0;
  hlist_for_each_entry_safe(n, after, &chain, hash) {
    sum = sum * 10 + n->value;
    if (n->value == 3) hlist_del_init(&n->hash);
  }
  CHECK(sum == 43210 && hlist_unhashed(&nodes[3].hash));
  sum = 0;
  hlist_for_each_entry(n, &chain, hash) sum = sum * 10 + n->value;
  CHECK(sum == 4210);
  list_del_init(&nodes[0].list);
  CHECK(list_empty(&nodes[0].list) && !list_is_singular(&a));
}

static void numbers(void) {
  unsigned long bits = 0;
  size_t size;
  atomic_t count = ATOMIC_INIT(3);
  struct flexible {
    int n;
    int items[];
  } *f = NULL;
  int a = 1, b = 2;
  swap(a, b);
  CHECK(a == 2 && min(a, b) == 1 && max(a, b) == 2 && clamp(5, 1, 3) == 3 && min3(3, 1, 2) == 1);
  CHECK(roundup(7, 5) == 10 && rounddown(7, 5) == 5 && round_up(9, 8) == 16 && round_down(9, 8) == 8 && DIV_ROUND_UP(9, 4) == 3);
  CHECK(ALIGN(9, 8) == 16 && IS_ALIGNED(16, 8) && !IS_ALIGNED(9, 8) && PAGE_ALIGN(1ul) == PAGE_SIZE);
  CHECK(ilog2(4096) == 12 && fls(0) == 0 && fls(1) == 1 && is_power_of_2(64) && !is_power_of_2(0) && roundup_pow_of_two(65) == 128);
  CHECK(get_order(1) == 0 && get_order(PAGE_SIZE) == 0 && get_order(PAGE_SIZE + 1) == 1 && get_order(5 * PAGE_SIZE) == 3);
  CHECK(check_mul_overflow(SIZE_MAX, (size_t)2, &size) && array_size(SIZE_MAX, 2) == SIZE_MAX);
  CHECK(struct_size(f, items, 3) == 16 && struct_size(f, items, SIZE_MAX) == SIZE_MAX);
  CHECK(atomic_dec_return(&count) == 2 && atomic_xchg(&count, 1) == 2 && atomic_dec_and_test(&count));
  CHECK(!atomic_inc_not_zero(&count) && atomic_cmpxchg(&count, 0, 9) == 0 && atomic_read(&count) == 9);
  set_bit(3, &bits);
  CHECK(test_and_set_bit(5, &bits) == 0 && test_bit(3, &bits) && bits == (BIT(3) | BIT(5)) && __ffs(bits) == 3);
  CHECK(test_and_clear_bit(3, &bits) && GENMASK(5, 2) == 0x3c && hweight32(0xf0) == 4);
  CHECK(IS_ERR(ERR_PTR(-ENOMEM)) && PTR_ERR(ERR_PTR(-EINVAL)) == -22 && !IS_ERR(&a) && IS_ERR_OR_NULL(NULL));
  CHECK(msecs_to_jiffies(1) == 1 && msecs_to_jiffies(5) == 2 && jiffies_to_msecs(HZ) == 1000);
  CHECK(time_after(1ul, 0ul) && time_after(0ul, ULONG_MAX) && time_before_eq(3ul, 3ul));
  CHECK(U8_MAX == 255 && S32_MIN < 0 && ARRAY_SIZE("abc") == 4);
}

static void texts(void) {
  char text[4];
  CHECK(strscpy(text, "abcdef", sizeof(text)) == -E2BIG && !strcmp(text, "abc"));
  CHECK(strscpy(text, "ab", sizeof(text)) == 2 && strlcpy(text, "abcdef", 2) == 6 && !strcmp(text, "a"));
  memzero_explicit(text, sizeof(text));
  CHECK(!memchr_inv(text, 0, sizeof(text)));
}

static void pages(void) {
  struct page *page = alloc_page(GFP_HIGHUSER), *many[3] = { NULL, NULL, NULL };
  void *p = kmap(page);
  CHECK(p == page_address(page) && offset_in_page(p + 5) == 5);
  set_page_private(page, 77);
  INIT_LIST_HEAD(&page->lru);
  page->index = 5;
  clear_highpage(page);
  kunmap(page);
  p = kmap_atomic(page);
  CHECK(in_atomic());
  kunmap_atomic(p);
  p = kmap_local_page(page);
  CHECK(!in_atomic() && !memchr_inv(p, 0, PAGE_SIZE));
  kunmap_local(p);
  get_page(page);
  CHECK(page_count(page) == 2);
  put_page(page);
  CHECK(page_private(page) == 77 && page->index == 5 && list_empty(&page->lru));
  CHECK(pfn_to_page(page_to_pfn(page)) == page);
  __free_page(page);
  CHECK(alloc_pages_bulk_array(GFP_KERNEL, 3, many) == 3);
  for (int i = 0; i < 3; ++i) __free_page(many[i]);
  page = alloc_pages(GFP_KERNEL, 1);
  split_page(page, 1);
  __free_page(nth_page(page, 1));
  __free_page(page);
  p = alloc_pages_exact(3 * PAGE_SIZE, GFP_KERNEL);
  free_pages_exact(p, 3 * PAGE_SIZE);
  CHECK(!gfpflags_allow_blocking(GFP_ATOMIC) && gfpflags_allow_blocking(GFP_NOIO));
  free_page(get_zeroed_page(GFP_KERNEL));
}

int main(void) {
  void *(*function)(size_t, gfp_t) = kmalloc; /* a function all the same */
  kfree(function(10, GFP_KERNEL));
  lists();
  numbers();
  texts();
  pages();
  udelay(5);
  schedule();
  return 0;
}
