/* Doubly linked lists through members, and hash chains with one pointer in the head. */
#ifndef KMEM_LINUX_LIST_H
#define KMEM_LINUX_LIST_H

#include <linux/container_of.h>
#include <linux/types.h>

#define LIST_HEAD_INIT(name) { &(name), &(name) }
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)

static inline void INIT_LIST_HEAD(struct list_head *list) { list->next = list->prev = list; }
static inline void kmem_list_link_(struct list_head *a, struct list_head *b) {
  a->next = b;
  b->prev = a;
}
static inline void list_add(struct list_head *entry, struct list_head *head) {
  kmem_list_link_(entry, head->next);
  kmem_list_link_(head, entry);
}
static inline void list_add_tail(struct list_head *entry, struct list_head *head) {
  kmem_list_link_(head->prev, entry);
  kmem_list_link_(entry, head);
}
static inline void __list_del_entry(struct list_head *entry) { kmem_list_link_(entry->prev, entry->next); }
static inline void list_del(struct list_head *entry) {
  __list_del_entry(entry);
  entry->next = (struct list_head *)0x100;  /* addresses that fault */
  entry->prev = (struct list_head *)0x122;
}
static inline void list_del_init(struct list_head *entry) {
  __list_del_entry(entry);
  INIT_LIST_HEAD(entry);
}
static inline void list_replace(struct list_head *old, struct list_head *entry) {
  kmem_list_link_(entry, old->next);
  kmem_list_link_(old->prev, entry);
}
static inline void list_move(struct list_head *entry, struct list_head *head) {
  __list_del_entry(entry);
  list_add(entry, head);
}
static inline void list_move_tail(struct list_head *entry, struct list_head *head) {
  __list_del_entry(entry);
  list_add_tail(entry, head);
}
static inline int list_empty(const struct list_head *head) { return head->next == head; }
static inline int list_is_first(const struct list_head *entry, const struct list_head *head) { return entry->prev == head; }
static inline int list_is_last(const struct list_head *entry, const struct list_head *head) { return entry->next == head; }
static inline int list_is_singular(const struct list_head *head) { return !list_empty(head) && head->next == head->prev; }
static inline void list_splice(struct list_head *list, struct list_head *head) {
  if (list_empty(list)) return;
  kmem_list_link_(list->prev, head->next);
  kmem_list_link_(head, list->next);
}
static inline void list_splice_tail(struct list_head *list, struct list_head *head) { list_splice(list, head->prev); }
static inline void list_splice_init(struct list_head *list, struct list_head *head) {
  list_splice(list, head);
  INIT_LIST_HEAD(list);
}
static inline void list_splice_tail_init(struct list_head *list, struct list_head *head) {
  list_splice_tail(list, head);
  INIT_LIST_HEAD(list);
}

#define list_entry(pointer, type, member) container_of(pointer, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_last_entry(head, type, member) list_entry((head)->prev, type, member)
#define list_first_entry_or_null(head, type, member) (list_empty(head) ? NULL : list_first_entry(head, type, member))
#define list_next_entry(entry, member) list_entry((entry)->member.next, __typeof__(*(entry)), member)
#define list_prev_entry(entry, member) list_entry((entry)->member.prev, __typeof__(*(entry)), member)
#define list_for_each(position, head) for (position = (head)->next; position != (head); position = position->next)
#define list_for_each_prev(position, head) for (position = (head)->prev; position != (head); position = position->prev)
#define list_for_each_safe(position, n, head) \
  for (position = (head)->next, n = position->next; position != (head); position = n, n = position->next)
#define list_for_each_entry(position, head, member)                                                        \
  for (position = list_first_entry(head, __typeof__(*position), member); &position->member != (head);      \
       position = list_next_entry(position, member))
#define list_for_each_entry_reverse(position, head, member)                                                \
  for (position = list_last_entry(head, __typeof__(*position), member); &position->member != (head);       \
       position = list_prev_entry(position, member))
#define list_for_each_entry_safe(position, n, head, member)                                                \
  for (position = list_first_entry(head, __typeof__(*position), member), n = list_next_entry(position, member); \
       &position->member != (head); position = n, n = list_next_entry(n, member))

#define HLIST_HEAD_INIT { .first = NULL }
#define HLIST_HEAD(name) struct hlist_head name = HLIST_HEAD_INIT
#define INIT_HLIST_HEAD(head) ((head)->first = NULL)
static inline void INIT_HLIST_NODE(struct hlist_node *node) {
  node->next = NULL;
  node->pprev = NULL;
}
static inline int hlist_unhashed(const struct hlist_node *node) { return !node->pprev; }
static inline int hlist_empty(const struct hlist_head *head) { return !head->first; }
static inline void hlist_add_head(struct hlist_node *node, struct hlist_head *head) {
  node->next = head->first;
  if (node->next) node->next->pprev = &node->next;
  head->first = node;
  node->pprev = &head->first;
}
static inline void hlist_del(struct hlist_node *node) {
  *node->pprev = node->next;
  if (node->next) node->next->pprev = node->pprev;
}
static inline void hlist_del_init(struct hlist_node *node) {
  if (hlist_unhashed(node)) return;
  hlist_del(node);
  INIT_HLIST_NODE(node);
}
#define hlist_entry(pointer, type, member) container_of(pointer, type, member)
#define hlist_entry_safe(pointer, type, member) \
  __extension__({ __typeof__(pointer) kmem_node_ = (pointer); kmem_node_ ? hlist_entry(kmem_node_, type, member) : NULL; })
#define hlist_for_each_entry(position, head, member)                                                       \
  for (position = hlist_entry_safe((head)->first, __typeof__(*position), member); position;                \
       position = hlist_entry_safe(position->member.next, __typeof__(*position), member))
#define hlist_for_each_entry_safe(position, n, head, member)                                               \
  for (position = hlist_entry_safe((head)->first, __typeof__(*position), member);                          \
       position && __extension__({ n = position->member.next; 1; });                                       \
       position = hlist_entry_safe(n, __typeof__(*position), member))

#endif
