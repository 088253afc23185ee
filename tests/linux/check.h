/* What the programs of this folder share. They have no C library headers. */
#ifndef CHECK_H
#define CHECK_H
#include <linux/kernel.h>
#include <linux/sched.h>

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) panic("%s:%d: CHECK(%s) failed", __FILE__, __LINE__, #condition); \
  } while (0)

/* From the C library. */
int pthread_create(unsigned long *thread, const void *attributes, void *(*body)(void *), void *argument);
int pthread_join(unsigned long thread, void **result);
unsigned long pthread_self(void);
int pthread_kill(unsigned long thread, int signal);
int raise(int signal);
int fork(void);
int waitpid(int child, int *status, int options);
void _exit(int status);

#define WAIT_UNTIL(condition) \
  while (!(condition)) yield()

#endif
