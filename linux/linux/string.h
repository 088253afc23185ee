/* Memory and strings. */
#ifndef KMEM_LINUX_STRING_H
#define KMEM_LINUX_STRING_H

#include <kmem/linux_api.h>
#include <linux/errno.h>
#include <linux/types.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *p, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t n);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
int strcasecmp(const char *a, const char *b);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
char *strstr(const char *s, const char *what);
char *strncpy(char *to, const char *from, size_t n);
#define strcpy __builtin_strcpy
#define strcat __builtin_strcat

/* Return: characters copied, or -E2BIG when cut. */
static inline ssize_t strscpy(char *to, const char *from, size_t size) {
  size_t i = 0;
  if (size == 0) return -E2BIG;
  for (; i < size - 1 && from[i]; ++i) to[i] = from[i];
  to[i] = 0;
  return from[i] ? -E2BIG : (ssize_t)i;
}
static inline size_t strlcpy(char *to, const char *from, size_t size) {
  if (size) (void)strscpy(to, from, size);
  return strlen(from);
}
static inline void *memchr_inv(const void *p, int c, size_t n) {
  const unsigned char *bytes = (const unsigned char *)p;
  for (size_t i = 0; i < n; ++i)
    if (bytes[i] != (unsigned char)c) return (void *)(unsigned long)(bytes + i);
  return NULL;
}
/* A clearing that the compiler keeps. */
static inline void memzero_explicit(void *p, size_t n) {
  memset(p, 0, n);
  __asm__ __volatile__("" : : "r"(p) : "memory");
}

static inline void *kmemdup(const void *p, size_t n, gfp_t gfp) { return kmem_kmemdup(p, n, gfp); }
static inline char *kstrdup(const char *s, gfp_t gfp) { return kmem_kstrdup(s, gfp); }
static inline char *kstrndup(const char *s, size_t max, gfp_t gfp) { return kmem_kstrndup(s, max, gfp); }
#define kmemdup(...) KMEM_LINUX_AT((kmemdup)(__VA_ARGS__))
#define kstrdup(...) KMEM_LINUX_AT((kstrdup)(__VA_ARGS__))
#define kstrndup(...) KMEM_LINUX_AT((kstrndup)(__VA_ARGS__))

#endif
