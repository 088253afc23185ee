/* A module is linked into a program, which calls init_module() and cleanup_module() itself. */
#ifndef KMEM_LINUX_MODULE_H
#define KMEM_LINUX_MODULE_H

#include <linux/compiler.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>

struct module;
int init_module(void);
void cleanup_module(void);

#define module_init(function) \
  int init_module(void) { return function(); } \
  _Static_assert(1, "")
#define module_exit(function) \
  void cleanup_module(void) { function(); } \
  _Static_assert(1, "")
#define MODULE_LICENSE(text) _Static_assert(1, text)
#define MODULE_AUTHOR(text) _Static_assert(1, text)
#define MODULE_DESCRIPTION(text) _Static_assert(1, text)
#define MODULE_VERSION(text) _Static_assert(1, text)
#define MODULE_ALIAS(text) _Static_assert(1, text)

#endif
