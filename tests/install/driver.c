/* Kernel code, compiled against the installed headers for it. */
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/slab.h>

int driver_start(void);

int driver_start(void)
{
  char *buffer = kzalloc(100, GFP_KERNEL);

  if (!buffer)
    return -ENOMEM;
  kfree(buffer);
  return 0;
}
